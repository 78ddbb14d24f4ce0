//! Listeners and connections.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::routes;
use super::shared::{Shared, State};
use super::socket::{Connection, Socket};
use super::traffic::Place;

/// One listener, which can be taken away and put back.
pub(super) struct Listener {
    pub(super) shared: State,
    pub(super) place: Place,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<TlsAcceptor>,
    /// Whether it should listen.
    pub(super) online: watch::Receiver<bool>,
    /// Whether it does.
    pub(super) listening: watch::Sender<bool>,
}

impl Listener {
    /// Serves until the task is aborted.
    pub(super) async fn run(mut self, first: TcpListener) -> io::Result<()> {
        let mut connections = JoinSet::new();
        let mut listener = Some(first);
        loop {
            let Some(bound) = &listener else {
                if self.online.wait_for(|online| *online).await.is_err() {
                    return Ok(());
                }
                listener = Some(TcpListener::bind(self.address).await?);
                self.listening.send_replace(true);
                continue;
            };
            tokio::select! {
                accepted = bound.accept() => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(serve(Arc::clone(&self.shared), self.place, stream, self.tls.clone()));
                    }
                }
                Some(_) = connections.join_next() => {}
                changed = self.online.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    if !*self.online.borrow_and_update() {
                        listener = None;
                        self.shared.reset_connections();
                        while connections.join_next().await.is_some() {}
                        self.listening.send_replace(false);
                    }
                }
            }
        }
    }
}

/// Marks the connection as closed however its task ends.
struct Open(State, u64);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.traffic.connection_closed(self.1);
    }
}

async fn serve(shared: State, place: Place, stream: TcpStream, tls: Option<TlsAcceptor>) {
    let id = shared.next_connection.fetch_add(1, Ordering::Relaxed);
    let cut = shared.cut();
    let connection = Arc::new(Connection::new(id, place));
    shared.traffic.connection_opened(id, place);
    let _open = Open(Arc::clone(&shared), id);
    // Small answers must not wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let socket = Socket::new(stream, Arc::clone(&connection));
    let exchange = async {
        match tls {
            Some(tls) => {
                // A client that does not trust us ends here; that is its affair.
                if let Ok(stream) = tls.accept(socket).await {
                    converse(&shared, &connection, stream).await;
                }
            }
            None => converse(&shared, &connection, socket).await,
        }
    };
    let cut = async {
        cut.cancelled().await;
        // Before the socket is dropped, which is when the select ends.
        connection.end_by_reset();
    };
    tokio::select! {
        () = exchange => {}
        () = cut => {}
    }
}

async fn converse<S>(shared: &Arc<Shared>, connection: &Arc<Connection>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| async {
        Ok::<_, Infallible>(routes::answer(Arc::clone(shared), Arc::clone(connection), request).await)
    });
    // Errors are cut connections: the client's, or ours by a fault. The books show both.
    let _ =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}
