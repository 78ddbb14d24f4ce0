//! gRPC over a unix socket, as kubelet does it.

use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Connects to a CSI socket, lazily: the first call finds out whether somebody listens, and a later one
/// connects again if the plugin was restarted.
pub(super) fn lazily(socket: &Path) -> Channel {
    connect(&Endpoint::from_static("http://localhost"), socket)
}

/// Connects to a registration socket. Kubelet says `localhost` to CSI sockets only; here its library (grpc-go) makes the
/// `:authority` of each call out of the socket's path.
///
/// # Errors
/// One sentence, where an HTTP/2 server would reset the stream for such an authority.
pub(super) fn by_path(socket: &Path) -> Result<Channel, String> {
    let authority = authority(socket);
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|error| format!("PROTOCOL_ERROR: no server takes the authority {authority}: {error}"))?;
    Ok(connect(&endpoint, socket))
}

fn connect(endpoint: &Endpoint, socket: &Path) -> Channel {
    let socket: PathBuf = socket.into();
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    }))
}

/// All that RFC 3986 (section 3.2) has no place for is written with per cent signs.
fn authority(socket: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]@".contains(&byte);
    socket
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_path_with_an_at_sign_makes_an_authority_that_servers_take() {
        let path = Path::new("/k/plugins_registry/csi.stowage.dev@reg.sock");
        assert_eq!(authority(path), "%2Fk%2Fplugins_registry%2Fcsi.stowage.dev@reg.sock");
        by_path(path).unwrap();
        let refused = by_path(Path::new("/k/plugins_registry/csi.stowage.dev-reg.sock")).unwrap_err();
        assert!(refused.starts_with("PROTOCOL_ERROR"), "{refused}");
    }
}
