//! A Kubernetes API server, as far as the node plugin sees one: events and nodes, over TLS, for one token.
//!
//! Objects are kept as they come, without defaults or validation beyond what the node relies on: names are taken once,
//! patches need their object, a JSON patch is all or nothing.

mod patch;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::registry::Identity;

/// What the client signs in with.
pub const TOKEN: &str = "token-of-the-nodes-service-account";

/// A running API server; dropping it ends it and every connection.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    identity: Identity,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    silent: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Every object by its path.
    objects: BTreeMap<String, Value>,
    calls: Vec<String>,
    bodies: Vec<String>,
}

impl ApiServer {
    /// An empty cluster, on a free loopback port.
    pub async fn start() -> io::Result<Self> {
        let identity = Identity::generate(&[])?;
        let acceptor = TlsAcceptor::from(identity.server_config()?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, shared) = (listener.local_addr()?, Arc::new(Shared::default()));
        let task = AbortOnDropHandle::new(tokio::spawn(listen(listener, acceptor, Arc::clone(&shared))));
        Ok(Self { address, identity, shared, _task: task })
    }

    /// Writes a kubeconfig that leads here.
    pub fn write_kubeconfig(&self, path: &Path) -> io::Result<()> {
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.identity.ca_pem);
        let server = format!("https://{}", self.address);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": server, "certificate-authority-data": ca } }],
            "users": [{ "name": "test", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        std::fs::write(path, config.to_string())
    }

    /// Puts a node with taints of these keys.
    pub fn put_node(&self, name: &str, taints: &[&str]) {
        let taints: Vec<_> = taints.iter().map(|key| json!({ "key": key, "effect": "NoSchedule" })).collect();
        let node = json!({ "metadata": { "name": name }, "spec": { "taints": taints } });
        self.shared.state().objects.insert(format!("/api/v1/nodes/{name}"), node);
    }

    /// The keys of a node's taints.
    pub fn taints(&self, node: &str) -> Vec<String> {
        let state = self.shared.state();
        let node = state.objects.get(&format!("/api/v1/nodes/{node}"));
        let taints = node.and_then(|node| node["spec"]["taints"].as_array());
        let key = |taint: &Value| taint["key"].as_str().map(str::to_owned);
        taints.into_iter().flatten().filter_map(key).collect()
    }

    /// The events of a pod, by their names.
    pub fn events_of(&self, pod_uid: &str) -> Vec<Value> {
        let state = self.shared.state();
        let events = state.objects.values().filter(|object| object["involvedObject"]["uid"] == pod_uid);
        events.cloned().collect()
    }

    /// Every call so far, as method and path.
    pub fn calls(&self) -> Vec<String> {
        self.shared.state().calls.clone()
    }

    /// Everything that was ever sent here, but for the token.
    pub fn bodies(&self) -> Vec<String> {
        self.shared.state().bodies.clone()
    }

    /// From now on calls are taken and not answered; or they are again.
    pub fn set_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Relaxed);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // A client that does not trust us ends here; that is its affair.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    // A cut connection is the client's to notice.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    {
        let mut state = shared.state();
        state.calls.push(format!("{} {path}", head.method));
        state.bodies.push(String::from_utf8_lossy(&body).into_owned());
    }
    if shared.silent.load(Ordering::Relaxed) {
        std::future::pending::<Infallible>().await;
    }
    let signed_in = head.headers.get(AUTHORIZATION).is_some_and(|sent| *sent == format!("Bearer {TOKEN}"));
    let (code, object) = if signed_in {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        act(&mut shared.state(), &head.method, &path, kind, &body)
    } else {
        failure(401, "Unauthorized")
    };
    let mut response = Response::new(Full::new(Bytes::from(object.to_string())));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}

/// Does one call; the code, and the object or the failure.
fn act(state: &mut State, method: &Method, path: &str, kind: &str, body: &[u8]) -> (u16, Value) {
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    if *method == Method::POST {
        let Some(name) = sent["metadata"]["name"].as_str() else { return failure(422, "Invalid") };
        let path = format!("{path}/{name}");
        if state.objects.contains_key(&path) {
            return failure(409, "AlreadyExists");
        }
        state.objects.insert(path, sent.clone());
        return (201, sent);
    }
    let Some(object) = state.objects.get_mut(path) else { return failure(404, "NotFound") };
    match (method, kind) {
        (&Method::GET, _) => (200, object.clone()),
        (&Method::PATCH, "application/merge-patch+json") => {
            patch::merge(object, &sent);
            (200, object.clone())
        }
        (&Method::PATCH, "application/json-patch+json") => match patch::json(object, &sent) {
            Some(patched) => {
                *object = patched.clone();
                (200, patched)
            }
            None => failure(422, "Invalid"),
        },
        _ => failure(405, "MethodNotAllowed"),
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": format!("the test's API server says {reason}"),
    });
    (code, status)
}
