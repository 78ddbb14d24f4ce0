//! The books of a stocked registry, over HTTP.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Stocked;
use crate::Registry;

/// Serves the books until the future is dropped.
pub async fn serve_books(
    listener: TcpListener,
    registry: Arc<Registry>,
    stocked: Arc<[Stocked]>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let (registry, stocked) = (Arc::clone(&registry), Arc::clone(&stocked));
                connections.spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        ready(Ok::<_, Infallible>(answer(&request, &registry, &stocked)))
                    });
                    // A client that goes away is no failure of ours.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn answer<B>(request: &Request<B>, registry: &Registry, stocked: &[Stocked]) -> Response<Full<Bytes>> {
    let (status, body) = if request.method() == Method::GET {
        match request.uri().path() {
            "/healthz" => (StatusCode::OK, "ok".to_owned()),
            "/samples" => (StatusCode::OK, samples(stocked).to_string()),
            "/traffic" => (StatusCode::OK, traffic(registry, stocked).to_string()),
            _ => (StatusCode::NOT_FOUND, "no such page: /healthz, /samples or /traffic".to_owned()),
        }
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, "only GET".to_owned())
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}

fn samples(stocked: &[Stocked]) -> Value {
    stocked.iter().map(Stocked::document).collect()
}

fn traffic(registry: &Registry, stocked: &[Stocked]) -> Value {
    let digests = stocked.iter().flat_map(|sample| std::iter::once(&sample.digest).chain(&sample.blobs));
    let served: Map<String, Value> =
        digests.map(|digest| (digest.to_string(), json!(registry.bytes_served(digest)))).collect();
    json!({ "requests": registry.traffic().count(|_| true), "bytesServed": served })
}
