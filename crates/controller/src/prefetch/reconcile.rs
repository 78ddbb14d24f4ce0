//! One step: from an object and the cluster as they are to a DaemonSet and a status. It can be repeated at any time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource as _};
use stowage_artifact::VolumeAttributes;
use stowage_telemetry::ControllerMetrics;

use super::daemon_set::{self, Pin};
use super::resolution::{self, Question, Resolution};
use super::status::{self, CACHED, RESOLVED, Verdict};
use super::{MANAGER, PrefetchOptions, nodes, notes};
use crate::crd::{CachedArtifact, CachedArtifactStatus};
use crate::names::daemon_set as daemon_set_name;

/// Until a registry that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_mins(1);
/// Until nodes that do not have it yet are looked at again; their events wake nobody.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// The longest time between two looks.
const SELDOM: Duration = Duration::from_mins(10);
/// How long one step may take, the registry's answer included.
const STEP: Duration = Duration::from_mins(2);
/// Warnings that are read of one namespace.
const MOST_EVENTS: u32 = 1000;

/// The API server did not do what a step needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("cannot {doing} of {object}: {source}; tried again in a moment")]
    Api {
        doing: &'static str,
        object: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("a step for {object} took longer than {} s; tried again in a moment", STEP.as_secs())]
    TooSlow { object: String },
}

/// What every step needs.
pub(crate) struct Context {
    pub(crate) options: PrefetchOptions,
    pub(crate) metrics: ControllerMetrics,
}

/// One step, counted.
pub(crate) async fn reconcile(
    artifact: Arc<CachedArtifact>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let step = Step { artifact: &artifact, options: &context.options, now: Timestamp::now() };
    let result = tokio::time::timeout(STEP, step.run())
        .await
        .unwrap_or_else(|_| Err(ReconcileError::TooSlow { object: step.object() }));
    let word = if result.is_ok() { "ok" } else { "error" };
    context.metrics.reconcile(word, started.elapsed());
    result
}

struct Step<'a> {
    artifact: &'a CachedArtifact,
    options: &'a PrefetchOptions,
    now: Timestamp,
}

impl Step<'_> {
    async fn run(&self) -> Result<Action, ReconcileError> {
        // What the object owns goes with it.
        if self.artifact.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let mut status = self.artifact.status.clone().unwrap_or_default();
        let spec = &self.artifact.spec;
        let parsed = VolumeAttributes::parse(&spec.volume_attributes).map_err(|error| error.to_string());
        let parsed = parsed.and_then(|attributes| {
            spec.interval().map(|interval| (attributes, interval)).map_err(|error| error.to_string())
        });
        let (attributes, interval) = match parsed {
            Ok(parsed) => parsed,
            Err(sentence) => {
                self.set(&mut status, RESOLVED, Verdict::no("InvalidSpec", sentence));
                self.finish(status).await?;
                return Ok(Action::await_change());
            }
        };
        let resolved = self.resolve(&mut status, &attributes, interval).await?;
        let pin = status.resolved_reference.clone().zip(status.resolved_digest.clone());
        let everywhere = if let Some((reference, digest)) = pin {
            self.place(&mut status, &attributes, &Pin { reference, digest }).await?
        } else {
            self.set(&mut status, CACHED, Verdict::no("NotResolved", "there is no digest to fetch yet"));
            false
        };
        let due = resolution::until_due(&status, &attributes.reference, interval, self.now);
        self.finish(status).await?;
        let next = match (resolved, everywhere) {
            (false, _) => ASK_AGAIN,
            (true, false) => LOOK_AGAIN,
            (true, true) => SELDOM,
        };
        Ok(Action::requeue(due.map_or(next, |due| next.min(due.max(Duration::from_secs(1))))))
    }

    /// Brings the pin in the status up to date; `false` where the registry has to be asked again soon.
    async fn resolve(
        &self,
        status: &mut CachedArtifactStatus,
        attributes: &VolumeAttributes,
        interval: Option<Duration>,
    ) -> Result<bool, ReconcileError> {
        let question = resolution::question(self.artifact, &attributes.reference, interval, self.now);
        let answer = match &question {
            Question::None => Ok(Resolution::Kept),
            Question::Digest => resolution::resolve(self.artifact, attributes, self.options).await,
            Question::Size(pinned) => {
                let attributes = VolumeAttributes { reference: pinned.clone(), ..attributes.clone() };
                resolution::resolve(self.artifact, &attributes, self.options).await
            }
        };
        match answer.map_err(self.failed("read the pull secret"))? {
            Resolution::Kept => Ok(true),
            Resolution::Found { pin, size, verdict } => {
                status.size_bytes = size.and_then(|size| i64::try_from(size).ok());
                if question == Question::Digest {
                    status.requested_reference = Some(attributes.reference.to_string());
                    status.resolved_reference = Some(pin.reference);
                    status.resolved_digest = Some(pin.digest);
                    status.resolved_at = Some(Time(self.now));
                    self.set(status, RESOLVED, verdict);
                }
                Ok(true)
            }
            // The digest stands, and asking for it again could move it.
            Resolution::Failed(verdict) if matches!(question, Question::Size(_)) => {
                tracing::info!(object = self.object(), message = verdict.message, "the size is not known");
                status.size_bytes = None;
                Ok(true)
            }
            Resolution::Failed(mut verdict) => {
                if let Some(digest) = &status.resolved_digest {
                    verdict.message = format!("{}; nodes keep {digest}", verdict.message);
                }
                self.set(status, RESOLVED, verdict);
                Ok(false)
            }
        }
    }

    /// Applies the DaemonSet and reads what became of it; `true` where every node has the artifact.
    async fn place(
        &self,
        status: &mut CachedArtifactStatus,
        attributes: &VolumeAttributes,
        pin: &Pin,
    ) -> Result<bool, ReconcileError> {
        let namespace = self.artifact.metadata.namespace.as_deref().unwrap_or_default();
        let name = daemon_set_name(self.artifact.metadata.name.as_deref().unwrap_or_default());
        let sets: Api<DaemonSet> = Api::namespaced(self.options.client.clone(), namespace);
        let there = sets.get_opt(&name).await.map_err(self.failed("read the DaemonSet"))?;
        if there.is_some_and(|set| !self.owns(&set)) {
            let message = format!("there is a DaemonSet {name} that belongs to something else; remove it");
            self.set(status, CACHED, Verdict::no("NameTaken", message));
            return Ok(false);
        }
        let wanted = daemon_set::wanted(self.artifact, attributes, pin, self.options);
        let apply = PatchParams::apply(MANAGER).force();
        let set = sets
            .patch(&name, &apply, &Patch::Apply(&wanted))
            .await
            .map_err(self.failed("apply the DaemonSet"))?;
        let pods = self.pods(namespace).await?;
        let waiting = nodes::waiting(&pods, &pin.digest);
        let (failed, failures) =
            if waiting.is_empty() { (0, Vec::new()) } else { self.failures(namespace, &waiting).await? };
        status.nodes = nodes::numbers(&set, &pods, &pin.digest, failed);
        status.failures = failures;
        let verdict = status::cached(status.nodes, nodes::is_observed(&set));
        let everywhere = verdict.holds;
        self.set(status, CACHED, verdict);
        Ok(everywhere)
    }

    fn owns(&self, set: &DaemonSet) -> bool {
        let owners = set.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| Some(&owner.uid) == self.artifact.metadata.uid.as_ref())
    }

    async fn pods(&self, namespace: &str) -> Result<Vec<Pod>, ReconcileError> {
        let pods: Api<Pod> = Api::namespaced(self.options.client.clone(), namespace);
        let labels = daemon_set::selector(self.artifact.metadata.name.as_deref().unwrap_or_default());
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let list = pods.list(&ListParams::default().labels(&labels.join(","))).await;
        Ok(list.map_err(self.failed("list the pods"))?.items)
    }

    async fn failures(
        &self,
        namespace: &str,
        waiting: &BTreeMap<String, String>,
    ) -> Result<(i32, Vec<crate::crd::Failure>), ReconcileError> {
        let events: Api<Event> = Api::namespaced(self.options.client.clone(), namespace);
        let warnings =
            ListParams::default().fields("involvedObject.kind=Pod,type=Warning").limit(MOST_EVENTS);
        let list = events.list(&warnings).await.map_err(self.failed("list the events"))?;
        Ok(nodes::failures(waiting, &list.items))
    }

    fn set(&self, status: &mut CachedArtifactStatus, kind: &str, verdict: Verdict) {
        status::set(status, kind, verdict, self.artifact.metadata.generation, self.now);
    }

    /// Writes the status where it has changed, and the events of what has changed in it.
    async fn finish(&self, mut status: CachedArtifactStatus) -> Result<(), ReconcileError> {
        let before = self.artifact.status.clone().unwrap_or_default();
        status.observed_generation = self.artifact.metadata.generation;
        if status == before {
            return Ok(());
        }
        let namespace = self.artifact.metadata.namespace.as_deref().unwrap_or_default();
        let name = self.artifact.metadata.name.as_deref().unwrap_or_default();
        let artifacts: Api<CachedArtifact> = Api::namespaced(self.options.client.clone(), namespace);
        let patch = serde_json::json!({
            "apiVersion": CachedArtifact::api_version(&()),
            "kind": CachedArtifact::kind(&()),
            "metadata": { "name": name },
            "status": status,
        });
        let apply = PatchParams::apply(MANAGER).force();
        match artifacts.patch_status(name, &apply, &Patch::Apply(&patch)).await {
            Ok(_) => {}
            // Deleted meanwhile.
            Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
            Err(error) => return Err(self.failed("write the status")(error)),
        }
        for condition in notes::changes(&before, &status) {
            tracing::info!(
                namespace,
                name,
                condition = condition.type_,
                status = condition.status,
                reason = condition.reason,
                message = condition.message,
                "a CachedArtifact has changed"
            );
            notes::write(&self.options.client, self.artifact, condition, self.now).await;
        }
        Ok(())
    }

    /// `namespace/name`, for messages.
    fn object(&self) -> String {
        let meta = &self.artifact.metadata;
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(kube::Error) -> ReconcileError + use<> {
        let object = self.object();
        move |source| ReconcileError::Api { doing, object, source: Box::new(source) }
    }
}

#[cfg(test)]
mod tests;
