//! A CSI socket, served until the process is told to stop.

use std::path::Path;
use std::time::Duration;

use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;

use crate::{OwnedSocket, SocketError};

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

/// Serves `services` at `socket` until `stop`: then no call is accepted, `ending` is run, and it and the calls that are left have
/// `grace` together. `serving` is called as soon as the socket is there.
pub async fn serve(
    services: Router,
    socket: &Path,
    stop: CancellationToken,
    grace: Duration,
    serving: impl FnOnce(),
    ending: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (owned, listener) = OwnedSocket::bind(socket)?;
    tracing::info!(socket = %socket.display(), "serving CSI");
    serving();
    let server = services
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
    tokio::pin!(server);
    tokio::select! {
        // First: once told to stop, the server may end by itself before `ending` has begun.
        biased;
        () = stop.cancelled() => {}
        result = &mut server => return Ok(result?),
    }
    let rest = async {
        ending.await;
        server.await
    };
    if let Ok(result) = tokio::time::timeout(grace, rest).await {
        result?;
    } else {
        tracing::warn!("some calls did not end within {} s of the stop", grace.as_secs());
    }
    drop(owned);
    Ok(())
}
