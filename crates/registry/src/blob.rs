//! Blobs: authorised streams of a range, and small ones as a whole.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt as _};
use reqwest::Method;
use reqwest::header::CONTENT_RANGE;
use stowage_artifact::{Descriptor, Digest, Hasher};
use stowage_store::{BlobBody, BlobSource, SourceError};
use tokio::time::Instant;
use url::Url;

use crate::backoff::Tries;
use crate::body::Body;
use crate::error::RegistryError;
use crate::exchange::{Call, Request};
use crate::range::{BrokenPromise, judge};
use crate::repository::Repository;
use crate::response::Answer;

/// How long the link that a registry redirected to is used again. Registries sign them for minutes.
const LINK_AGE: Duration = Duration::from_mins(1);
const MOST_LINKS: usize = 256;

/// Where the registry redirected to, per blob: the next part of a blob need not ask the registry again.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<Digest, (Url, Instant)>>);

impl Links {
    fn get(&self, digest: &Digest) -> Option<Url> {
        let links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.get(digest).filter(|(_, since)| since.elapsed() < LINK_AGE).map(|(url, _)| url.clone())
    }

    fn put(&self, digest: &Digest, url: Url) {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= MOST_LINKS {
            links.retain(|_, (_, since)| since.elapsed() < LINK_AGE);
        }
        if links.len() < MOST_LINKS {
            links.insert(digest.clone(), (url, Instant::now()));
        }
    }

    fn forget(&self, digest: &Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }
}

impl Repository {
    /// The size of a blob, or `None` when the repository does not have it. 401 and 403 are errors.
    pub async fn head_blob(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let what = format!("look up blob {digest} in {}", self.describe_text());
        let mut tries = Tries::new(&self.inner().options);
        let answer = loop {
            match self.short(Method::HEAD, format!("blobs/{digest}"), None, &what).await {
                Ok(answer) => break answer,
                Err(error) => tries.again(error).await?,
            }
        };
        match answer.status().as_u16() {
            200 => {}
            404 | 410 => return Ok(None),
            _ => return Err(answer.refusal(&what, self.has_credential())),
        }
        if let Some(size) = answer.content_length() {
            return Ok(Some(size));
        }
        // A HEAD need not say the length; the first byte of a read does.
        let total = self.open(digest, Some(&(0..1))).await?.total;
        total.map(Some).ok_or_else(|| RegistryError::Protocol {
            what,
            reason: format!("{} does not say how long it is", self.registry()),
        })
    }

    /// A whole blob of at most `max` bytes, with its size and digest checked.
    pub async fn small_blob(&self, descriptor: &Descriptor, max: u64) -> Result<Bytes, RegistryError> {
        let digest = &descriptor.digest;
        let what = self.blob_text(digest);
        if descriptor.size > max {
            return Err(RegistryError::TooLarge { what, limit: max });
        }
        let mut tries = Tries::new(&self.inner().options);
        let mut corrupted = false;
        loop {
            match self.small_blob_once(descriptor, &what).await {
                Ok(bytes) => return Ok(bytes),
                Err(RegistryError::DigestMismatch { .. }) if !corrupted => corrupted = true,
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn small_blob_once(&self, descriptor: &Descriptor, what: &str) -> Result<Bytes, RegistryError> {
        let bytes = self.collect(&descriptor.digest, None, descriptor.size, what).await?;
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != descriptor.digest {
            let (host, expected) = (self.registry().to_owned(), descriptor.digest.clone());
            return Err(RegistryError::DigestMismatch { what: what.to_owned(), host, expected, found });
        }
        Ok(bytes)
    }

    /// Exactly the bytes of a range, not checked against the digest. From a server without ranges the blob is
    /// read up to the end of the range.
    pub async fn read_range(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, RegistryError> {
        let what = self.blob_text(digest);
        let length = range.end.saturating_sub(range.start);
        let mut tries = Tries::new(&self.inner().options);
        loop {
            match self.collect(digest, Some(&range), length, &what).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// Reads `length` bytes from the start of a range (or of the blob). A whole blob must end there too.
    async fn collect(
        &self,
        digest: &Digest,
        range: Option<&Range<u64>>,
        length: u64,
        what: &str,
    ) -> Result<Bytes, RegistryError> {
        let mut opened = self.open(digest, range).await?;
        let start = range.map_or(0, |range| range.start);
        let mut skip = start.saturating_sub(opened.start);
        let mut bytes = BytesMut::new();
        while let Some(mut piece) = opened.body.next().await? {
            let skipped = skip.min(piece.len() as u64);
            skip -= skipped;
            let mut piece = piece.split_off(skipped as usize);
            let wanted = length - bytes.len() as u64;
            if piece.len() as u64 > wanted {
                if range.is_none() {
                    let reason = format!("{} sends more bytes than the descriptor's size", self.registry());
                    return Err(RegistryError::Protocol { what: what.to_owned(), reason });
                }
                piece.truncate(wanted as usize);
            }
            bytes.extend_from_slice(&piece);
            if range.is_some() && bytes.len() as u64 == length {
                break;
            }
        }
        if (bytes.len() as u64) < length {
            let reason = format!("{} ended after {} of {length} bytes", self.registry(), bytes.len());
            return Err(RegistryError::Unavailable { what: what.to_owned(), reason, retry_after: None });
        }
        Ok(bytes.freeze())
    }

    fn blob_text(&self, digest: &Digest) -> String {
        format!("read blob {digest} of {}", self.describe_text())
    }

    /// One try at a stream of a range or of the whole blob. Bodies are not retried here: who reads knows where
    /// to go on.
    async fn open(&self, digest: &Digest, range: Option<&Range<u64>>) -> Result<Opened, RegistryError> {
        let what = self.blob_text(digest);
        if range.is_some_and(Range::is_empty) {
            return Err(RegistryError::RangeRefused {
                what,
                reason: "an empty range was asked for".to_owned(),
            });
        }
        let call = Call {
            method: Method::GET,
            path: format!("blobs/{digest}"),
            accept: None,
            range,
            long: true,
            what: &what,
        };
        let answer = if let Some(answer) = self.open_link(digest, &call).await? {
            answer
        } else {
            let answer = self.exchange(&call).await?;
            if answer.crossed && answer.status().is_success() {
                self.links().put(digest, answer.url.clone());
            }
            answer
        };
        if !matches!(answer.status().as_u16(), 200 | 206 | 416) {
            return Err(answer.refusal(&what, self.has_credential()));
        }
        answer.refuse_encoding(&what)?;
        let content_range =
            answer.headers().get(CONTENT_RANGE).map(|value| value.to_str().unwrap_or_default());
        let promise =
            judge(answer.status(), content_range, answer.content_length(), range).map_err(|broken| {
                let (what, host) = (what.clone(), answer.host());
                match broken {
                    BrokenPromise::Range(reason) => RegistryError::RangeRefused {
                        what,
                        reason: format!("the answer of {host} is not usable: {reason}"),
                    },
                    BrokenPromise::Protocol(reason) => RegistryError::Protocol {
                        what,
                        reason: format!("the answer of {host} is not usable: {reason}"),
                    },
                }
            })?;
        let Answer { response, url, .. } = answer;
        let left = promise.end.map(|end| end - promise.start);
        let body = Body { response, url, left, inactivity: self.inner().options.inactivity, what };
        Ok(Opened {
            start: promise.start,
            end: promise.end,
            total: promise.total,
            ranged: promise.ranged,
            body,
        })
    }

    /// Tries the link of an earlier redirect. `None` means: ask the registry.
    async fn open_link(&self, digest: &Digest, call: &Call<'_>) -> Result<Option<Answer>, RegistryError> {
        let Some(url) = self.links().get(digest) else { return Ok(None) };
        let base = self.base(call.what).await?;
        let answer = self
            .inner()
            .send(Request {
                client: self.inner().client(true),
                method: Method::GET,
                url,
                registry: &base,
                headers: call.headers()?,
                authorization: None,
                form: None,
                what: call.what,
            })
            .await;
        match answer {
            Ok(answer) if matches!(answer.status().as_u16(), 200 | 206 | 416) => Ok(Some(answer)),
            Err(error @ RegistryError::RateLimited { .. }) => Err(error),
            Ok(answer) if answer.status().as_u16() == 429 => Ok(Some(answer)),
            // Expired, moved or broken: the registry will know a new one.
            Ok(_) | Err(_) => {
                self.links().forget(digest);
                Ok(None)
            }
        }
    }
}

/// An answer that kept to the rules so far.
struct Opened {
    start: u64,
    end: Option<u64>,
    total: Option<u64>,
    ranged: bool,
    body: Body,
}

impl BlobSource for Repository {
    fn read<'a>(
        &'a self,
        digest: &'a Digest,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<BlobBody, SourceError>> {
        async move {
            let Opened { start, end, total, ranged, body } = self.open(digest, range.as_ref()).await?;
            Ok(BlobBody { start, end, total, ranged, stream: body.stream() })
        }
        .boxed()
    }

    fn describe(&self) -> String {
        self.describe_text()
    }

    fn host(&self) -> &str {
        self.registry()
    }
}
