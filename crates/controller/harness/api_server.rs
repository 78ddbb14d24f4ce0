//! An API server in which every call is written down beforehand: a call too many, too few or in another order fails the
//! test.

use std::time::Duration;

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{self, Handle, SendResponse};

/// How long a call may be awaited on a slow machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The other end of a client.
pub(crate) struct ApiServer(Handle<Request<Body>, Response<Body>>);

/// A call as it came.
#[derive(Debug)]
#[allow(dead_code, reason = "the tests through the socket look at paths only")]
pub(crate) struct Call {
    /// The decoded query.
    pub(crate) query: String,
    /// The document that was sent; null where there was none.
    pub(crate) body: Value,
}

/// A client and the server that it speaks to.
pub(crate) fn pair() -> (Client, ApiServer) {
    let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
    (Client::new(service, "default"), ApiServer(handle))
}

/// A call that has no answer yet.
pub(crate) struct Waiting {
    call: Call,
    send: SendResponse<Response<Body>>,
}

impl Waiting {
    pub(crate) fn answer(self, status: u16, answer: &Value) -> Call {
        let bytes = serde_json::to_vec(answer).unwrap();
        self.send.send_response(Response::builder().status(status).body(Body::from(bytes)).unwrap());
        self.call
    }
}

impl ApiServer {
    /// Awaits this call and answers it.
    pub(crate) async fn answer(&mut self, method: Method, path: &str, status: u16, answer: Value) -> Call {
        let waiting = self.receive(method, path).await;
        waiting.answer(status, &answer)
    }

    /// Awaits this call, which waits for its answer from now on.
    pub(crate) async fn receive(&mut self, method: Method, path: &str) -> Waiting {
        let next = tokio::time::timeout(LIMIT, self.0.next_request());
        let next = next.await.unwrap_or_else(|_| panic!("{method} {path} did not come"));
        let (request, send) =
            next.unwrap_or_else(|| panic!("{method} {path} did not come; the client is gone"));
        let found = format!("{} {}", request.method(), request.uri().path());
        assert_eq!(found, format!("{method} {path}"));
        let query = request.uri().query().unwrap_or_default().replace("%3D", "=").replace("%2C", ",");
        let query = query.replace("%2F", "/");
        let bytes = request.into_body().collect_bytes().await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Waiting { call: Call { query, body }, send }
    }

    /// The same for an object that is not there.
    pub(crate) async fn absent(&mut self, method: Method, path: &str) -> Call {
        self.refuse(method, path, 404, "NotFound").await
    }

    /// Awaits this call and answers with an error of the API server.
    pub(crate) async fn refuse(&mut self, method: Method, path: &str, code: u16, reason: &str) -> Call {
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure",
            "code": code, "reason": reason, "message": format!("{reason} says the test"),
        });
        self.answer(method, path, code, status).await
    }

    /// Asserts that nothing more comes until every client is gone.
    pub(crate) async fn done(mut self) {
        let next = tokio::time::timeout(LIMIT, self.0.next_request());
        if let Some((request, _)) = next.await.expect("a client is still there") {
            panic!("unexpected: {} {}", request.method(), request.uri());
        }
    }
}
