//! Watches the objects and each `DaemonSet` of theirs, and takes a step for each change.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use stowage_telemetry::ControllerMetrics;
use stowage_telemetry::controller_metrics::ArtifactNumbers;
use tokio_util::sync::CancellationToken;

use super::PrefetchOptions;
use super::reconcile::{Context, ReconcileError, reconcile};
use super::status::{self, CACHED, RESOLVED};
use crate::crd::CachedArtifact;
use crate::names::{COMPONENT_LABEL, NAME_LABEL};

/// Steps that run at the same time.
const CONCURRENCY: u16 = 4;
/// Changes in so short a time are one.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Until a step that failed is repeated.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps all objects true until `stop`.
pub async fn run(options: PrefetchOptions, metrics: ControllerMetrics, stop: CancellationToken) {
    let artifacts: Api<CachedArtifact> = Api::all(options.client.clone());
    let sets: Api<DaemonSet> = Api::all(options.client.clone());
    let ours = watcher::Config::default().labels(&format!("{NAME_LABEL}=stowage,{COMPONENT_LABEL}=prefetch"));
    let controller = Controller::new(artifacts, watcher::Config::default())
        .owns(sets, ours)
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.cancelled_owned());
    let store = controller.store();
    metrics.watch_artifacts(Some(Box::new(move || numbers(&store))));
    let context = Arc::new(Context { options, metrics: metrics.clone() });
    let policy = |_: Arc<CachedArtifact>, _: &ReconcileError, _: Arc<Context>| Action::requeue(RETRY);
    controller
        .run(reconcile, policy, context)
        .for_each(async |result| match result {
            Ok((object, _)) => tracing::debug!(%object, "looked at"),
            // Deleted between the change and the step.
            Err(Error::ObjectNotFound(_)) => {}
            Err(Error::ReconcilerFailed(error, _)) => tracing::warn!(%error, "a step failed"),
            Err(error) => tracing::warn!(%error, "cannot watch; is the CRD of CachedArtifact installed?"),
        })
        .await;
    metrics.watch_artifacts(None);
}

fn numbers(store: &Store<CachedArtifact>) -> ArtifactNumbers {
    let mut numbers = ArtifactNumbers::default();
    for artifact in store.state() {
        let status = artifact.status.clone().unwrap_or_default();
        let failing =
            status::find(&status, CACHED).is_some_and(|condition| condition.reason == "PullFailing");
        let state = if !status::holds(&status, RESOLVED) {
            &mut numbers.unresolved
        } else if status::holds(&status, CACHED) {
            &mut numbers.cached
        } else if failing {
            &mut numbers.failing
        } else {
            &mut numbers.pulling
        };
        *state += 1;
    }
    numbers
}
