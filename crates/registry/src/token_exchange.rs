//! Exchanging a token of the cluster's for a credential of a registry's (RFC 8693, OAuth 2.0 Token Exchange).
//!
//! The endpoint is the administrator's, yet it is reached by the rules that hold for all others: TLS, no address of
//! this node's own unless it is listed, no redirect for a form with a secret in it.

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use url::{Url, form_urlencoded};

use crate::backoff::Tries;
use crate::client::Registry;
use crate::error::RegistryError;
use crate::exchange::Request;
use crate::secret::Secret;
use crate::shown::{Origin, host_and_port};
use crate::token::parse_token_answer;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The largest answer of an endpoint.
const LONGEST_ANSWER: u64 = 1 << 20;

/// A text that is no endpoint for a token exchange. Of a URL only scheme, host and port are repeated: the rest may hold
/// a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeEndpointError {
    /// No URL at all, which is not repeated.
    #[error("it is not a URL: write an https URL without user name and fragment")]
    NoUrl,
    /// A URL of another kind.
    #[error("`{origin}` is not an endpoint for tokens: write an https URL without user name and fragment")]
    Unfit {
        /// Its scheme, host and port.
        origin: String,
    },
}

/// Where tokens are exchanged: an https URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExchangeEndpoint(Url);

impl std::str::FromStr for ExchangeEndpoint {
    type Err = ExchangeEndpointError;

    fn from_str(text: &str) -> Result<Self, ExchangeEndpointError> {
        let url = Url::parse(text).ok().filter(Url::has_host).ok_or(ExchangeEndpointError::NoUrl)?;
        let user = !url.username().is_empty() || url.password().is_some();
        if url.scheme() != "https" || user || url.fragment().is_some() {
            return Err(ExchangeEndpointError::Unfit { origin: Origin(&url).to_string() });
        }
        Ok(Self(url))
    }
}

impl std::fmt::Display for ExchangeEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// What is asked of an endpoint besides the token itself (RFC 8693, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenExchange {
    /// Where.
    pub endpoint: ExchangeEndpoint,
    /// `audience`: for whom the new token is to be.
    pub audience: Option<String>,
    /// `scope`: what it is to be good for.
    pub scope: Option<String>,
}

impl TokenExchange {
    fn form(&self, token: &Secret) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", GRANT_TYPE)
            .append_pair("subject_token_type", JWT)
            .append_pair("requested_token_type", ACCESS_TOKEN);
        for (key, value) in [("audience", &self.audience), ("scope", &self.scope)] {
            if let Some(value) = value {
                form.append_pair(key, value);
            }
        }
        form.append_pair("subject_token", token.expose());
        form.finish()
    }
}

impl Registry {
    /// Exchanges `token` for another one; tried again while the endpoint is not there.
    ///
    /// # Errors
    /// [`RegistryError::Unauthenticated`] where the endpoint knows no such token, [`RegistryError::Forbidden`] where it
    /// gives none for it, [`RegistryError::Refused`] where the endpoint's address is not allowed.
    pub async fn exchange_token(
        &self,
        exchange: &TokenExchange,
        token: &Secret,
    ) -> Result<Secret, RegistryError> {
        let mut tries = Tries::new(&self.inner().options);
        loop {
            match Box::pin(self.exchange_once(exchange, token)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn exchange_once(&self, exchange: &TokenExchange, token: &Secret) -> Result<Secret, RegistryError> {
        let (inner, url) = (self.inner(), &exchange.endpoint.0);
        let what = format!("exchange the service account's token at {}", host_and_port(url));
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let answer = inner
            .send(Request {
                access: &inner.access,
                long: false,
                method: Method::POST,
                url: url.clone(),
                registry: url,
                headers,
                authorization: None,
                form: Some(exchange.form(token)),
                what: &what,
            })
            .await?;
        let host = answer.host();
        match answer.status().as_u16() {
            200 => {}
            // 400 is what OAuth 2 says to a token that it does not take (RFC 6749, section 5.2).
            400 | 401 => {
                let reason = format!(
                    "{host} does not accept the token; check the audience, and whom the endpoint trusts"
                );
                return Err(RegistryError::Unauthenticated { what, reason });
            }
            403 => {
                let reason =
                    format!("{host} gives this service account no token (403); ask its owner for access");
                return Err(RegistryError::Forbidden { what, reason });
            }
            // Whoever has the form has the token, so it is sent nowhere else.
            300..=399 => {
                let reason = format!("{host} sends tokens elsewhere; correct the endpoint");
                return Err(RegistryError::Refused { what, reason });
            }
            404 | 405 | 410 => {
                let reason = format!("{host} exchanges no tokens there; correct the endpoint");
                return Err(RegistryError::Protocol { what, reason });
            }
            _ => return Err(answer.refusal(&what, true)),
        }
        let body = answer.body(LONGEST_ANSWER, inner.options.inactivity, &what).await?;
        parse_token_answer(&body)
            .map(|answer| answer.token)
            .map_err(|error| RegistryError::Protocol { what, reason: format!("{host} sends {error}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_https() {
        for good in ["https://sts.example/token", "https://10.0.0.1:8443/", "https://[fd00::1]/v1/token?x=y"]
        {
            assert!(good.parse::<ExchangeEndpoint>().is_ok(), "{good}");
        }
        for bad in [
            "http://sts.example/token",
            "https://",
            "https://u:p@sts.example/",
            "https://sts.example/#x",
            "sts",
            "",
        ] {
            assert!(bad.parse::<ExchangeEndpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refused_endpoint_is_shown_without_what_may_be_secret() {
        for (bad, shown) in [
            ("https://user:canary@sts.example:8443/canary?canary", "`https://sts.example:8443`"),
            ("http://canary@sts.example/", "`http://sts.example`"),
            ("https://user:canary@sts.example:99999/", "not a URL"),
            ("user:canary@sts.example", "not a URL"),
            ("canary", "not a URL"),
        ] {
            let error = bad.parse::<ExchangeEndpoint>().unwrap_err().to_string();
            assert!(error.contains(shown) && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn the_form_is_that_of_the_rfc() {
        let exchange = TokenExchange {
            endpoint: "https://sts.example/token".parse().unwrap(),
            audience: Some("//iam.example/pool".to_owned()),
            scope: None,
        };
        let form = exchange.form(&Secret::new("a.b+c"));
        let pairs: Vec<(String, String)> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        let expected = [
            ("grant_type", GRANT_TYPE),
            ("subject_token_type", JWT),
            ("requested_token_type", ACCESS_TOKEN),
            ("audience", "//iam.example/pool"),
            ("subject_token", "a.b+c"),
        ];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
