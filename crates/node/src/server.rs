//! Serves the CSI socket until the process is told to stop.

use std::path::Path;
use std::time::Duration;

use stowage_csi_plugin::ServeError;
use stowage_csi_proto::csi::v1::identity_server::IdentityServer;
use stowage_csi_proto::csi::v1::node_server::NodeServer;
use tokio_util::sync::CancellationToken;

use crate::{IdentityService, NodeService, Plugin};

/// How long calls may take to end once the process is told to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Serves both services at `socket` until `stop`: then no call is accepted, waiting publishes are answered
/// UNAVAILABLE at once, and the rest has 20 s. Mounts stay as they are.
pub async fn serve(plugin: Plugin, socket: &Path, stop: CancellationToken) -> Result<(), ServeError> {
    let services = tonic::transport::Server::builder()
        .add_service(IdentityServer::new(IdentityService::new(plugin.clone())))
        .add_service(NodeServer::new(NodeService::new(plugin.clone())));
    let ending = async {
        plugin.stop_looking();
        if let Some(volumes) = plugin.volumes() {
            volumes.shutdown().await;
        }
    };
    stowage_csi_plugin::serve(services, socket, stop, GRACE, || {}, ending).await
}
