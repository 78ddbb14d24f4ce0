//! Host names as an administrator lists them.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// A text that is not `host` or `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host: write `host`, `host:port`, an IPv4 address or a bracketed IPv6 address")]
pub struct HostPatternError(pub String);

/// `host` (any port) or `host:port`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    host: Host,
    port: Option<u16>,
}

impl HostPattern {
    /// Whether the pattern covers this host at this port.
    pub fn covers(&self, host: &Host<&str>, port: u16) -> bool {
        self.covers_at_some_port(host) && self.port.is_none_or(|wanted| wanted == port)
    }

    /// Whether the pattern covers this host at one port or another.
    pub(crate) fn covers_at_some_port(&self, host: &Host<&str>) -> bool {
        match (&self.host, host) {
            (Host::Domain(own), Host::Domain(other)) => own == without_root(other),
            (Host::Ipv4(own), Host::Ipv4(other)) => own == other,
            (Host::Ipv6(own), Host::Ipv6(other)) => own == other,
            _ => false,
        }
    }

    /// The same for a URL.
    pub(crate) fn covers_url(&self, url: &Url) -> bool {
        match (url.host(), url.port_or_known_default()) {
            (Some(host), Some(port)) => self.covers(&host, port),
            _ => false,
        }
    }
}

/// `name.` is the same host as `name`.
fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let refuse = || HostPatternError(text.to_owned());
        let text = text.trim();
        let foreign = |c: char| c.is_control() || c.is_whitespace() || "/?#@\\".contains(c);
        if text.is_empty() || text.contains(foreign) {
            return Err(refuse());
        }
        // The URL parser is the one that will later judge the addresses met, so both agree on every spelling.
        let url = Url::parse(&format!("ws://{text}/")).map_err(|_| refuse())?;
        let host = match url.host().ok_or_else(refuse)? {
            Host::Domain(name) => Host::Domain(without_root(name).to_owned()),
            Host::Ipv4(address) => Host::Ipv4(address),
            Host::Ipv6(address) => Host::Ipv6(address),
        };
        // `ws` hides its default port 80.
        let port = url.port().or_else(|| text.ends_with(":80").then_some(80));
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::HostPattern;

    #[test]
    fn patterns_cover_hosts_and_ports() {
        let table = [
            ("registry.lan", "https://registry.lan/v2/", true),
            ("registry.lan", "http://registry.lan:5000/v2/", true),
            ("Registry.LAN", "http://registry.lan./", true),
            ("registry.lan:5000", "http://registry.lan:5000/", true),
            ("registry.lan:5000", "http://registry.lan/", false),
            ("registry.lan:80", "http://registry.lan/", true),
            ("registry.lan:443", "https://registry.lan/", true),
            ("registry.lan", "https://x.registry.lan/", false),
            ("127.0.0.1", "http://127.0.0.1:9/", true),
            ("127.0.0.1", "http://2130706433/", true),
            ("127.0.0.1", "http://localhost/", false),
            ("[::1]:80", "http://[::1]/", true),
            ("[::1]", "http://[0:0:0:0:0:0:0:1]:7/", true),
        ];
        for (pattern, url, covered) in table {
            let parsed: HostPattern = pattern.parse().unwrap();
            assert_eq!(parsed.covers_url(&Url::parse(url).unwrap()), covered, "{pattern} {url}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", " ", "a/b", "user@host", "http://x", "x:99999", "x:port", "a b", "x?y"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
