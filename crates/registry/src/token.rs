//! Getting a bearer token from a token server (the distribution project's token specification).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::access::Access;
use crate::challenge::Challenge;
use crate::client::Inner;
use crate::credential::Credential;
use crate::error::RegistryError;
use crate::exchange::Request;
use crate::response::{Answer, unauthenticated};
use crate::secret::Secret;
use crate::shown::{Origin, same_origin};

/// The largest answer of a token server.
const LONGEST_ANSWER: u64 = 1 << 20;
/// What a token lives when its server does not say.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);
/// The longest life that is believed.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);
const CLIENT_ID: &str = "stowage";

/// A bearer challenge with a realm that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Realm {
    url: Url,
    service: Option<String>,
}

/// Why a realm is not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RealmError {
    #[error("{0} asks for a token and names no valid realm to get it from")]
    Missing(String),
    #[error("{registry} sends for its token to {realm}, which is neither https nor the registry itself")]
    Scheme { registry: String, realm: String },
}

impl Realm {
    /// Takes the realm of a challenge by the registry at `base`.
    pub(crate) fn new(challenge: &Challenge, base: &Url) -> Result<Self, RealmError> {
        let missing = || RealmError::Missing(Origin(base).to_string());
        let mut url = Url::parse(challenge.parameter("realm").ok_or_else(missing)?).map_err(|_| missing())?;
        let foreign_user = !url.username().is_empty() || url.password().is_some();
        if !url.has_host() || foreign_user {
            return Err(missing());
        }
        url.set_fragment(None);
        if url.scheme() != "https" && !(url.scheme() == "http" && same_origin(&url, base)) {
            return Err(RealmError::Scheme {
                registry: Origin(base).to_string(),
                realm: Origin(&url).to_string(),
            });
        }
        let service = challenge.parameter("service").map(str::to_owned).filter(|service| !service.is_empty());
        Ok(Self { url, service })
    }
}

/// A token as its server gave it.
pub struct TokenAnswer {
    /// The token.
    pub token: Secret,
    /// How long it lives from now on.
    pub lifetime: Duration,
}

impl fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAnswer").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// An answer without a usable token. It does not repeat the answer, which may hold one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an answer without a token")]
pub struct TokenAnswerError;

/// Reads the JSON of a token server: `token` or `access_token`, and `expires_in` in seconds.
pub fn parse_token_answer(bytes: &[u8]) -> Result<TokenAnswer, TokenAnswerError> {
    let answer: Value = serde_json::from_slice(bytes).map_err(|_| TokenAnswerError)?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|token| !token.is_empty());
    let token = text("token").or_else(|| text("access_token")).ok_or(TokenAnswerError)?;
    // It will stand in a header.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenAnswerError);
    }
    let seconds = answer.get("expires_in").and_then(Value::as_f64).filter(|seconds| *seconds >= 1.0);
    let lifetime = seconds
        .map_or(DEFAULT_LIFETIME, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_LIFETIME))
        .min(LONGEST_LIFETIME);
    Ok(TokenAnswer { token: Secret::new(token), lifetime })
}

/// One token request.
pub(crate) struct TokenRequest {
    pub(crate) inner: Arc<Inner>,
    pub(crate) access: Arc<Access>,
    pub(crate) realm: Arc<Realm>,
    /// The registry that asked for the token.
    pub(crate) base: Url,
    pub(crate) repository: String,
    pub(crate) credential: Option<Arc<Credential>>,
    pub(crate) what: String,
}

impl TokenRequest {
    /// Asks once. An identity token goes by POST, a password or nothing by GET.
    pub(crate) async fn ask(&self) -> Result<TokenAnswer, RegistryError> {
        // The challenge's own scope is not used: a registry shall not choose what the token is good for.
        let scope = format!("repository:{}:pull", self.repository);
        let credential = self.credential.as_deref();
        let (method, url, form, basic) = match credential {
            Some(Credential::IdentityToken(token)) => {
                (Method::POST, self.realm.url.clone(), Some(self.form(&scope, token)), None)
            }
            Some(Credential::Password { .. }) | None => {
                let mut url = self.realm.url.clone();
                {
                    let mut query = url.query_pairs_mut();
                    if let Some(service) = &self.realm.service {
                        query.append_pair("service", service);
                    }
                    query.append_pair("scope", &scope);
                }
                (Method::GET, url, None, credential.and_then(Credential::basic))
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self
            .inner
            .send(Request {
                access: &self.access,
                long: false,
                method,
                url,
                registry: &self.base,
                headers,
                authorization: basic.as_ref().and_then(sensitive),
                form,
                what: &self.what,
            })
            .await?;
        self.read(answer).await
    }

    fn form(&self, scope: &str, token: &Secret) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token");
        if let Some(service) = &self.realm.service {
            form.append_pair("service", service);
        }
        form.append_pair("scope", scope);
        form.append_pair("client_id", CLIENT_ID);
        form.append_pair("refresh_token", token.expose());
        form.finish()
    }

    async fn read(&self, answer: Answer) -> Result<TokenAnswer, RegistryError> {
        let what = &self.what;
        let host = answer.host();
        let signed_in = self.credential.is_some();
        match answer.status().as_u16() {
            200 => {}
            // 400 is what OAuth 2 says to an unknown refresh token; 403 to nobody is a wish for a credential.
            400 | 401 => {
                let reason = unauthenticated(&host, signed_in);
                return Err(RegistryError::Unauthenticated { what: what.clone(), reason });
            }
            403 if !signed_in => {
                let reason = unauthenticated(&host, false);
                return Err(RegistryError::Unauthenticated { what: what.clone(), reason });
            }
            403 => {
                let reason =
                    format!("{host} gives the given credential no token (403); ask its owner for access");
                return Err(RegistryError::Forbidden { what: what.clone(), reason });
            }
            404 | 405 | 410 => {
                let reason = format!("{host} gives no tokens where the registry says it does");
                return Err(RegistryError::Protocol { what: what.clone(), reason });
            }
            _ => return Err(answer.refusal(what, signed_in)),
        }
        let body = answer.body(LONGEST_ANSWER, self.inner.options.inactivity, what).await?;
        parse_token_answer(&body).map_err(|error| RegistryError::Protocol {
            what: what.clone(),
            reason: format!("{host} sends {error}"),
        })
    }
}

/// A header value that the HTTP client does not show.
pub(crate) fn sensitive(secret: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use url::Url;

    use super::{LONGEST_LIFETIME, Realm, RealmError, parse_token_answer};
    use crate::challenge::parse_challenges;

    #[test]
    fn answers_are_read() {
        let table = [
            (r#"{"token":"t"}"#, Some(("t", 60))),
            (r#"{"access_token":"a"}"#, Some(("a", 60))),
            (r#"{"token":"t","access_token":"a","expires_in":300}"#, Some(("t", 300))),
            (r#"{"token":"","access_token":"a","expires_in":300.0}"#, Some(("a", 300))),
            (r#"{"token":"t","expires_in":0}"#, Some(("t", 60))),
            (r#"{"token":"t","expires_in":-5}"#, Some(("t", 60))),
            (r#"{"token":"t","expires_in":"300"}"#, Some(("t", 60))),
            (r#"{"token":"t","expires_in":1e300}"#, Some(("t", 86_400))),
            (r#"{"token":"a b"}"#, None),
            (r#"{"token":"a\r\nX: y"}"#, None),
            (r#"{"token":7}"#, None),
            (r"{}", None),
            ("[]", None),
            ("", None),
        ];
        for (json, expected) in table {
            let found = parse_token_answer(json.as_bytes()).ok();
            let found = found.as_ref().map(|answer| (answer.token.expose(), answer.lifetime.as_secs()));
            assert_eq!(found, expected, "{json}");
        }
    }

    fn realm(base: &str, realm: &str) -> Result<Realm, RealmError> {
        let challenges = parse_challenges(format!(r#"Bearer realm="{realm}""#).as_bytes());
        Realm::new(&challenges[0], &Url::parse(base).unwrap())
    }

    #[test]
    fn realms_are_https_or_the_registry_itself() {
        let table = [
            ("https://ghcr.io/v2/", "https://ghcr.io/token", true),
            ("https://ghcr.io/v2/", "https://auth.example/token?x=y", true),
            ("https://ghcr.io/v2/", "http://ghcr.io/token", false),
            ("http://lan:5000/v2/", "http://lan:5000/token", true),
            ("http://lan:5000/v2/", "http://lan:5001/token", false),
            ("http://lan:5000/v2/", "http://other:5000/token", false),
            ("https://ghcr.io/v2/", "https://user:pw@auth.example/token", false),
            ("https://ghcr.io/v2/", "file:///etc/passwd", false),
            ("https://ghcr.io/v2/", "/token", false),
            ("https://ghcr.io/v2/", "", false),
        ];
        for (base, url, accepted) in table {
            assert_eq!(realm(base, url).is_ok(), accepted, "{base} {url}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_bounded_token_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse_token_answer(&bytes).is_err());
        }

        #[test]
        fn any_number_gives_a_bounded_life(seconds in any::<f64>()) {
            let json = serde_json::json!({"token": "t", "expires_in": seconds}).to_string();
            let lifetime = parse_token_answer(json.as_bytes()).unwrap().lifetime;
            prop_assert!(lifetime >= Duration::from_secs(1) && lifetime <= LONGEST_LIFETIME);
        }
    }
}
