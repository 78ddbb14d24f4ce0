//! An API server in a test: each call is waited for in its turn, and one that nobody expects fails the test.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{Handle, SendResponse};

/// On tokio's paused clock: long enough for anything that is still to come, and over in a moment.
const SILENCE: Duration = Duration::from_hours(1);

/// The server's end.
pub(crate) struct ApiServer(Handle<Request<Body>, Response<Body>>);

/// A call that waits for its answer. Dropped, it is answered by a broken connection.
pub(crate) struct Call {
    request: http::request::Parts,
    body: Value,
    reply: SendResponse<Response<Body>>,
}

impl ApiServer {
    /// A server, and the client that calls it.
    pub(crate) fn new() -> (Client, Self) {
        let (service, handle) = tower_test::mock::pair();
        (Client::new(service, "default"), Self(handle))
    }

    /// The next call, which must come within an hour of the test's clock.
    pub(crate) async fn next(&mut self) -> Call {
        let next = tokio::time::timeout(SILENCE, self.0.next_request()).await.expect("a call is missing");
        let (request, reply) = next.expect("nobody can call any more");
        let (request, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Call { request, body, reply }
    }

    /// The next call, which must be this one.
    pub(crate) async fn expect(&mut self, method: &str, path: &str) -> Call {
        let call = self.next().await;
        assert_eq!((call.method(), call.path()), (method, path), "{}", call.body);
        call
    }

    /// An hour passes without a call.
    pub(crate) async fn nothing_more(&mut self) {
        self.silent_for(SILENCE).await;
    }

    /// So much time passes without a call, though somebody could make one: who has died or ended would be silent too.
    pub(crate) async fn silent_for(&mut self, time: Duration) {
        match tokio::time::timeout(time, self.0.next_request()).await {
            Ok(Some((request, _))) => panic!("unexpected: {} {}", request.method(), request.uri()),
            Ok(None) => panic!("nobody can call any more"),
            Err(_) => {}
        }
    }

    /// Everybody who could call has ended, without another call.
    pub(crate) async fn ended(&mut self) {
        let next = tokio::time::timeout(SILENCE, self.0.next_request()).await;
        if let Some((request, _)) = next.expect("somebody can still call") {
            panic!("unexpected: {} {}", request.method(), request.uri());
        }
    }
}

impl Call {
    pub(crate) fn method(&self) -> &str {
        self.request.method.as_str()
    }

    pub(crate) fn path(&self) -> &str {
        self.request.uri.path()
    }

    pub(crate) fn content_type(&self) -> &str {
        self.request.headers.get(http::header::CONTENT_TYPE).unwrap().to_str().unwrap()
    }

    pub(crate) fn body(&self) -> &Value {
        &self.body
    }

    pub(crate) fn answer(self, code: u16, body: &Value) {
        let body = Body::from(body.to_string().into_bytes());
        self.reply.send_response(Response::builder().status(code).body(body).unwrap());
    }
}

/// What the server says of a call that failed.
pub(crate) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message })
}
