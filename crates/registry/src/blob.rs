//! Blobs at one host: authorised streams of a range, and small ones as a whole. One try each.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Method;
use reqwest::header::CONTENT_RANGE;
use stowage_artifact::{Descriptor, Digest, Hasher};
use tokio::time::Instant;
use url::Url;

use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::exchange::{Call, Request};
use crate::range::{BrokenPromise, judge};
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

impl Endpoint {
    /// The size of a blob, or `None` when the host does not have it. 401 and 403 are errors.
    pub(crate) async fn head_blob(&self, digest: &Digest, what: &str) -> Result<Option<u64>, RegistryError> {
        let path = format!("blobs/{digest}");
        let call = Call { method: Method::HEAD, path, accept: None, range: None, long: false, what };
        let answer = self.exchange(&call).await?;
        match answer.status().as_u16() {
            200 => match answer.content_length() {
                Some(size) => Ok(Some(size)),
                // A HEAD need not say the length; the first byte of a read does.
                None => self.size_by_reading(digest, what).await,
            },
            404 | 410 => Ok(None),
            // There is no HEAD, or the storage's link is good for a GET alone.
            405 | 501 => self.size_by_reading(digest, what).await,
            400 | 401 | 403 if answer.crossed => self.size_by_reading(digest, what).await,
            _ => Err(answer.refusal(what, self.has_credential())),
        }
    }

    async fn size_by_reading(&self, digest: &Digest, what: &str) -> Result<Option<u64>, RegistryError> {
        let total = match self.open(digest, Some(&(0..1)), what).await {
            Ok(opened) => opened.size(),
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        total.map(Some).ok_or_else(|| RegistryError::Protocol {
            what: what.to_owned(),
            reason: format!("{} does not say how long it is", self.shown()),
        })
    }

    /// A whole blob, with its size and digest checked.
    pub(crate) async fn small_blob(
        &self,
        descriptor: &Descriptor,
        what: &str,
    ) -> Result<Bytes, RegistryError> {
        let bytes = self.collect(&descriptor.digest, None, descriptor.size, what).await?;
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != descriptor.digest {
            let (host, expected) = (self.shown().to_owned(), descriptor.digest.clone());
            return Err(RegistryError::DigestMismatch { what: what.to_owned(), host, expected, found });
        }
        Ok(bytes)
    }

    /// Reads `length` bytes from the start of a range (or of the blob). A whole blob must end there too.
    pub(crate) async fn collect(
        &self,
        digest: &Digest,
        range: Option<&Range<u64>>,
        length: u64,
        what: &str,
    ) -> Result<Bytes, RegistryError> {
        let mut opened = self.open(digest, range, what).await?;
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
                    let reason = format!("{} sends more bytes than the descriptor's size", self.shown());
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
            let reason = format!("{} ended after {} of {length} bytes", self.shown(), bytes.len());
            return Err(RegistryError::Unavailable { what: what.to_owned(), reason, retry_after: None });
        }
        Ok(bytes.freeze())
    }

    /// One try at a stream of a range or of the whole blob. Bodies are not retried here: who reads knows where
    /// to go on.
    pub(crate) async fn open(
        &self,
        digest: &Digest,
        range: Option<&Range<u64>>,
        what: &str,
    ) -> Result<Opened, RegistryError> {
        if range.is_some_and(Range::is_empty) {
            return Err(RegistryError::RangeRefused {
                what: what.to_owned(),
                reason: "an empty range was asked for".to_owned(),
            });
        }
        let call = Call {
            method: Method::GET,
            path: format!("blobs/{digest}"),
            accept: None,
            range,
            long: true,
            what,
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
            return Err(answer.refusal(what, self.has_credential()));
        }
        answer.refuse_encoding(what)?;
        let content_range =
            answer.headers().get(CONTENT_RANGE).map(|value| value.to_str().unwrap_or_default());
        let promise =
            judge(answer.status(), content_range, answer.content_length(), range).map_err(|broken| {
                let (what, host) = (what.to_owned(), answer.host());
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
        let body =
            Body { response, url, left, inactivity: self.inner().options.inactivity, what: what.to_owned() };
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
                access: self.access(),
                long: true,
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
pub(crate) struct Opened {
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
    pub(crate) total: Option<u64>,
    pub(crate) ranged: bool,
    pub(crate) body: Body,
}

impl Opened {
    /// The host's own word on the size of the blob.
    pub(crate) fn size(&self) -> Option<u64> {
        self.total.or(if self.ranged { None } else { self.end })
    }
}
