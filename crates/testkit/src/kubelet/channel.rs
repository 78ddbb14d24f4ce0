//! gRPC over a unix socket.

use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Connects to a socket, lazily: the first call finds out whether somebody listens, and a later one
/// connects again if the plugin was restarted.
pub(super) fn lazily(socket: &Path) -> Channel {
    let socket: PathBuf = socket.into();
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    }))
}
