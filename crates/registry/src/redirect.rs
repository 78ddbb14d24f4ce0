//! Redirects, followed by hand: the HTTP client's own rules would carry headers too far.

use reqwest::StatusCode;
use url::Url;

use crate::address::AddressPolicy;
use crate::shown::{Origin, same_origin};

/// The most redirects of one request.
pub(crate) const MOST_REDIRECTS: usize = 5;

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RedirectError {
    #[error("{0} redirects without saying where to")]
    NoLocation(String),
    #[error("{0} redirects to something that is not a URL")]
    NoUrl(String),
    #[error("it was redirected more than {MOST_REDIRECTS} times, last by {0}")]
    TooMany(String),
    #[error(
        "{from} redirects to {to}, which is not https; an administrator can list the host for plain http"
    )]
    Scheme { from: String, to: String },
}

impl RedirectError {
    /// Whether it is our policy that stops, not a broken answer.
    pub(crate) fn is_policy(&self) -> bool {
        matches!(self, Self::Scheme { .. })
    }
}

/// Whether a status means "look elsewhere" for a GET or HEAD.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The way of one request from the registry through its redirects.
pub(crate) struct Trail<'a> {
    policy: &'a AddressPolicy,
    registry: &'a Url,
    hops: usize,
    crossed: bool,
}

impl<'a> Trail<'a> {
    pub(crate) fn new(policy: &'a AddressPolicy, registry: &'a Url) -> Self {
        Self { policy, registry, hops: 0, crossed: false }
    }

    /// Whether the way has ever left the registry's scheme, host and port. A way back does not bring the
    /// credential back: somebody else chose that URL.
    pub(crate) fn crossed(&self) -> bool {
        self.crossed
    }

    /// The next URL.
    pub(crate) fn follow(&mut self, from: &Url, location: Option<&[u8]>) -> Result<Url, RedirectError> {
        let shown = || Origin(from).to_string();
        if self.hops == MOST_REDIRECTS {
            return Err(RedirectError::TooMany(shown()));
        }
        self.hops += 1;
        let location = location.ok_or_else(|| RedirectError::NoLocation(shown()))?;
        let location = std::str::from_utf8(location).map_err(|_| RedirectError::NoUrl(shown()))?;
        let mut to = from.join(location).map_err(|_| RedirectError::NoUrl(shown()))?;
        if !to.has_host() {
            return Err(RedirectError::NoUrl(shown()));
        }
        to.set_fragment(None);
        // The client would turn a user name in the URL into an Authorization header of a stranger's making.
        let no_user = to.set_username("").is_ok() && to.set_password(None).is_ok();
        let plain = to.scheme() == "http" && self.policy.allows_plain_http(&to, self.registry);
        if !no_user || !(to.scheme() == "https" || plain) {
            return Err(RedirectError::Scheme { from: shown(), to: Origin(&to).to_string() });
        }
        self.crossed |= !same_origin(self.registry, &to);
        Ok(to)
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{MOST_REDIRECTS, RedirectError, Trail};
    use crate::address::AddressPolicy;

    const REGISTRY: &str = "https://ghcr.io/v2/a/b/blobs/x";

    fn policy() -> AddressPolicy {
        AddressPolicy::new(&[], &["plain.lan:5000".parse().unwrap()], Vec::new(), false)
    }

    fn one_hop(location: &str) -> (Result<String, RedirectError>, bool) {
        let (policy, registry) = (policy(), Url::parse(REGISTRY).unwrap());
        let mut trail = Trail::new(&policy, &registry);
        let to = trail.follow(&registry, Some(location.as_bytes())).map(String::from);
        (to, trail.crossed())
    }

    #[test]
    fn the_credential_stays_with_scheme_host_and_port() {
        let table = [
            ("/v2/other", "https://ghcr.io/v2/other", false),
            ("y?q=1#f", "https://ghcr.io/v2/a/b/blobs/y?q=1", false),
            ("https://ghcr.io:443/z", "https://ghcr.io/z", false),
            ("https://ghcr.io:8443/z", "https://ghcr.io:8443/z", true),
            ("//cdn.ghcr.io/z", "https://cdn.ghcr.io/z", true),
            ("https://user:pw@cdn.io/z", "https://cdn.io/z", true),
            ("http://plain.lan:5000/z", "http://plain.lan:5000/z", true),
        ];
        for (location, expected, crossed) in table {
            assert_eq!(one_hop(location), (Ok(expected.to_owned()), crossed), "{location}");
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for location in ["http://ghcr.io/x", "ftp://ghcr.io/x", "http://plain.lan/x", "https+x://a/b"] {
            assert!(matches!(one_hop(location).0, Err(RedirectError::Scheme { .. })), "{location}");
        }
        for location in ["file:///etc/passwd", "data:text/plain,x", "https://", "mailto:a@b", "http://["] {
            assert!(one_hop(location).0.is_err(), "{location}");
        }
    }

    #[test]
    fn a_way_back_to_the_registry_does_not_bring_the_credential_back() {
        let (policy, registry) = (policy(), Url::parse(REGISTRY).unwrap());
        let mut trail = Trail::new(&policy, &registry);
        let away = trail.follow(&registry, Some(b"https://evil.example/")).unwrap();
        trail.follow(&away, Some(b"https://ghcr.io/v2/victim/secret/blobs/x")).unwrap();
        assert!(trail.crossed());
    }

    #[test]
    fn redirects_end() {
        let (policy, registry) = (policy(), Url::parse(REGISTRY).unwrap());
        let mut trail = Trail::new(&policy, &registry);
        for _ in 0..MOST_REDIRECTS {
            trail.follow(&registry, Some(REGISTRY.as_bytes())).unwrap();
        }
        assert!(matches!(trail.follow(&registry, Some(REGISTRY.as_bytes())), Err(RedirectError::TooMany(_))));
        assert!(matches!(
            Trail::new(&policy, &registry).follow(&registry, None),
            Err(RedirectError::NoLocation(_))
        ));
    }

    #[test]
    fn a_refusal_shows_no_query() {
        let error = one_hop("http://cdn.io/x?sig=canary").0.unwrap_err().to_string();
        assert!(error.contains("http://cdn.io") && !error.contains("canary"), "{error}");
    }
}
