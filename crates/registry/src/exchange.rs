//! One request with its redirects, and one authorised try at the registry.

use std::ops::Range;

use reqwest::Method;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE,
};
use tokio::time::timeout;
use url::Url;

use crate::access::Access;
use crate::address::AddressPolicy;
use crate::backoff::Tries;
use crate::challenge::challenges_of;
use crate::client::Inner;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::network_error::{silent, translate};
use crate::pause::asked_pause;
use crate::redirect::{RedirectError, Trail, is_redirect};
use crate::response::Answer;
use crate::shown::{host_and_port, same_origin};

/// How often one try renews its authorisation: once for the challenge, once for a token that just expired.
const RENEWALS: u32 = 2;

/// One request on its way out.
pub(crate) struct Request<'a> {
    /// How the registry is reached.
    pub(crate) access: &'a Access,
    /// Whether the body is long: such answers get an HTTP/1.1 connection of their own.
    pub(crate) long: bool,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// On whose behalf: decides about plain http and loopback, and where the authorisation may go.
    pub(crate) registry: &'a Url,
    pub(crate) headers: HeaderMap,
    pub(crate) authorization: Option<HeaderValue>,
    /// A form with a secret in it. It is never sent on to where a redirect points.
    pub(crate) form: Option<String>,
    pub(crate) what: &'a str,
}

impl Inner {
    /// Sends a request and follows its redirects. Any status that is no redirect is an answer.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Answer, RegistryError> {
        let Request { access, long, method, mut url, registry, headers, authorization, form, what } = request;
        let own = url.clone();
        let mut trail = Trail::new(access.policy(), &own);
        loop {
            self.admit(access.policy(), &url, registry, what).await?;
            let mut builder = access.client(registry, &url, long).request(method.clone(), url.clone());
            // What an administrator wrote for a host is for that host.
            if !trail.crossed() && same_origin(registry, &url) {
                builder = builder.headers(access.headers.clone());
            }
            builder = builder.headers(headers.clone());
            if let Some(authorization) = authorization.clone().filter(|_| !trail.crossed()) {
                builder = builder.headers(HeaderMap::from_iter([(AUTHORIZATION, authorization)]));
            }
            if let Some(form) = &form {
                builder =
                    builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
            }
            let response = match timeout(access.patience, builder.send()).await {
                Err(_) => return Err(silent(&url, access.patience, what)),
                Ok(Err(error)) => return Err(translate(&error, &url, what)),
                Ok(Ok(response)) => response,
            };
            if matches!(response.status().as_u16(), 429 | 503)
                && let Some(pause) = asked_pause(response.headers())
            {
                self.pauses.begin(&host_and_port(&url), pause);
            }
            if form.is_some() || !is_redirect(response.status()) {
                let crossed = trail.crossed() || !same_origin(registry, &url);
                return Ok(Answer { response, url, crossed });
            }
            let location = response.headers().get(LOCATION).map(HeaderValue::as_bytes);
            url = trail.follow(&url, location).map_err(|error| refuse(&error, what))?;
        }
    }

    /// Refuses a URL that policy forbids, or whose host asked to be left alone.
    async fn admit(
        &self,
        policy: &AddressPolicy,
        url: &Url,
        registry: &Url,
        what: &str,
    ) -> Result<(), RegistryError> {
        if let Err(refused) = policy.check(url, registry).await {
            return Err(RegistryError::Refused { what: what.to_owned(), reason: refused.to_string() });
        }
        let host = host_and_port(url);
        match self.pauses.remaining(&host) {
            None => Ok(()),
            left => Err(RegistryError::RateLimited { what: what.to_owned(), host, retry_after: left }),
        }
    }
}

fn refuse(error: &RedirectError, what: &str) -> RegistryError {
    let (what, reason) = (what.to_owned(), error.to_string());
    if error.is_policy() {
        RegistryError::Refused { what, reason }
    } else {
        RegistryError::Protocol { what, reason }
    }
}

/// What is asked of the registry.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Below `/v2/<name>/`.
    pub(crate) path: String,
    pub(crate) accept: Option<&'static str>,
    pub(crate) range: Option<&'a Range<u64>>,
    /// Whether the body is long: such answers get an HTTP/1.1 connection of their own.
    pub(crate) long: bool,
    pub(crate) what: &'a str,
}

impl Call<'_> {
    pub(crate) fn headers(&self) -> Result<HeaderMap, RegistryError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(ACCEPT, HeaderValue::from_static(self.accept.unwrap_or("*/*")));
        if let Some(range) = self.range {
            let value =
                HeaderValue::try_from(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
            let value = value.map_err(|error| RegistryError::Protocol {
                what: self.what.to_owned(),
                reason: error.to_string(),
            })?;
            headers.insert(RANGE, value);
        }
        Ok(headers)
    }
}

impl Endpoint {
    /// One authorised try: renews the authorisation on a 401, and goes back for a new link when a presigned
    /// one is refused.
    pub(crate) async fn exchange(&self, call: &Call<'_>) -> Result<Answer, RegistryError> {
        // Every read of every kind holds this future, and it is large.
        Box::pin(self.authorized(call)).await
    }

    async fn authorized(&self, call: &Call<'_>) -> Result<Answer, RegistryError> {
        let base = self.base(call.what).await?;
        let url = self.url(&base, &call.path, call.what)?;
        let mut renewals = 0;
        let mut linked_again = false;
        // Callers repeat short requests as a whole; of a blob only the way to it is repeated. Mirrors have one try.
        let mut sign_ins = (call.long && !self.is_mirror()).then(|| Tries::new(&self.inner().options));
        loop {
            let pass = match (self.authorization(&base).await, &mut sign_ins) {
                (Ok(pass), _) => pass,
                (Err(error), Some(tries)) => {
                    tries.again(error).await?;
                    continue;
                }
                (Err(error), None) => return Err(error),
            };
            let answer = self
                .inner()
                .send(Request {
                    access: self.access(),
                    long: call.long,
                    method: call.method.clone(),
                    url: url.clone(),
                    registry: &base,
                    headers: call.headers()?,
                    authorization: pass.header,
                    form: None,
                    what: call.what,
                })
                .await?;
            match answer.status().as_u16() {
                401 if !answer.crossed && renewals < RENEWALS => {
                    let challenges = challenges_of(answer.headers());
                    match (self.renew(&base, pass.generation, &challenges).await, &mut sign_ins) {
                        (Ok(()), _) => renewals += 1,
                        (Err(error), Some(tries)) => tries.again(error).await?,
                        (Err(error), None) => return Err(error),
                    }
                }
                400 | 401 | 403 if answer.crossed && !linked_again => linked_again = true,
                // Some registries hide what needs a credential instead of asking for one.
                403 | 404 if !answer.crossed && self.introduce(pass.generation) => {}
                _ => return Ok(answer),
            }
        }
    }
}
