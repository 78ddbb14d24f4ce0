//! One step: from an object and the cluster as they are to a DaemonSet and a status. It can be repeated at any time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Api, Resource as _};
use stowage_artifact::{Digest, Reference, VolumeAttributes};
use stowage_telemetry::ControllerMetrics;

use super::daemon_set::Pin;
use super::pauses::Pauses;
use super::placing::Placed;
use super::resolution::{self, Question, Resolution};
use super::slots::Slots;
use super::status::{self, CACHED, RESOLVED, Verdict};
use super::{MANAGER, PrefetchOptions, notes};
use crate::crd::{CachedArtifact, CachedArtifactStatus};
use crate::resolve;

/// Until a registry that had no answer is asked again: the first time, and at most.
const ASK_AGAIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_mins(5)];
/// Until nodes that do not have it yet are looked at again; their events wake nobody.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_secs(15), Duration::from_mins(2)];
/// The longest time between two looks.
const SELDOM: Duration = Duration::from_mins(10);
/// Until something that is over in a moment is looked at again.
const SOON: Duration = Duration::from_secs(3);
/// How long one step may take, the registry's answer included.
const STEP: Duration = Duration::from_mins(2);
/// How long a registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

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
    #[error("the pods of {object} are not watched yet; tried again in a moment")]
    NoPods { object: String },
    #[error("a step for {object} took longer than {} s; tried again in a moment", STEP.as_secs())]
    TooSlow { object: String },
}

/// What every step needs.
pub(crate) struct Context {
    pub(crate) options: PrefetchOptions,
    pub(crate) metrics: ControllerMetrics,
    /// All pods that hold artifacts.
    pub(crate) pods: Store<Pod>,
    /// Objects whose registry had no answer, with what was told of it.
    questions: Pauses<Verdict>,
    /// Objects that some node does not have yet.
    looks: Pauses<()>,
    slots: Slots,
    patience: Duration,
}

impl Context {
    /// What the first step needs.
    pub(crate) fn new(options: PrefetchOptions, metrics: ControllerMetrics, pods: Store<Pod>) -> Self {
        let ([first, longest], [look, seldom]) = (ASK_AGAIN, LOOK_AGAIN);
        let (questions, looks) = (Pauses::new(first, longest), Pauses::new(look, seldom));
        Self { options, metrics, pods, questions, looks, slots: Slots::default(), patience: PATIENCE }
    }
}

/// One step, counted.
pub(crate) async fn reconcile(
    artifact: Arc<CachedArtifact>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let step = Step { artifact: &artifact, context: &context, now: Timestamp::now() };
    let result = tokio::time::timeout(STEP, step.run())
        .await
        .unwrap_or_else(|_| Err(ReconcileError::TooSlow { object: step.object() }));
    let word = if result.is_ok() { "ok" } else { "error" };
    context.metrics.reconcile(word, started.elapsed());
    result
}

pub(super) struct Step<'a> {
    pub(super) artifact: &'a CachedArtifact,
    pub(super) context: &'a Context,
    now: Timestamp,
}

/// What the registry has said for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Settled,
    /// Nothing; it is asked again after this time.
    Later(Duration),
    /// It was not asked: others of the namespace are before us.
    Busy,
}

impl Step<'_> {
    async fn run(&self) -> Result<Action, ReconcileError> {
        // What the object owns goes with it.
        if self.artifact.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let mut status = self.artifact.status.clone().unwrap_or_default();
        let (attributes, interval) = match self.parse() {
            Ok(parsed) => parsed,
            Err(sentence) => {
                self.set(&mut status, RESOLVED, Verdict::no("InvalidSpec", sentence));
                let message = "the spec cannot be read, so nothing is changed on the nodes";
                self.set(&mut status, CACHED, Verdict::no("NotResolved", message));
                self.finish(status, Answer::Settled).await?;
                return Ok(Action::await_change());
            }
        };
        let answer = self.resolve(&mut status, &attributes, interval).await?;
        let placed = match pin(&status) {
            Some(pin) => self.place(&mut status, &attributes, &pin).await?,
            None if answer == Answer::Busy => return Ok(Action::requeue(SOON)),
            None => {
                self.set(&mut status, CACHED, Verdict::no("NotResolved", "there is no digest to fetch yet"));
                Placed::Everywhere
            }
        };
        let due = resolution::until_due(&status, &attributes.reference, interval, self.now);
        let changed = self.finish(status, answer).await?;
        let ask = match answer {
            Answer::Settled => due.unwrap_or(SELDOM).max(Duration::from_secs(1)),
            Answer::Later(pause) => pause,
            Answer::Busy => SOON,
        };
        Ok(Action::requeue(self.next_look(placed, changed).min(ask)))
    }

    fn parse(&self) -> Result<(VolumeAttributes, Option<Duration>), String> {
        let spec = &self.artifact.spec;
        let attributes =
            VolumeAttributes::parse(&spec.volume_attributes).map_err(|error| error.to_string())?;
        Ok((attributes, spec.interval().map_err(|error| error.to_string())?))
    }

    /// Until the nodes are looked at again: less and less often while nothing changes.
    fn next_look(&self, placed: Placed, changed: bool) -> Duration {
        let (looks, object) = (&self.context.looks, &self.artifact.metadata);
        if changed || placed != Placed::Waiting {
            looks.end(object);
        }
        match placed {
            Placed::Everywhere => SELDOM,
            Placed::Soon => SOON,
            Placed::Waiting => looks.next(object, (), Duration::ZERO, Duration::MAX),
        }
    }

    /// Brings the pin in the status up to date, so far as the registry may be asked and answers.
    async fn resolve(
        &self,
        status: &mut CachedArtifactStatus,
        attributes: &VolumeAttributes,
        interval: Option<Duration>,
    ) -> Result<Answer, ReconcileError> {
        let question = resolution::question(self.artifact, &attributes.reference, interval, self.now);
        let asked = match &question {
            Question::None => {
                self.stand(status);
                return Ok(Answer::Settled);
            }
            Question::Digest => attributes.clone(),
            Question::Size(pinned) => VolumeAttributes { reference: pinned.clone(), ..attributes.clone() },
        };
        let object = &self.artifact.metadata;
        if let Some((left, verdict)) = self.context.questions.left(object) {
            self.refuse(status, verdict);
            return Ok(Answer::Later(left));
        }
        let Some(slot) = self.context.slots.take(self.namespace()) else { return Ok(Answer::Busy) };
        let answer = resolution::resolve(self.artifact, &asked, self.options(), self.context.patience).await;
        drop(slot);
        match answer.map_err(self.failed("read the pull secret"))? {
            Resolution::Found { pin, size, verdict } => {
                status.size_bytes = size.and_then(|size| i64::try_from(size).ok());
                if question == Question::Digest {
                    status.requested_reference = Some(attributes.reference.to_string());
                    status.resolved_reference = Some(pin.reference);
                    status.resolved_digest = Some(pin.digest);
                    status.resolved_at = Some(Time(self.now));
                    self.set(status, RESOLVED, verdict);
                }
            }
            // The digest stands, and asking for it again could move it.
            Resolution::Failed(failure) if matches!(question, Question::Size(_)) => {
                tracing::info!(
                    object = self.object(),
                    message = failure.verdict.message,
                    "the size is not known"
                );
                status.size_bytes = None;
            }
            Resolution::Failed(failure) => {
                let (at_least, limit) =
                    (failure.retry_after.unwrap_or_default(), interval.unwrap_or(Duration::MAX));
                let pause = self.context.questions.next(object, failure.verdict.clone(), at_least, limit);
                self.refuse(status, failure.verdict);
                return Ok(Answer::Later(pause));
            }
        }
        self.context.questions.end(object);
        self.stand(status);
        Ok(Answer::Settled)
    }

    /// The digest that was found holds, whatever else has changed in the object.
    fn stand(&self, status: &mut CachedArtifactStatus) {
        if status::holds(status, RESOLVED) {
            status::renew(status, RESOLVED, self.artifact.metadata.generation);
        } else if let Some((requested, digest)) =
            status.requested_reference.clone().zip(status.resolved_digest.clone())
        {
            self.set(status, RESOLVED, Verdict::yes("Resolved", format!("{requested} is {digest}")));
        }
    }

    /// There is no new digest; the one before stays, where there is one.
    fn refuse(&self, status: &mut CachedArtifactStatus, mut verdict: Verdict) {
        if let Some(digest) = &status.resolved_digest {
            verdict.message = format!("{}; nodes keep {digest}", verdict.message);
        }
        self.set(status, RESOLVED, verdict);
    }

    pub(super) fn set(&self, status: &mut CachedArtifactStatus, kind: &str, verdict: Verdict) {
        status::set(status, kind, verdict, self.artifact.metadata.generation, self.now);
    }

    /// Writes the status where it has changed, and the events of what has changed in it; says whether it has.
    async fn finish(&self, mut status: CachedArtifactStatus, answer: Answer) -> Result<bool, ReconcileError> {
        let before = self.artifact.status.clone().unwrap_or_default();
        // A question that could not even be asked is still to come.
        if answer != Answer::Busy {
            status.observed_generation = self.artifact.metadata.generation;
        }
        if status == before {
            return Ok(false);
        }
        let name = self.artifact.metadata.name.as_deref().unwrap_or_default();
        let artifacts: Api<CachedArtifact> = Api::namespaced(self.options().client.clone(), self.namespace());
        let patch = serde_json::json!({
            "apiVersion": CachedArtifact::api_version(&()),
            "kind": CachedArtifact::kind(&()),
            // With the uid, so that what is late says nothing of a new object of the same name.
            "metadata": { "name": name, "uid": self.artifact.metadata.uid },
            "status": status,
        });
        let apply = PatchParams::apply(MANAGER).force();
        match artifacts.patch_status(name, &apply, &Patch::Apply(&patch)).await {
            Ok(_) => {}
            // Deleted meanwhile, and perhaps made anew.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => return Ok(true),
            Err(error) => return Err(self.failed("write the status")(error)),
        }
        for condition in notes::changes(&before, &status) {
            tracing::info!(
                object = self.object(),
                condition = condition.type_,
                status = condition.status,
                reason = condition.reason,
                message = condition.message,
                "a CachedArtifact has changed"
            );
            notes::write(&self.options().client, self.artifact, condition, self.now).await;
        }
        Ok(true)
    }

    pub(super) fn options(&self) -> &PrefetchOptions {
        &self.context.options
    }

    pub(super) fn namespace(&self) -> &str {
        self.artifact.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// `namespace/name`, for messages.
    pub(super) fn object(&self) -> String {
        format!("{}/{}", self.namespace(), self.artifact.metadata.name.as_deref().unwrap_or_default())
    }

    pub(super) fn failed(&self, doing: &'static str) -> impl FnOnce(kube::Error) -> ReconcileError + use<> {
        let object = self.object();
        move |source| ReconcileError::Api { doing, object, source: Box::new(source) }
    }
}

/// What nodes are to have: with the tag that was asked for, which the digest overrules.
fn pin(status: &CachedArtifactStatus) -> Option<Pin> {
    let (reference, digest) = status.resolved_reference.clone().zip(status.resolved_digest.clone())?;
    let requested = status.requested_reference.as_deref().and_then(|text| text.parse::<Reference>().ok());
    let reference = match (requested, digest.parse::<Digest>()) {
        (Some(requested), Ok(digest)) => resolve::pinned(&requested, &digest, true),
        _ => reference,
    };
    Some(Pin { reference, digest })
}

#[cfg(test)]
mod tests;
