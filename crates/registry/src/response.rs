//! What answers have in common: their status, their encoding, and small bodies.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use crate::error::RegistryError;
use crate::network_error::{silent, translate};
use crate::pause::asked_pause;
use crate::shown::host_and_port;

/// A small body may take this many times the inactivity limit in all: one byte per limit is no progress.
const WHOLE_BODY: u32 = 10;

/// An answer, and which URL it came from in the end.
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) url: Url,
    /// Whether it came from another scheme, host or port than the registry's.
    pub(crate) crossed: bool,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(crate) fn host(&self) -> String {
        host_and_port(&self.url)
    }

    /// The `Content-Length` as it stands in the header; the client's own count is 0 for a HEAD.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.headers().get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
    }

    /// Refuses a body that is not the bytes themselves, though `identity` was asked for.
    pub(crate) fn refuse_encoding(&self, what: &str) -> Result<(), RegistryError> {
        let encoded = self.headers().get_all(CONTENT_ENCODING).iter().any(|value| {
            let value = value.as_bytes().trim_ascii();
            !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
        });
        if !encoded {
            return Ok(());
        }
        let reason = format!("{} sends it with a Content-Encoding that was not asked for", self.host());
        Err(RegistryError::Protocol { what: what.to_owned(), reason })
    }

    /// The error that a status without use stands for. `signed_in` says whether a credential was given.
    pub(crate) fn refusal(&self, what: &str, signed_in: bool) -> RegistryError {
        let (what, host, status) = (what.to_owned(), self.host(), self.status());
        let retry_after = asked_pause(self.headers());
        match status.as_u16() {
            // The registry allowed the read and the storage behind it does not: the credential is not at fault.
            code @ (400 | 401 | 403) if self.crossed => RegistryError::Unavailable {
                what,
                reason: format!("the storage at {host} refuses the link that the registry gave ({code})"),
                retry_after,
            },
            401 => RegistryError::Unauthenticated { what, reason: unauthenticated(&host, signed_in) },
            403 if signed_in => RegistryError::Forbidden {
                what,
                reason: format!(
                    "{host} says that the given credential has no access (403); ask its owner for it"
                ),
            },
            403 => RegistryError::Forbidden {
                what,
                reason: format!(
                    "{host} denies access without a credential (403); give a pull secret that names it"
                ),
            },
            404 | 410 => RegistryError::NotFound { what, host },
            429 => RegistryError::RateLimited { what, host, retry_after },
            code @ (408 | 425 | 500..=599) => {
                RegistryError::Unavailable { what, reason: format!("{host} answers {code}"), retry_after }
            }
            416 => RegistryError::RangeRefused { what, reason: format!("{host} refuses the range (416)") },
            code => RegistryError::Protocol {
                what,
                reason: format!("{host} answers {code}, which makes no sense here"),
            },
        }
    }

    /// The whole body, refused as soon as it is longer than `limit`.
    pub(crate) async fn body(
        mut self,
        limit: u64,
        inactivity: Duration,
        what: &str,
    ) -> Result<Bytes, RegistryError> {
        let too_large = || RegistryError::TooLarge { what: what.to_owned(), limit };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let Self { response, url, .. } = &mut self;
        let whole = async {
            let mut body = BytesMut::new();
            loop {
                match timeout(inactivity, response.chunk()).await {
                    Err(_) => return Err(silent(url, inactivity, what)),
                    Ok(Err(error)) => return Err(translate(&error, url, what)),
                    Ok(Ok(None)) => return Ok(body.freeze()),
                    Ok(Ok(Some(chunk))) => {
                        if (body.len() + chunk.len()) as u64 > limit {
                            return Err(too_large());
                        }
                        body.extend_from_slice(&chunk);
                    }
                }
            }
        };
        match timeout(inactivity * WHOLE_BODY, whole).await {
            Ok(body) => body,
            Err(_) => Err(silent(&url.clone(), inactivity * WHOLE_BODY, what)),
        }
    }
}

/// Why a 401 stands, in words that say what to do.
pub(crate) fn unauthenticated(host: &str, signed_in: bool) -> String {
    if signed_in {
        format!("{host} does not accept the given credential (401); correct the pull secret")
    } else {
        format!("{host} asks for a credential and none was given (401); give a pull secret that names it")
    }
}
