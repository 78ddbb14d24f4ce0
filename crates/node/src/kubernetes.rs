//! The node's own business with the Kubernetes API server: [events](crate::Events) of pods, and the taint that keeps
//! pods away until the plugin is registered.
//!
//! All of it is beside the path of a volume. No start and no publish waits for the API server, and what cannot be done
//! is logged and counted. Rights that it takes: `create` and `patch` events, `get` and `patch` nodes.

mod backoff;
mod call;
#[cfg(test)]
pub(crate) mod mock;
mod taint;
mod warnings;

use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, KubeconfigError};
use kube::{Client, Config};
use stowage_telemetry::{Health, Metrics};
use tokio_util::sync::CancellationToken;

pub(crate) use backoff::Backoff;
pub(crate) use call::{CallError, call};
pub use taint::TAINT;
pub(crate) use warnings::Warnings;

use crate::Events;

/// Without a connection in this time there is none.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no client for the API server.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("cannot use the kubeconfig that KUBECONFIG names: {0}")]
    Kubeconfig(#[source] KubeconfigError),
    #[error("cannot use the service account of this pod: {0}; mount its token, or set --kubernetes=false")]
    ServiceAccount(#[source] InClusterError),
    #[error("cannot set up a client for the API server: {}", call::chain(.0))]
    Client(#[source] kube::Error),
}

/// Whether this process runs in a pod.
pub fn in_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Starts what `node` has to do with the API server, until `stop`: removes its taint once `health` is ready, and writes
/// the events that the answer is told of. Where the environment says nothing usable of an API server (`KUBECONFIG`, or
/// the pod's service account), that is logged and there are no events.
pub async fn connect(node: &str, metrics: &Metrics, health: &Health, stop: &CancellationToken) -> Events {
    let client = match client().await {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(%error, "no pod events, and the taint {TAINT} stays");
            return Events::off();
        }
    };
    tracing::info!(node, "pod events are on");
    tokio::spawn(taint::remove_when_ready(client.clone(), node.to_owned(), health.clone(), stop.clone()));
    Events::start(client, node, metrics.clone(), stop.clone())
}

async fn client() -> Result<Client, ConnectError> {
    // Never a file in somebody's home directory: what is at hand there is not meant for a node.
    let mut config = if std::env::var_os("KUBECONFIG").is_some() {
        Config::from_kubeconfig(&KubeConfigOptions::default()).await.map_err(ConnectError::Kubeconfig)?
    } else {
        Config::incluster().map_err(ConnectError::ServiceAccount)?
    };
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.read_timeout = Some(call::LIMIT);
    config.write_timeout = Some(call::LIMIT);
    config.reset_reader_on_write = true;
    // Who calls knows better when to try again.
    config.default_retry = false;
    Client::try_from(config).map_err(ConnectError::Client)
}
