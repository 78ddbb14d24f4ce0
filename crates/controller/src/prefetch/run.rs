//! Watches the objects, each `DaemonSet` of theirs and all pods of these, and takes a step for each change of the former two.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use stowage_telemetry::ControllerMetrics;
use stowage_telemetry::controller_metrics::ArtifactNumbers;
use tokio_util::sync::CancellationToken;

use super::PrefetchOptions;
use super::reconcile::{Context, ReconcileError, reconcile};
use super::status::{self, CACHED};
use crate::crd::{CachedArtifact, CachedArtifactStatus};
use crate::names::{COMPONENT_LABEL, NAME_LABEL};

/// Steps that run at the same time.
const CONCURRENCY: u16 = 16;
/// Changes in so short a time are one.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Until a step that failed is repeated.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps all objects true until `stop`.
pub async fn run(options: PrefetchOptions, metrics: ControllerMetrics, stop: CancellationToken) {
    let artifacts: Api<CachedArtifact> = Api::all(options.client.clone());
    let sets: Api<DaemonSet> = Api::all(options.client.clone());
    let controller = Controller::new(artifacts, watcher::Config::default())
        .owns(sets, ours())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    let _exported = Exported::new(&metrics, controller.store());
    let (pods, watching) = pods(&options);
    let context = Arc::new(Context::new(options, metrics, pods));
    let policy = |_: Arc<CachedArtifact>, _: &ReconcileError, _: Arc<Context>| Action::requeue(RETRY);
    let reconciling = controller.run(reconcile, policy, context).for_each(async |result| match result {
        Ok((object, _)) => tracing::debug!(%object, "looked at"),
        // Deleted between the change and the step.
        Err(Error::ObjectNotFound(_)) => {}
        Err(Error::ReconcilerFailed(error, _)) => tracing::warn!(%error, "a step failed"),
        Err(error) => tracing::warn!(%error, "cannot watch; is the CRD of CachedArtifact installed?"),
    });
    tokio::select! {
        () = reconciling => {}
        () = watching => {}
    }
}

/// What we have made, and nothing else.
fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{NAME_LABEL}=stowage,{COMPONENT_LABEL}=prefetch"))
}

/// The pods that hold artifacts, and the watch that keeps them so; it never ends.
fn pods(options: &PrefetchOptions) -> (Store<Pod>, impl Future<Output = ()> + use<>) {
    let (pods, writer) = reflector::store();
    let watch = watcher(Api::<Pod>::all(options.client.clone()), ours())
        .modify(|pod| pod.metadata.managed_fields = None)
        .default_backoff();
    let watching = reflector::reflector(writer, watch).for_each(async |event| {
        if let Err(error) = event {
            tracing::warn!(%error, "cannot watch the pods");
        }
    });
    (pods, watching)
}

/// The states of the objects in the metrics, for as long as this replica leads.
struct Exported(ControllerMetrics);

impl Exported {
    fn new(metrics: &ControllerMetrics, store: Store<CachedArtifact>) -> Self {
        metrics.watch_artifacts(Some(Box::new(move || numbers(&store))));
        Self(metrics.clone())
    }
}

impl Drop for Exported {
    /// Also where the work is dropped because it did not end in time.
    fn drop(&mut self) {
        self.0.watch_artifacts(None);
    }
}

fn numbers(store: &Store<CachedArtifact>) -> ArtifactNumbers {
    let mut numbers = ArtifactNumbers::default();
    for artifact in store.state() {
        *state(&mut numbers, artifact.status.as_ref()) += 1;
    }
    numbers
}

/// The number that counts an object with this status. A registry that is away takes nothing from nodes.
fn state<'a>(numbers: &'a mut ArtifactNumbers, status: Option<&CachedArtifactStatus>) -> &'a mut u64 {
    let Some(status) = status.filter(|status| status.resolved_digest.is_some()) else {
        return &mut numbers.unresolved;
    };
    match status::find(status, CACHED).map(|cached| &*cached.reason) {
        Some("Cached") => &mut numbers.cached,
        Some("PullFailing") => &mut numbers.failing,
        Some("NoNodes") => &mut numbers.no_nodes,
        Some("NameTaken" | "DaemonSetRefused") => &mut numbers.blocked,
        Some("NotResolved") => &mut numbers.unresolved,
        _ => &mut numbers.pulling,
    }
}

#[cfg(test)]
mod tests;
