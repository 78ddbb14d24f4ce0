//! A download that takes longer than kubelet waits.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;

use super::Scenario;
use crate::events::{self, Reason};
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;
use crate::wait::{Look, Wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-download",
    shows: "an artifact of 2 GiB that takes longer than kubelet's two minutes is mounted, with progress in events",
    play: |stage| play(stage).boxed_local(),
};

const LIMIT: Duration = Duration::from_mins(20);

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/large")?;
    let large = sample.largest()?;
    let node = stage.node().await?;
    let pod = stage.start(&Reader::inline("patient", &sample.reference).expects(&sample).on(&node)).await?;
    stage.event(&pod, Reason::Progress, &["%"]).await?;
    timed_out(stage, &pod).await?;
    stage.event_within(&pod, Reason::Mounted, &[&sample.digest], LIMIT).await?;
    stage.succeeds("patient", LIMIT).await?;
    let served = stage.registry.bytes_served("samples/large", &large.digest).await?;
    ensure!(
        served < large.size + large.size / 8,
        "the registry sent {served} bytes of a file of {} bytes: a time-out of kubelet began the download anew",
        large.size
    );
    Ok(Verdict::Passed)
}

/// Waits until kubelet says that its time is over while the download runs.
async fn timed_out(stage: &Stage, pod: &Pod) -> Result<()> {
    Wait::new("kubelet says that its call took too long", LIMIT)
        .until(async || {
            let events = stage.events(pod).await?;
            let words = ["DeadlineExceeded", "still being pulled"];
            if events::of_kubelet(&events, "FailedMount", &words).is_some() {
                return Ok(Look::Found(()));
            }
            if events::matching(&events, Reason::Mounted, &[]).is_some() {
                let why = "the download was over before: raise the number of bytes or lower the rate";
                return Ok(Look::Never(why.into()));
            }
            let seen = || Look::NotYet(events::seen(&events));
            Ok(events::fatal(&events, None).map_or_else(seen, Look::Never))
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api_server::{ApiServer, list};
    use crate::stage::tests::stage;

    fn event(component: &str, reason: &str, message: &str) -> Value {
        json!({
            "metadata": { "name": "e" }, "involvedObject": {}, "source": { "component": component },
            "reason": reason, "message": message,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_out_is_kubelets_own_word_and_a_mount_or_a_full_disk_ends_the_wait() {
        let progress = event("stowage", "ArtifactProgress", "12 %");
        for (then, end) in [
            (event("kubelet", "FailedMount", "rpc error: code = DeadlineExceeded desc = x"), None),
            (event("stowage", "ArtifactMounted", "mounted"), Some("lower the rate")),
            (event("stowage", "ArtifactNoSpace", "2 GiB are needed"), Some("2 GiB are needed")),
        ] {
            let server = ApiServer::new();
            let stage = stage(&server);
            let pod: Pod =
                serde_json::from_value(json!({ "metadata": { "name": "p", "uid": "u" } })).unwrap();
            let (waited, ()) = tokio::join!(timed_out(&stage, &pod), async {
                for events in [vec![progress.clone()], vec![progress.clone(), then]] {
                    let call = server.expect("GET", "/api/v1/namespaces/ns/events").await;
                    call.answer(200, &list("EventList", &events));
                }
            });
            let error = waited.err().map(|error| error.to_string());
            assert_eq!(error.is_some(), end.is_some(), "{error:?}");
            assert!(end.is_none_or(|end| error.as_ref().unwrap().ends_with(end)), "{error:?}");
            server.nothing_more();
        }
    }
}
