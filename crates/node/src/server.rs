//! Serves the CSI socket until the process is told to stop.

use std::path::Path;
use std::time::Duration;

use stowage_csi_proto::csi::v1::identity_server::IdentityServer;
use stowage_csi_proto::csi::v1::node_server::NodeServer;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::socket::{OwnedSocket, SocketError};
use crate::{IdentityService, NodeService, Plugin};

/// How long calls may take to end once the process is told to stop.
const GRACE: Duration = Duration::from_secs(20);

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

/// Serves both services at `socket` until `stop`: then no call is accepted, waiting publishes are answered
/// UNAVAILABLE at once, and the rest has 20 s. Mounts stay as they are.
pub async fn serve(plugin: Plugin, socket: &Path, stop: CancellationToken) -> Result<(), ServeError> {
    let (owned, listener) = OwnedSocket::bind(socket)?;
    tracing::info!(socket = %socket.display(), "serving CSI");
    let server = tonic::transport::Server::builder()
        .add_service(IdentityServer::new(IdentityService::new(plugin.clone())))
        .add_service(NodeServer::new(NodeService::new(plugin.clone())))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
    tokio::pin!(server);
    tokio::select! {
        // First: once told to stop, the server may end by itself before the volumes are shut down.
        biased;
        () = stop.cancelled() => {}
        result = &mut server => return Ok(result?),
    }
    plugin.stop_looking();
    let ending = async {
        if let Some(volumes) = plugin.volumes() {
            volumes.shutdown().await;
        }
        server.await
    };
    if let Ok(result) = tokio::time::timeout(GRACE, ending).await {
        result?;
    } else {
        tracing::warn!("some calls did not end within {} s of the stop", GRACE.as_secs());
    }
    drop(owned);
    Ok(())
}
