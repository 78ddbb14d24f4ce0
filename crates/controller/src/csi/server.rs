//! Serves the CSI socket until the process is told to stop.

use std::path::Path;
use std::time::Duration;

use stowage_csi_proto::csi::v1::controller_server::ControllerServer;
use stowage_csi_proto::csi::v1::identity_server::IdentityServer;
use stowage_csi_socket::{OwnedSocket, SocketError};
use stowage_telemetry::Health;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use super::{ControllerService, IdentityService};

/// How long calls may take to end once the process is told to stop. They are answered at once; this is for slow readers.
const GRACE: Duration = Duration::from_secs(10);

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The server ended.
    #[error("the CSI socket is no longer served: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Serves both services at `socket`, for which `csi` becomes ready, until `stop`; then waiting calls are answered, and what is left has 10 s.
pub async fn serve(
    identity: IdentityService,
    controller: ControllerService,
    socket: &Path,
    health: &Health,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let (owned, listener) = OwnedSocket::bind(socket)?;
    tracing::info!(socket = %socket.display(), "serving CSI");
    health.ready("csi");
    let server = tonic::transport::Server::builder()
        .add_service(IdentityServer::new(identity))
        .add_service(ControllerServer::new(controller))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return Ok(result?),
        () = stop.cancelled() => {}
    }
    if let Ok(result) = tokio::time::timeout(GRACE, server).await {
        result?;
    } else {
        tracing::warn!("some calls did not end within {} s of the stop", GRACE.as_secs());
    }
    drop(owned);
    Ok(())
}
