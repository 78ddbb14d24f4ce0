//! Serves the CSI socket until the process is told to stop.

use std::path::Path;
use std::time::Duration;

use stowage_csi_plugin::ServeError;
use stowage_csi_proto::csi::v1::controller_server::ControllerServer;
use stowage_csi_proto::csi::v1::identity_server::IdentityServer;
use stowage_telemetry::Health;
use tokio_util::sync::CancellationToken;

use super::{ControllerService, IdentityService};

/// How long calls may take to end once the process is told to stop. They are answered at once; this is for slow readers.
const GRACE: Duration = Duration::from_secs(10);

/// Serves both services at `socket`, for which `csi` becomes ready, until `stop`; then waiting calls are answered, and what is left has 10 s.
pub async fn serve(
    identity: IdentityService,
    controller: ControllerService,
    socket: &Path,
    health: &Health,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let services = tonic::transport::Server::builder()
        .add_service(IdentityServer::new(identity))
        .add_service(ControllerServer::new(controller));
    let ready = || health.ready("csi");
    stowage_csi_plugin::serve(services, socket, stop, GRACE, ready, async {}).await
}
