//! Manifests at one host: read, checked against their digest, never longer than 4 MiB.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use stowage_artifact::{Algorithm, Digest, MAX_MANIFEST_BYTES};

use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::exchange::Call;
use crate::response::Answer;

/// The manifest types that are asked for, as one `Accept` value.
pub const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

const DIGEST_HEADER: &str = "docker-content-digest";

/// A manifest as the registry sent it; its bytes have this digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The `Content-Type` without parameters, if there was one.
    pub media_type: Option<String>,
    /// The document.
    pub bytes: Bytes,
}

impl Endpoint {
    /// The digest that a tag stands for: by a HEAD, or by a GET where the host does not say it in a HEAD.
    pub(crate) async fn resolve(&self, tag: &str, what: &str) -> Result<Digest, RegistryError> {
        let path = format!("manifests/{tag}");
        let answer = self.short(Method::HEAD, path, Some(MANIFEST_TYPES), what).await?;
        match answer.status().as_u16() {
            200 => {
                if let Some(digest) = announced(answer.headers()) {
                    return Ok(digest);
                }
            }
            // Servers that know no HEAD say so in one of these ways.
            400 | 405 | 406 | 501 => {}
            _ => return Err(answer.refusal(what, self.has_credential())),
        }
        Ok(self.manifest(tag, None, what).await?.digest)
    }

    /// Whether the host has this manifest and lets us read it. 404 is `false`, 401 and 403 are errors.
    pub(crate) async fn head_manifest(&self, digest: &Digest, what: &str) -> Result<bool, RegistryError> {
        let path = format!("manifests/{digest}");
        let answer = self.short(Method::HEAD, path, Some(MANIFEST_TYPES), what).await?;
        match answer.status().as_u16() {
            200 => Ok(true),
            404 | 410 => Ok(false),
            400 | 405 | 406 | 501 => match self.manifest(digest.as_str(), Some(digest), what).await {
                Ok(_) => Ok(true),
                Err(RegistryError::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            },
            _ => Err(answer.refusal(what, self.has_credential())),
        }
    }

    /// A manifest by its tag or digest. What was asked for by its digest has it.
    pub(crate) async fn manifest(
        &self,
        name: &str,
        expected: Option<&Digest>,
        what: &str,
    ) -> Result<RawManifest, RegistryError> {
        let answer = self.short(Method::GET, format!("manifests/{name}"), Some(MANIFEST_TYPES), what).await?;
        if answer.status().as_u16() != 200 {
            return Err(answer.refusal(what, self.has_credential()));
        }
        answer.refuse_encoding(what)?;
        let host = answer.host();
        let media_type = media_type(answer.headers());
        // What was asked for counts, not what the registry says that it is; for a tag there is only the latter.
        let expected = expected.cloned().or_else(|| announced(answer.headers()));
        let bytes = answer.body(MAX_MANIFEST_BYTES, self.inner().options.inactivity, what).await?;
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = Digest::of(algorithm, &bytes);
        match expected {
            Some(expected) if expected != digest => {
                Err(RegistryError::DigestMismatch { what: what.to_owned(), host, expected, found: digest })
            }
            _ => Ok(RawManifest { digest, media_type, bytes }),
        }
    }

    /// One try of a short request. Statuses that a new try can change are errors already.
    pub(crate) async fn short(
        &self,
        method: Method,
        path: String,
        accept: Option<&'static str>,
        what: &str,
    ) -> Result<Answer, RegistryError> {
        let answer = self.exchange(&Call { method, path, accept, range: None, long: false, what }).await?;
        let error = if answer.status().is_success() {
            return Ok(answer);
        } else {
            answer.refusal(what, self.has_credential())
        };
        if error.is_transient() { Err(error) } else { Ok(answer) }
    }
}

fn announced(headers: &HeaderMap) -> Option<Digest> {
    headers.get(DIGEST_HEADER)?.to_str().ok()?.trim().parse().ok()
}

/// The `Content-Type` in lower case without parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!essence.is_empty()).then_some(essence)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

    use super::{announced, media_type};

    #[test]
    fn content_types_lose_their_parameters() {
        let table = [
            ("application/json; charset=utf-8", Some("application/json")),
            (" Application/JSON ", Some("application/json")),
            ("", None),
            (";x", None),
        ];
        for (value, expected) in table {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(media_type(&headers).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn an_announced_digest_is_a_digest_or_nothing() {
        for value in ["", "sha256:zz", "md5:00", "latest"] {
            let mut headers = HeaderMap::new();
            headers.insert("docker-content-digest", HeaderValue::from_static(value));
            assert_eq!(announced(&headers), None, "{value}");
        }
    }
}
