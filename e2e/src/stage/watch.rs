//! What a scenario waits for: that readers read, that events come.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use serde_json::Value;

use super::{SMALL, Stage};
use crate::events::{self, Reason};
use crate::pods::{self, Life};
use crate::reader::Reader;
use crate::wait::{Look, Wait};

impl Stage {
    /// Starts a reader and waits until it has read everything.
    pub(crate) async fn reads(&self, reader: &Reader) -> Result<Pod> {
        self.reads_within(reader, SMALL).await
    }

    /// The same with another limit.
    pub(crate) async fn reads_within(&self, reader: &Reader, limit: Duration) -> Result<Pod> {
        let pod = self.start(reader).await?;
        self.succeeds(reader.name(), limit).await?;
        Ok(pod)
    }

    /// Waits until a reader has ended well; the last lines of its log are part of what is told otherwise.
    pub(crate) async fn succeeds(&self, reader: &str, limit: Duration) -> Result<()> {
        let (pods, name) = (self.api::<Pod>(), self.name(reader));
        Wait::new(format!("the reader {name} has read the whole volume"), limit)
            .until(async || {
                let pod = pods.get(&name).await?;
                self.explained(&pod, pods::succeeded(&pod)).await
            })
            .await?;
        Ok(())
    }

    /// Waits until a reader that holds on has read the volume as often, and returns how often it has.
    pub(crate) async fn rounds(&self, reader: &str, at_least: u64) -> Result<u64> {
        let (pods, name) = (self.api::<Pod>(), self.name(reader));
        let rounds = Wait::new(format!("the reader {name} has read the volume {at_least} times"), SMALL)
            .until(async || {
                let pod = pods.get(&name).await?;
                match self.explained(&pod, pods::ready(&pod)).await? {
                    Look::Never(why) => return Ok(Look::Never(why)),
                    Look::NotYet(seen) if pods::is_pending(&pod) => return Ok(Look::NotYet(seen)),
                    Look::NotYet(_) | Look::Found(()) => {}
                }
                let line = self.last_line(&name).await;
                let round = serde_json::from_str::<Value>(&line).ok().and_then(|line| line["round"].as_u64());
                Ok(match round {
                    Some(round) if round >= at_least => Look::Found(round),
                    Some(round) => Look::NotYet(format!("{round} times")),
                    None => Look::NotYet(pods::state(&pod)),
                })
            })
            .await?;
        Ok(rounds)
    }

    /// The life of a reader that runs.
    pub(crate) async fn life(&self, reader: &str) -> Result<Life> {
        let pod = self.api::<Pod>().get(&self.name(reader)).await?;
        Life::of(&pod).with_context(|| format!("the reader does not run: {}", pods::state(&pod)))
    }

    /// Adds the end of the log to a failure, and ends a wait that an event of ours says is in vain.
    pub(crate) async fn explained(&self, pod: &Pod, look: Look<()>) -> Result<Look<()>> {
        match look {
            Look::Found(()) => Ok(Look::Found(())),
            Look::NotYet(seen) if pods::is_pending(pod) => {
                let events = self.events(pod).await?;
                Ok(events::fatal(&events, None).map_or(Look::NotYet(seen), Look::Never))
            }
            Look::NotYet(seen) => Ok(Look::NotYet(seen)),
            Look::Never(state) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                Ok(Look::Never(format!("{state}; its log ends with: {}", self.last_line(name).await)))
            }
        }
    }

    async fn last_line(&self, pod: &str) -> String {
        let wanted = LogParams { tail_lines: Some(1), ..LogParams::default() };
        match self.api::<Pod>().logs(pod, &wanted).await {
            Ok(log) => log.trim().to_owned(),
            Err(error) => format!("(no log: {error})"),
        }
    }

    /// Waits for an event about the pod whose message has all the words.
    pub(crate) async fn event(&self, pod: &Pod, reason: Reason, words: &[&str]) -> Result<Event> {
        self.event_within(pod, reason, words, SMALL).await
    }

    /// The same with another limit.
    pub(crate) async fn event_within(
        &self,
        pod: &Pod,
        reason: Reason,
        words: &[&str],
        limit: Duration,
    ) -> Result<Event> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let what = format!("an event {} of {name} with {words:?}", reason.as_str());
        let event = Wait::new(what, limit)
            .until(async || {
                let events = self.events(pod).await?;
                if let Some(event) = events::matching(&events, reason, words) {
                    return Ok(Look::Found(event.clone()));
                }
                let seen = || Look::NotYet(events::seen(&events));
                Ok(events::fatal(&events, Some(reason)).map_or_else(seen, Look::Never))
            })
            .await?;
        Ok(event)
    }

    /// Waits until the same was refused at least twice, and the pod was pending all the while.
    pub(crate) async fn stays_refused(&self, pod: &Pod, reason: Reason, words: &[&str]) -> Result<()> {
        let (pods, name) = (self.api::<Pod>(), pod.metadata.name.as_deref().unwrap_or_default());
        Wait::new(format!("{name} is refused twice with {}", reason.as_str()), SMALL)
            .until(async || {
                let now = pods.get(name).await?;
                if !pods::is_pending(&now) {
                    return Ok(Look::Never(pods::state(&now)));
                }
                let events = self.events(pod).await?;
                let times = events::matching(&events, reason, words).and_then(|event| event.count);
                Ok(match times.unwrap_or(0) {
                    2.. => Look::Found(()),
                    few => Look::NotYet(format!("{few} times")),
                })
            })
            .await?;
        Ok(())
    }

    /// All events about a pod.
    pub(crate) async fn events(&self, pod: &Pod) -> Result<Vec<Event>> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        Ok(self.api::<Event>().list(&about).await?.items)
    }
}
