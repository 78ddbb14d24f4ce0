//! The half of a step that the API server answers: the DaemonSet, its pods, and why some of them wait.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::Status;
use kube::{Api, Resource as _};
use stowage_artifact::VolumeAttributes;

use super::daemon_set::{self, Pin};
use super::reconcile::{ReconcileError, Step};
use super::status::{self, CACHED, Verdict};
use super::{MANAGER, nodes};
use crate::crd::{CachedArtifact, CachedArtifactStatus, Failure};
use crate::names::{ARTIFACT_LABEL, artifact_label, daemon_set as daemon_set_name, volume_label};

/// How long the watch of the pods may take to begin.
const WATCH: Duration = Duration::from_secs(10);
/// Events that are read at once, and how often within one step.
const EVENTS_PAGE: u32 = 500;
const MOST_PAGES: usize = 10;

/// What became of an object's DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// Every node that is meant has the artifact.
    Everywhere,
    /// Some node does not have it yet.
    Waiting,
    /// Something changes in a moment.
    Soon,
}

impl Step<'_> {
    /// Applies the DaemonSet and reads what became of it.
    pub(super) async fn place(
        &self,
        status: &mut CachedArtifactStatus,
        attributes: &VolumeAttributes,
        pin: &Pin,
    ) -> Result<Placed, ReconcileError> {
        let name = daemon_set_name(self.artifact.metadata.name.as_deref().unwrap_or_default());
        let sets: Api<DaemonSet> = Api::namespaced(self.options().client.clone(), self.namespace());
        let there = sets.get_opt(&name).await.map_err(self.failed("read the DaemonSet"))?;
        if let Some(set) = there.filter(|set| !self.owns(set)) {
            let (message, placed) = if self.is_of_the_former_one(&set) {
                (
                    format!("the DaemonSet {name} of the former object of this name goes away in a moment"),
                    Placed::Soon,
                )
            } else {
                (
                    format!("there is a DaemonSet {name} that belongs to something else; remove it"),
                    Placed::Waiting,
                )
            };
            self.set(status, CACHED, Verdict::no("NameTaken", message));
            return Ok(placed);
        }
        let wanted = daemon_set::wanted(self.artifact, attributes, pin, self.options());
        let apply = PatchParams::apply(MANAGER).force();
        let set = match sets.patch(&name, &apply, &Patch::Apply(&wanted)).await {
            Ok(set) => set,
            Err(kube::Error::Api(answer)) if is_refusal(&answer) => {
                let message = format!("the API server refuses the DaemonSet {name}: {}", answer.message);
                self.set(status, CACHED, Verdict::no("DaemonSetRefused", message));
                return Ok(Placed::Waiting);
            }
            Err(error) => return Err(self.failed("apply the DaemonSet")(error)),
        };
        let volume = volume_label(&pin.attributes(attributes));
        self.look(status, &set, &volume).await
    }

    /// Counts the nodes by their pods.
    async fn look(
        &self,
        status: &mut CachedArtifactStatus,
        set: &DaemonSet,
        volume: &str,
    ) -> Result<Placed, ReconcileError> {
        let pods = self.pods().await?;
        let waiting = nodes::waiting(&pods, volume);
        let mut failures = self.failures(&waiting).await?;
        let mut failed = failures.len();
        let missing = nodes::missing(set, &pods);
        if missing > 0 && nodes::is_observed(set) {
            let name = set.metadata.name.as_deref().unwrap_or_default();
            let fields =
                format!("involvedObject.kind=DaemonSet,involvedObject.name={name},reason=FailedCreate");
            if let Some(failure) = nodes::unmade(&self.events(&fields).await?) {
                failed += missing;
                failures.insert(0, failure);
            }
        }
        status.nodes = nodes::numbers(set, &pods, volume, failed);
        status.failures = nodes::told(failures);
        let verdict = status::cached(status.nodes, nodes::is_observed(set));
        let placed = match verdict.holds {
            true => Placed::Everywhere,
            false if nodes::is_behind(set, &pods) => Placed::Soon,
            false => Placed::Waiting,
        };
        self.set(status, CACHED, verdict);
        Ok(placed)
    }

    fn owns(&self, set: &DaemonSet) -> bool {
        let owners = set.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| Some(&owner.uid) == self.artifact.metadata.uid.as_ref())
    }

    /// Whether an object of this name had it that was deleted a moment ago.
    fn is_of_the_former_one(&self, set: &DaemonSet) -> bool {
        let owners = set.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| {
            owner.kind == CachedArtifact::kind(&())
                && owner.api_version.split('/').next() == Some(crate::crd::GROUP)
                && Some(&owner.name) == self.artifact.metadata.name.as_ref()
        })
    }

    /// The object's pods, whatever volume they hold, by the watch.
    async fn pods(&self) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let watched = tokio::time::timeout(WATCH, self.context.pods.wait_until_ready()).await;
        if !matches!(watched, Ok(Ok(()))) {
            return Err(ReconcileError::NoPods { object: self.object() });
        }
        let label = artifact_label(self.artifact.metadata.name.as_deref().unwrap_or_default());
        Ok(self.context.pods.state_filter(|pod| {
            pod.metadata.namespace.as_deref() == Some(self.namespace())
                && pod.metadata.labels.as_ref().and_then(|labels| labels.get(ARTIFACT_LABEL)) == Some(&label)
        }))
    }

    /// Why pods wait. Kubelet's events are read only where some pod has none of ours.
    async fn failures(&self, waiting: &[&Pod]) -> Result<Vec<Failure>, ReconcileError> {
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let ours = self.events("involvedObject.kind=Pod,source=stowage").await?;
        let kubelets = if nodes::silent(waiting, &ours).is_empty() {
            Vec::new()
        } else {
            self.events("involvedObject.kind=Pod,reason=FailedMount").await?
        };
        Ok(nodes::failures(waiting, &ours, &kubelets))
    }

    /// Events of the namespace that have these fields, page by page.
    async fn events(&self, fields: &str) -> Result<Vec<Event>, ReconcileError> {
        let events: Api<Event> = Api::namespaced(self.options().client.clone(), self.namespace());
        let mut params = ListParams::default().fields(fields).limit(EVENTS_PAGE);
        let mut all = Vec::new();
        for _ in 0..MOST_PAGES {
            let page = match events.list(&params).await {
                Ok(page) => page,
                // The rest of a list that has grown too old says no more than what is there.
                Err(kube::Error::Api(answer)) if answer.code == 410 && !all.is_empty() => break,
                Err(error) => return Err(self.failed("list the events")(error)),
            };
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        Ok(all)
    }
}

/// Whether the API server will say the same until somebody changes something: schema, quota, admission, rights.
fn is_refusal(answer: &Status) -> bool {
    matches!(answer.code, 400 | 403 | 405 | 406 | 413 | 415 | 422)
}
