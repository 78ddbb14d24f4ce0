//! A mocked API server for tests: every call is expected by name, and one too many or too few fails the test.

use futures::FutureExt as _;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tower_test::mock::{Handle, Mock, SendResponse};

type Service = Mock<Request<Body>, Response<Body>>;

/// The server's side of a client.
pub(crate) struct ApiServer {
    client: Client,
    calls: Mutex<Handle<Request<Body>, Response<Body>>>,
}

/// A call that waits for its answer.
pub(crate) struct Call {
    method: Method,
    path: String,
    query: String,
    body: Value,
    send: SendResponse<Response<Body>>,
}

impl ApiServer {
    /// A server without any call, and a client of it.
    pub(crate) fn new() -> Self {
        let (service, calls): (Service, _) = tower_test::mock::pair();
        Self { client: Client::new(service, "default"), calls: Mutex::new(calls) }
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Takes the next call.
    pub(crate) async fn next(&self) -> Call {
        let (request, send) = self.calls.lock().await.next_request().await.expect("the client has gone away");
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.expect("a body in memory");
        Call {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            send,
        }
    }

    /// Takes the next call, which must be this one.
    pub(crate) async fn expect(&self, method: &str, path: &str) -> Call {
        let call = self.next().await;
        assert_eq!((call.method.as_str(), call.path.as_str()), (method, path));
        call
    }

    /// Fails when there is a call that nobody expected.
    pub(crate) fn nothing_more(&self) {
        if let Some(call) = self.next().now_or_never() {
            panic!("an unexpected call: {} {}", call.method, call.path);
        }
    }
}

impl Call {
    /// Whether it is this one.
    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        (self.method.as_str(), self.path.as_str()) == (method, path)
    }

    /// What was sent; null when it was no JSON.
    pub(crate) fn body(&self) -> &Value {
        &self.body
    }

    /// The query as it was sent.
    pub(crate) fn query(&self) -> &str {
        &self.query
    }

    /// Answers.
    pub(crate) fn answer(self, status: u16, document: &Value) {
        self.text(status, &document.to_string());
    }

    /// Answers with any text.
    pub(crate) fn text(self, status: u16, text: &str) {
        let body = Body::from(text.as_bytes().to_vec());
        self.send.send_response(Response::builder().status(status).body(body).expect("a response"));
    }

    /// Answers with an object that echoes what was sent.
    pub(crate) fn echo(self) {
        let body = self.body.clone();
        self.answer(201, &body);
    }

    /// Answers as the API server refuses.
    pub(crate) fn refuse(self, code: u16, reason: &str, message: &str) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "reason": reason, "message": message, "code": code,
        });
        self.answer(code, &status);
    }
}

/// A list as the API server answers one.
pub(crate) fn list(kind: &str, items: &[Value]) -> Value {
    json!({ "kind": kind, "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items })
}
