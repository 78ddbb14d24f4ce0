//! URLs as messages may show them.

use std::fmt;

use url::Url;

/// Scheme, host and port of a URL: all that a message shows of one. Presigned queries, user names and paths
/// stay away.
pub(crate) struct Origin<'a>(pub(crate) &'a Url);

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), host_and_port(self.0))
    }
}

/// `host` or `host:port`, the port only where it is not the scheme's own.
pub(crate) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether a credential for one may be sent to the other: same scheme, host and port.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{Origin, same_origin};

    #[test]
    fn a_shown_url_has_no_query_user_path_or_fragment() {
        let url =
            Url::parse("https://user:canary@cdn.example:8443/canary?X-Amz-Signature=canary#canary").unwrap();
        assert_eq!(Origin(&url).to_string(), "https://cdn.example:8443");
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&Url::parse(a).unwrap(), &Url::parse(b).unwrap());
        assert!(same("https://a.io/x", "https://a.io:443/y"));
        assert!(same("https://A.io/x", "https://a.io/y"));
        assert!(!same("https://a.io/", "http://a.io/"));
        assert!(!same("https://a.io/", "https://a.io:8443/"));
        assert!(!same("https://a.io/", "https://b.a.io/"));
        assert!(!same("https://a.io/", "https://a.io./"));
        assert!(!same("http://a.io:443/", "https://a.io/"));
    }
}
