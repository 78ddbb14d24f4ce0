//! Uploads of blobs and manifests, and deletions.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use stowage_artifact::{Algorithm, Digest};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::auth::Access;
use super::body::{Body, full};
use super::routes::{Exchange, Route, error, refused, set};
use crate::artifacts::{BlobData, OCI_MANIFEST, StoredFile};

/// Uploads up to this size are kept in memory once they are complete.
const IN_MEMORY: u64 = 1 << 20;
/// The largest manifest taken over the wire.
const MAX_MANIFEST: usize = 16 << 20;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

struct Upload {
    file: NamedTempFile,
    size: u64,
}

impl Upload {
    fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: NamedTempFile::new_in(directory)?, size: 0 })
    }

    /// Takes the rest of a body; what arrived before an error stays.
    async fn append(&mut self, mut incoming: Incoming) -> io::Result<()> {
        let mut file = tokio::fs::OpenOptions::new().append(true).open(self.file.path()).await?;
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(io::Error::other)?;
            if let Some(bytes) = frame.data_ref() {
                file.write_all(bytes).await?;
                self.size += bytes.len() as u64;
            }
        }
        file.flush().await
    }

    /// The finished blob, hashed.
    fn finish(self, algorithm: Algorithm) -> io::Result<(Digest, BlobData)> {
        let data = if self.size <= IN_MEMORY {
            BlobData::from(std::fs::read(self.file.path())?)
        } else {
            let path = Arc::new(StoredFile::Temporary(self.file.into_temp_path()));
            BlobData::File { path, size: self.size }
        };
        Ok((data.digest(algorithm)?, data))
    }
}

type Session = Arc<tokio::sync::Mutex<Option<Upload>>>;

/// The uploads under way.
#[derive(Default)]
pub(super) struct Uploads {
    sessions: Mutex<HashMap<String, Session>>,
}

impl Uploads {
    fn begin(&self, upload: Upload) -> String {
        let id = format!("{:032x}", rand::random::<u128>());
        self.sessions().insert(id.clone(), Arc::new(tokio::sync::Mutex::new(Some(upload))));
        id
    }

    fn find(&self, id: &str) -> Option<Session> {
        self.sessions().get(id).cloned()
    }

    fn end(&self, id: &str) -> bool {
        self.sessions().remove(id).is_some()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers everything that writes.
pub(super) async fn answer(exchange: &Exchange, route: &Route<'_>, incoming: Incoming) -> Response<Body> {
    if let Err(refusal) = exchange.check(route.repository(), Access::Push) {
        return refused(refusal);
    }
    let method = &exchange.parts.method;
    match route {
        Route::Uploads { repository } if method == Method::POST => {
            begin(exchange, repository, incoming).await
        }
        Route::Upload { repository, id } => upload(exchange, repository, id, incoming).await,
        Route::Manifest { repository, name } if method == Method::PUT => {
            put_manifest(exchange, repository, name, incoming).await
        }
        Route::Manifest { repository, name } if method == Method::DELETE => {
            deleted(exchange.shared.content.delete_manifest(repository, name), "MANIFEST_UNKNOWN")
        }
        Route::Blob { repository, digest } if method == Method::DELETE => {
            let known =
                digest.parse().is_ok_and(|digest| exchange.shared.content.delete_blob(repository, &digest));
            deleted(known, "BLOB_UNKNOWN")
        }
        _ => error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "not a method of this endpoint"),
    }
}

async fn begin(exchange: &Exchange, repository: &str, incoming: Incoming) -> Response<Body> {
    let content = &exchange.shared.content;
    if let (Some(mount), Some(from)) = (exchange.query("mount"), exchange.query("from"))
        && let Ok(digest) = mount.parse::<Digest>()
        && exchange.check(Some(&from), Access::Pull).is_ok()
        && let Some(data) = content.blob(&from, &digest)
    {
        content.put_blob(repository, digest.clone(), data);
        return created(&format!("/v2/{repository}/blobs/{digest}"), &digest);
    }
    let mut fresh = match Upload::new(exchange.shared.directory.path()) {
        Ok(upload) => upload,
        Err(failure) => return failed(&failure),
    };
    if let Some(digest) = exchange.query("digest") {
        return match fresh.append(incoming).await {
            Ok(()) => commit(exchange, repository, fresh, &digest).await,
            Err(failure) => failed(&failure),
        };
    }
    let id = exchange.shared.uploads.begin(fresh);
    progress(StatusCode::ACCEPTED, repository, &id, 0)
}

async fn upload(exchange: &Exchange, repository: &str, id: &str, incoming: Incoming) -> Response<Body> {
    let unknown = || error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "no such upload");
    let Some(session) = exchange.shared.uploads.find(id) else { return unknown() };
    let mut slot = session.lock().await;
    let Some(open) = slot.as_mut() else { return unknown() };
    match exchange.parts.method {
        Method::GET => progress(StatusCode::NO_CONTENT, repository, id, open.size),
        Method::DELETE => {
            exchange.shared.uploads.end(id);
            *slot = None;
            empty(StatusCode::NO_CONTENT)
        }
        Method::PATCH | Method::PUT => {
            if chunk_start(exchange).is_some_and(|start| start != open.size) {
                return progress(StatusCode::RANGE_NOT_SATISFIABLE, repository, id, open.size);
            }
            if let Err(failure) = open.append(incoming).await {
                return failed(&failure);
            }
            if exchange.parts.method == Method::PATCH {
                return progress(StatusCode::ACCEPTED, repository, id, open.size);
            }
            exchange.shared.uploads.end(id);
            let Some(done) = slot.take() else { return unknown() };
            commit(exchange, repository, done, &exchange.query("digest").unwrap_or_default()).await
        }
        _ => error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "not a method of an upload"),
    }
}

/// Where a chunk says that it starts.
fn chunk_start(exchange: &Exchange) -> Option<u64> {
    let header = exchange.parts.headers.get(CONTENT_RANGE)?.to_str().ok()?;
    header.trim_start_matches("bytes ").split('-').next()?.parse().ok()
}

async fn commit(exchange: &Exchange, repository: &str, upload: Upload, claimed: &str) -> Response<Body> {
    let Ok(claimed) = claimed.parse::<Digest>() else {
        return error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest");
    };
    let algorithm = claimed.algorithm();
    let finished = tokio::task::spawn_blocking(move || upload.finish(algorithm)).await;
    match finished.unwrap_or_else(|failure| Err(io::Error::other(failure))) {
        Ok((digest, data)) if digest == claimed => {
            exchange.shared.content.put_blob(repository, digest.clone(), data);
            created(&format!("/v2/{repository}/blobs/{digest}"), &digest)
        }
        Ok((digest, _)) => {
            let message = format!("the blob is {digest}, not {claimed}");
            error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", &message)
        }
        Err(failure) => failed(&failure),
    }
}

async fn put_manifest(
    exchange: &Exchange,
    repository: &str,
    name: &str,
    incoming: Incoming,
) -> Response<Body> {
    let Ok(body) = Limited::new(incoming, MAX_MANIFEST).collect().await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", "the manifest did not come whole");
    };
    let bytes = body.to_bytes();
    if serde_json::from_slice::<Value>(&bytes).is_err() {
        return error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "the manifest is no JSON");
    }
    let by = name.parse::<Digest>().ok();
    if by.as_ref().is_some_and(|by| Digest::of(by.algorithm(), &bytes) != *by) {
        return error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "the manifest has another digest");
    }
    let media_type = exchange.parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content = &exchange.shared.content;
    let digest = content.put_manifest(repository, media_type.unwrap_or(OCI_MANIFEST), bytes, by.as_ref());
    if by.is_none() {
        content.tag(repository, name, digest.clone());
    }
    let mut response = created(&format!("/v2/{repository}/manifests/{digest}"), &digest);
    let stored = content.manifest(repository, &digest.to_string());
    let subject = stored.and_then(|(_, manifest)| manifest.subject());
    if let Some(subject) = subject.filter(|_| exchange.shared.mode.referrers) {
        set(&mut response, SUBJECT, &subject);
    }
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn created(location: &str, digest: &Digest) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, LOCATION, location);
    set(&mut response, DIGEST, &digest.to_string());
    response
}

fn progress(status: StatusCode, repository: &str, id: &str, size: u64) -> Response<Body> {
    let mut response = empty(status);
    set(&mut response, LOCATION, &format!("/v2/{repository}/blobs/uploads/{id}"));
    set(&mut response, RANGE, &format!("0-{}", size.saturating_sub(1)));
    set(&mut response, UPLOAD, id);
    response
}

fn deleted(known: bool, code: &str) -> Response<Body> {
    if known {
        empty(StatusCode::ACCEPTED)
    } else {
        error(StatusCode::NOT_FOUND, code, "not known to this registry")
    }
}

fn failed(failure: &io::Error) -> Response<Body> {
    error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &failure.to_string())
}
