//! GET and HEAD of manifests and blobs.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_RANGES, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    RANGE,
};
use http::{Method, Response, StatusCode};
use stowage_artifact::Digest;

use super::auth::Access;
use super::body::{Body, Delivery, full, gzip};
use super::fault::{Fault, WrongRange};
use super::range::Asked;
use super::routes::{Exchange, error, hold_back, redirect, refused, replaced, set, with_headers};
use super::rules::{self, Kind};
use super::traffic::Place;
use crate::artifacts::{BlobData, DOCKER_MANIFEST};

/// A manifest or blob that can be sent.
struct Asset {
    digest: Digest,
    data: BlobData,
    media_type: String,
}

/// Where a request stands before its answer.
struct Asking<'a> {
    kind: Kind,
    repository: &'a str,
    tag: Option<&'a str>,
    asset: Option<Asset>,
    asked: Asked,
}

impl<'a> Asking<'a> {
    fn new(exchange: &Exchange, kind: Kind, repository: &'a str, asset: Option<Asset>) -> Self {
        let header = exchange.parts.headers.get(RANGE).and_then(|value| value.to_str().ok());
        // Only blobs are served in parts.
        let header = header.filter(|_| kind == Kind::Blob);
        let total = asset.as_ref().map_or(0, |asset| asset.data.size());
        Self { kind, repository, tag: None, asset, asked: Asked::parse(header, total) }
    }

    fn range(&self) -> Option<Range<u64>> {
        let asset = self.asset.as_ref()?;
        match &self.asked {
            Asked::Whole => Some(0..asset.data.size()),
            Asked::Part(range) => Some(range.clone()),
            Asked::Unsatisfiable => None,
        }
    }

    fn strike(&self, exchange: &Exchange, digest: Option<&Digest>) -> Vec<Fault> {
        exchange.shared.faults.strike(&rules::Request {
            place: exchange.connection.place,
            kind: self.kind,
            method: &exchange.parts.method,
            repository: Some(self.repository),
            digest,
            ranged: matches!(self.asked, Asked::Part(_)),
            range: self.range(),
            tag: self.tag.is_some(),
        })
    }
}

/// A manifest by tag or digest.
pub(super) async fn manifest(exchange: &Exchange, repository: &str, name: &str) -> Response<Body> {
    let mode = &exchange.shared.mode;
    if mode.tags_only && name.parse::<Digest>().is_ok() {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "internal error");
    }
    let found = exchange.shared.content.manifest(repository, name).map(|(digest, stored)| Asset {
        digest,
        data: BlobData::Memory(stored.bytes),
        media_type: if mode.ollama { DOCKER_MANIFEST.into() } else { stored.media_type },
    });
    let found = found.filter(|_| !mode.ollama || accepts(exchange, DOCKER_MANIFEST));
    let digest = found.as_ref().map(|asset| asset.digest.clone()).or_else(|| name.parse().ok());
    let mut asking = Asking::new(exchange, Kind::Manifest, repository, found);
    asking.tag = name.parse::<Digest>().is_err().then_some(name);
    answer(exchange, asking, digest.as_ref()).await
}

/// Whether the client says that it reads a type; one that says nothing reads all.
fn accepts(exchange: &Exchange, media_type: &str) -> bool {
    let mut values = exchange.parts.headers.get_all(ACCEPT).iter().peekable();
    let fits = |value: &str| {
        let mut types = value.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
        types.any(|one| matches!(one, "*/*" | "application/*") || one.eq_ignore_ascii_case(media_type))
    };
    values.peek().is_none() || values.any(|value| value.to_str().is_ok_and(fits))
}

/// A blob from the registry itself.
pub(super) async fn blob(exchange: &Exchange, repository: &str, digest: &str) -> Response<Body> {
    let Ok(digest) = digest.parse::<Digest>() else {
        return error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest");
    };
    let found = exchange.shared.content.blob(repository, &digest).map(|data| asset(&digest, data));
    let asking = Asking::new(exchange, Kind::Blob, repository, found);
    answer(exchange, asking, Some(&digest)).await
}

/// A blob from the other host, by a signed URL.
pub(super) async fn stored(exchange: &Exchange, path: &str) -> Response<Body> {
    if !path.starts_with("/blob/") {
        return error(StatusCode::NOT_FOUND, "NoSuchKey", "no such object");
    }
    if exchange.parts.headers.contains_key(AUTHORIZATION) {
        // As object stores do: two kinds of credentials are one too many.
        return error(StatusCode::BAD_REQUEST, "InvalidArgument", "only one auth mechanism is allowed");
    }
    let signature = exchange.query("X-Signature").unwrap_or_default();
    let Some((repository, digest)) = exchange.shared.presigned.open(&signature) else {
        return error(StatusCode::FORBIDDEN, "AccessDenied", "the request has expired");
    };
    let found = exchange.shared.content.blob(&repository, &digest).map(|data| asset(&digest, data));
    let asking = Asking::new(exchange, Kind::Blob, &repository, found);
    answer(exchange, asking, Some(&digest)).await
}

fn asset(digest: &Digest, data: BlobData) -> Asset {
    Asset { digest: digest.clone(), data, media_type: "application/octet-stream".into() }
}

async fn answer(exchange: &Exchange, asking: Asking<'_>, digest: Option<&Digest>) -> Response<Body> {
    let shared = &exchange.shared;
    let faults = asking.strike(exchange, digest);
    hold_back(exchange, &faults).await;
    if let Some(response) = replaced(exchange, Some(asking.repository), &faults) {
        return response;
    }
    let at_registry = exchange.connection.place == Place::Registry;
    if at_registry && let Err(refusal) = exchange.check(Some(asking.repository), Access::Pull) {
        return refused(refusal);
    }
    let signed = faults.iter().find_map(|fault| match fault {
        Fault::Presigned { uses, lifetime } => Some((*uses, *lifetime)),
        _ => None,
    });
    let Some(asset) = &asking.asset else {
        let code = if asking.kind == Kind::Blob { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" };
        return error(StatusCode::NOT_FOUND, code, "not known to this registry");
    };
    let redirects = asking.kind == Kind::Blob && at_registry && exchange.parts.method == Method::GET;
    if redirects && let Some((uses, lifetime)) = signed.or(shared.mode.redirect) {
        let path = shared.presigned.sign(asking.repository, &asset.digest, uses, lifetime);
        return redirect(&format!("{}{path}", shared.storage_origin));
    }
    let unsatisfiable = faults.iter().any(|fault| matches!(fault, Fault::RangeNotSatisfiable));
    let response = if let Some(range) = asking.range().filter(|_| !unsatisfiable) {
        deliver(exchange, &asking, asset, range, &faults).await
    } else {
        let mut response =
            error(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", "the range is not in the blob");
        set(&mut response, CONTENT_RANGE, &format!("bytes */{}", asset.data.size()));
        response
    };
    for fault in &faults {
        if let (Fault::MoveTag(to), Some(tag)) = (fault, asking.tag) {
            shared.content.tag(asking.repository, tag, to.clone());
        }
    }
    with_headers(response, &faults)
}

async fn deliver(
    exchange: &Exchange,
    asking: &Asking<'_>,
    asset: &Asset,
    range: Range<u64>,
    faults: &[Fault],
) -> Response<Body> {
    let has = |wanted: fn(&Fault) -> bool| faults.iter().any(wanted);
    let total = asset.data.size();
    let whole = has(|fault| matches!(fault, Fault::IgnoreRange | Fault::Gzip | Fault::Padded(_)));
    let range = if whole { 0..total } else { range };
    let partial = matches!(asking.asked, Asked::Part(_)) && !whole;

    let mut response = Response::new(full(Bytes::new()));
    set(&mut response, CONTENT_TYPE, &asset.media_type);
    if asking.kind == Kind::Blob {
        set(&mut response, ACCEPT_RANGES, "bytes");
    }
    if exchange.connection.place == Place::Registry {
        let name = http::HeaderName::from_static("docker-content-digest");
        set(&mut response, name, &asset.digest.to_string());
    }
    if partial {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        if let Some(value) = content_range(&range, total, faults) {
            set(&mut response, CONTENT_RANGE, &value);
        }
    }
    let (data, range) = match recoded(asset, faults) {
        Ok(Some(data)) => {
            let end = data.size();
            (data, 0..end)
        }
        Ok(None) => (asset.data.clone(), range),
        Err(failure) => return error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &failure.to_string()),
    };
    if has(|fault| matches!(fault, Fault::Gzip)) {
        set(&mut response, CONTENT_ENCODING, "gzip");
    }
    let extra = faults.iter().find_map(|fault| match fault {
        Fault::TooLong(bytes) => Some(*bytes),
        _ => None,
    });
    if !has(|fault| matches!(fault, Fault::NoLength | Fault::Endless)) {
        let length = range.end - range.start + extra.unwrap_or(0);
        set(&mut response, CONTENT_LENGTH, &length.to_string());
    }
    if exchange.parts.method == Method::HEAD {
        return response;
    }
    exchange.shared.traffic.asked_for(&exchange.ticket, range.clone());
    let ticket = exchange.ticket.clone().for_digest(asset.digest.clone());
    let download = exchange.shared.traffic.download_begins(ticket);
    match Delivery::new(&exchange.shared, &exchange.connection, download, &data, range, faults).await {
        Ok(delivery) => {
            *response.body_mut() = delivery.into_body();
            response
        }
        Err(failure) => error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &failure.to_string()),
    }
}

fn content_range(range: &Range<u64>, total: u64, faults: &[Fault]) -> Option<String> {
    let wrong = faults.iter().find_map(|fault| match fault {
        Fault::ContentRange(wrong) => Some(*wrong),
        _ => None,
    });
    let (first, last) = (range.start, range.end - 1);
    Some(match wrong {
        None => format!("bytes {first}-{last}/{total}"),
        Some(WrongRange::Starts(by)) => format!("bytes {}-{last}/{total}", first + by),
        Some(WrongRange::Ends(by)) => format!("bytes {first}-{}/{total}", last + by),
        Some(WrongRange::Total(other)) => format!("bytes {first}-{last}/{other}"),
        Some(WrongRange::Missing) => return None,
        Some(WrongRange::Garbage) => "bytes some-of/them".into(),
    })
}

/// The document in another coding, where a fault wants that; it is held in memory then.
fn recoded(asset: &Asset, faults: &[Fault]) -> std::io::Result<Option<BlobData>> {
    let mut recoded = None;
    for fault in faults {
        match fault {
            Fault::Gzip => recoded = Some(gzip(&asset.data.read_range(0..asset.data.size())?).into()),
            Fault::Padded(upto) => {
                let mut bytes = BytesMut::from(asset.data.read_range(0..asset.data.size())?);
                bytes.resize(bytes.len().max(*upto as usize), b' ');
                recoded = Some(BlobData::Memory(bytes.freeze()));
            }
            _ => {}
        }
    }
    Ok(recoded)
}
