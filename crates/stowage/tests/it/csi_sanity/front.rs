//! One socket before two processes: every call goes on, unread, to the one that serves it.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tower::ServiceExt as _;

/// Serves Identity and Controller of the `controller` and Node of the `node` at `socket`.
pub(super) fn serve(socket: &Path, controller: &Path, node: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let incoming = futures::stream::try_unfold(listener, async |listener| {
        let (stream, _) = listener.accept().await?;
        Ok::<_, io::Error>(Some((stream, listener)))
    });
    let server = Server::builder()
        .add_service(Identity(channel(controller)))
        .add_service(Controller(channel(controller)))
        .add_service(Node(channel(node)))
        .serve_with_incoming(Box::pin(incoming));
    tokio::spawn(server);
}

/// A connection that is made with the first call.
pub(super) fn channel(socket: &Path) -> Channel {
    let socket: PathBuf = socket.into();
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect)
}

/// Services whose calls and answers pass through unread.
macro_rules! handed_on {
    ($($service:ident: $name:literal;)*) => {$(
        #[derive(Clone)]
        struct $service(Channel);

        impl NamedService for $service {
            const NAME: &'static str = $name;
        }

        impl Service<http::Request<Body>> for $service {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                let channel = self.0.clone();
                Box::pin(async move {
                    let answer = channel.oneshot(request).await;
                    Ok(answer.unwrap_or_else(|error| Status::unavailable(error.to_string()).into_http()))
                })
            }
        }
    )*};
}

handed_on! {
    Identity: "csi.v1.Identity";
    Controller: "csi.v1.Controller";
    Node: "csi.v1.Node";
}
