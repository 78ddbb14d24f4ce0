//! From a request to the handler of its endpoint.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, LINK, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use stowage_artifact::Digest;

use super::auth::{Access, Refusal};
use super::body::{Body, full};
use super::fault::{Fault, RetryAfter};
use super::rules::{self, Kind};
use super::shared::State;
use super::socket::Connection;
use super::traffic::{Place, RequestRecord, Ticket};
use super::{pull, push};
use crate::artifacts::OCI_INDEX;

/// An endpoint of the distribution specification, or ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Ping,
    Catalog,
    Token,
    Tags { repository: &'a str },
    Referrers { repository: &'a str, digest: &'a str },
    Manifest { repository: &'a str, name: &'a str },
    Blob { repository: &'a str, digest: &'a str },
    Uploads { repository: &'a str },
    Upload { repository: &'a str, id: &'a str },
    Unknown,
}

impl<'a> Route<'a> {
    pub(super) fn parse(path: &'a str) -> Self {
        match path {
            "/v2" | "/v2/" => return Self::Ping,
            "/v2/_catalog" => return Self::Catalog,
            "/token" => return Self::Token,
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Self::Unknown };
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Self::Tags { repository };
        }
        if let Some((repository, tail)) = rest.rsplit_once("/blobs/uploads") {
            match tail.strip_prefix('/') {
                None | Some("") => return Self::Uploads { repository },
                Some(id) => return Self::Upload { repository, id },
            }
        }
        if let Some((repository, digest)) = rest.rsplit_once("/blobs/") {
            return Self::Blob { repository, digest };
        }
        if let Some((repository, name)) = rest.rsplit_once("/manifests/") {
            return Self::Manifest { repository, name };
        }
        if let Some((repository, digest)) = rest.rsplit_once("/referrers/") {
            return Self::Referrers { repository, digest };
        }
        Self::Unknown
    }

    pub(super) fn repository(&self) -> Option<&'a str> {
        match self {
            Self::Tags { repository }
            | Self::Referrers { repository, .. }
            | Self::Manifest { repository, .. }
            | Self::Blob { repository, .. }
            | Self::Uploads { repository }
            | Self::Upload { repository, .. } => Some(repository),
            Self::Ping | Self::Catalog | Self::Token | Self::Unknown => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Token => Kind::Token,
            Self::Tags { .. } => Kind::Tags,
            Self::Referrers { .. } => Kind::Referrers,
            Self::Manifest { .. } => Kind::Manifest,
            Self::Blob { .. } => Kind::Blob,
            Self::Uploads { .. } | Self::Upload { .. } => Kind::Upload,
            Self::Ping | Self::Catalog | Self::Unknown => Kind::Ping,
        }
    }

    fn digest(&self) -> Option<Digest> {
        match self {
            Self::Manifest { name, .. } => name.parse().ok(),
            Self::Blob { digest, .. } | Self::Referrers { digest, .. } => digest.parse().ok(),
            _ => None,
        }
    }
}

/// One request with all that its handler needs.
pub(super) struct Exchange {
    pub(super) shared: State,
    pub(super) connection: Arc<Connection>,
    pub(super) parts: Parts,
    pub(super) ticket: Ticket,
}

impl Exchange {
    /// A parameter of the query, decoded.
    pub(super) fn query(&self, key: &str) -> Option<String> {
        let query = self.parts.uri.query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.into_owned())
    }

    /// Whether the request may go on.
    pub(super) fn check(&self, repository: Option<&str>, access: Access) -> Result<(), Refusal> {
        self.shared.gate.check(&self.parts.headers, repository, access, &self.shared.origin)
    }
}

/// Answers one request and writes it into the books.
pub(super) async fn answer(
    shared: State,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<Body> {
    let (parts, incoming) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let route = Route::parse(&path);
    let ticket = shared.traffic.request(RequestRecord {
        place: connection.place,
        connection: connection.id,
        method: parts.method.clone(),
        path: path.clone(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers.clone(),
        digest: route.digest(),
        range: None,
        status: 0,
        sent: 0,
    });
    let place = connection.place;
    let exchange = Exchange { shared: Arc::clone(&shared), connection, parts, ticket: ticket.clone() };
    let response = match (place, &route) {
        (Place::Storage, _) => pull::stored(&exchange, &path).await,
        (Place::Registry, Route::Manifest { repository, name }) if reads(&exchange) => {
            pull::manifest(&exchange, repository, name).await
        }
        (Place::Registry, Route::Blob { repository, digest }) if reads(&exchange) => {
            pull::blob(&exchange, repository, digest).await
        }
        (Place::Registry, _) => other(&exchange, &route, incoming).await,
    };
    shared.traffic.answered(&ticket, response.status().as_u16());
    response
}

fn reads(exchange: &Exchange) -> bool {
    exchange.parts.method == Method::GET || exchange.parts.method == Method::HEAD
}

async fn other(exchange: &Exchange, route: &Route<'_>, incoming: Incoming) -> Response<Body> {
    let digest = route.digest();
    let faults = exchange.shared.faults.strike(&rules::Request {
        place: Place::Registry,
        kind: route.kind(),
        method: &exchange.parts.method,
        repository: route.repository(),
        digest: digest.as_ref(),
        ranged: false,
        range: None,
        tag: false,
    });
    hold_back(exchange, &faults).await;
    if let Some(response) = replaced(exchange, route.repository(), &faults) {
        return response;
    }
    let response = match route {
        Route::Token => token(exchange, incoming).await,
        Route::Uploads { .. } | Route::Upload { .. } | Route::Manifest { .. } | Route::Blob { .. } => {
            push::answer(exchange, route, incoming).await
        }
        _ => lists(exchange, route),
    };
    with_headers(response, &faults)
}

fn lists(exchange: &Exchange, route: &Route<'_>) -> Response<Body> {
    let Exchange { shared, .. } = exchange;
    if shared.mode.ollama {
        return error(StatusCode::NOT_FOUND, "NOT_FOUND", "no such page");
    }
    if let Err(refusal) = exchange.check(route.repository(), Access::Pull) {
        return refused(refusal);
    }
    match route {
        Route::Ping => json_answer(StatusCode::OK, "application/json", &json!({})),
        Route::Catalog => json_answer(
            StatusCode::OK,
            "application/json",
            &json!({ "repositories": shared.content.repositories() }),
        ),
        Route::Tags { repository } => tags(exchange, repository),
        Route::Referrers { repository, digest } if shared.mode.referrers => {
            let Ok(digest) = digest.parse::<Digest>() else {
                return error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest");
            };
            let wanted = exchange.query("artifactType");
            let index = shared.content.referrers(repository, &digest, wanted.as_deref());
            let mut response = json_answer(StatusCode::OK, OCI_INDEX, &index);
            if wanted.is_some() {
                let filters = HeaderValue::from_static("artifactType");
                response.headers_mut().insert("oci-filters-applied", filters);
            }
            response
        }
        _ => error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such endpoint"),
    }
}

fn tags(exchange: &Exchange, repository: &str) -> Response<Body> {
    let limit = exchange.query("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let last = exchange.query("last");
    let Some((tags, more)) = exchange.shared.content.tags(repository, last.as_deref(), limit) else {
        return error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such repository");
    };
    let document = json!({ "name": repository, "tags": tags });
    let mut response = json_answer(StatusCode::OK, "application/json", &document);
    if let (true, Some(last)) = (more, tags.last()) {
        set(
            &mut response,
            LINK,
            &format!("</v2/{repository}/tags/list?n={limit}&last={last}>; rel=\"next\""),
        );
    }
    response
}

async fn token(exchange: &Exchange, incoming: Incoming) -> Response<Body> {
    let form = match http_body_util::Limited::new(incoming, 64 << 10).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return error(StatusCode::BAD_REQUEST, "UNSUPPORTED", "the form is too long"),
    };
    let query = exchange.parts.uri.query().unwrap_or_default();
    let parse = |pairs| url::form_urlencoded::parse(pairs).into_owned();
    let parameters: Vec<(String, String)> = parse(query.as_bytes()).chain(parse(&form)).collect();
    match exchange.shared.gate.issue(&exchange.parts.headers, &parameters) {
        Ok(answer) => json_answer(StatusCode::OK, "application/json", &answer),
        Err(refusal) => refused(refusal),
    }
}

/// Waits where a fault says that nothing is answered yet.
pub(super) async fn hold_back(exchange: &Exchange, faults: &[Fault]) {
    if faults.iter().any(|fault| matches!(fault, Fault::Silence)) {
        exchange.shared.faults.stall().await;
    }
}

/// The answer that a fault gives in place of the right one.
pub(super) fn replaced(
    exchange: &Exchange,
    repository: Option<&str>,
    faults: &[Fault],
) -> Option<Response<Body>> {
    let response = match faults.first()? {
        Fault::Unauthorized => {
            refused(exchange.shared.gate.challenge(repository, Access::Pull, &exchange.shared.origin))
        }
        Fault::Challenge(challenge) => refused(Refusal {
            status: StatusCode::UNAUTHORIZED,
            challenge: Some(challenge.clone()),
            code: "UNAUTHORIZED",
        }),
        Fault::Status(status, retry) => {
            let code = if *status == 429 { "TOOMANYREQUESTS" } else { "UNKNOWN" };
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = error(status, code, "the fault switch says so");
            match retry {
                RetryAfter::Silent => {}
                RetryAfter::Seconds(seconds) => set(&mut response, RETRY_AFTER, &seconds.to_string()),
                RetryAfter::Date(ahead) => {
                    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + *ahead);
                    set(&mut response, RETRY_AFTER, &date);
                }
            }
            response
        }
        Fault::Answer { status, headers, body } => {
            let mut response = Response::new(full(body.clone()));
            *response.status_mut() =
                StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            for (name, value) in headers {
                set_named(&mut response, name, value);
            }
            response
        }
        Fault::Redirect(url) => redirect(url),
        Fault::RedirectLoop => {
            let own = exchange.parts.uri.path_and_query().map_or("/", |own| own.as_str());
            redirect(&format!("{}{own}", exchange.shared.origin))
        }
        Fault::YesToHead(size) => {
            let mut response = Response::new(full(Bytes::new()));
            set(&mut response, http::header::CONTENT_LENGTH, &size.to_string());
            response
        }
        _ => return None,
    };
    Some(response)
}

/// Sets the headers that faults replace.
pub(super) fn with_headers(mut response: Response<Body>, faults: &[Fault]) -> Response<Body> {
    for fault in faults {
        if let Fault::Header(name, value) = fault {
            set_named(&mut response, name, value);
        }
    }
    response
}

/// 307 to a URL.
pub(super) fn redirect(url: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    set(&mut response, LOCATION, url);
    response
}

/// An error as the distribution specification writes one.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json_answer(status, "application/json", &json!({ "errors": [{ "code": code, "message": message }] }))
}

/// A refusal as an answer.
pub(super) fn refused(refusal: Refusal) -> Response<Body> {
    let mut response =
        error(refusal.status, refusal.code, "access to the requested resource is not authorized");
    if let Some(challenge) = refusal.challenge {
        set(&mut response, WWW_AUTHENTICATE, &challenge);
    }
    response
}

/// A document as an answer.
pub(super) fn json_answer(status: StatusCode, media_type: &str, document: &Value) -> Response<Body> {
    let mut response = Response::new(full(document.to_string()));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, media_type);
    response
}

/// Sets a header; what cannot be one is left out.
pub(super) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn set_named(response: &mut Response<Body>, name: &str, value: &str) {
    let Ok(name) = name.parse::<HeaderName>() else { return };
    if value.is_empty() {
        response.headers_mut().remove(name);
    } else {
        set(response, name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_may_have_any_depth_and_awkward_names() {
        let route = Route::Blob { repository: "a/blobs/b", digest: "sha256:00" };
        assert_eq!(Route::parse("/v2/a/blobs/b/blobs/sha256:00"), route);
        assert_eq!(Route::parse("/v2/a/b/manifests/v1"), Route::Manifest { repository: "a/b", name: "v1" });
        assert_eq!(Route::parse("/v2/a/b/blobs/uploads/"), Route::Uploads { repository: "a/b" });
        assert_eq!(Route::parse("/v2/a/blobs/uploads/7"), Route::Upload { repository: "a", id: "7" });
        assert_eq!(Route::parse("/v2/a/tags/list"), Route::Tags { repository: "a" });
        assert_eq!(Route::parse("/v2/"), Route::Ping);
        assert_eq!(Route::parse("/elsewhere"), Route::Unknown);
    }
}
