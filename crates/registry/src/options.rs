//! What an administrator decides about reaching registries.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::HostPattern;

/// Which registries are spoken to without TLS.
#[derive(Debug, Clone, Default)]
pub struct PlainHttp {
    /// Hosts that an administrator wrote down. They may also have local addresses.
    pub hosts: Vec<HostPattern>,
    /// References to `localhost` and loopback addresses are allowed, and plain http is used where no TLS
    /// answers. For the command line and the demo only: there the tenant and the administrator are one.
    pub loopback: bool,
}

/// Proxies, as the environment variables of the same names mean them.
#[derive(Clone, Default)]
pub struct ProxySettings {
    /// `HTTPS_PROXY`: the proxy for https URLs.
    pub https: Option<String>,
    /// `HTTP_PROXY`: the proxy for plain http URLs.
    pub http: Option<String>,
    /// `NO_PROXY`: hosts, domains and networks that are reached directly.
    pub no_proxy: Option<String>,
}

// A proxy's URL can hold a password.
impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySettings")
            .field("https", &self.https.is_some())
            .field("http", &self.http.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

impl ProxySettings {
    /// The settings of the process environment, upper case first.
    pub fn from_env() -> Self {
        let read = |names: [&str; 2]| {
            names
                .into_iter()
                .find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
        };
        let all = read(["ALL_PROXY", "all_proxy"]);
        Self {
            https: read(["HTTPS_PROXY", "https_proxy"]).or_else(|| all.clone()),
            http: read(["HTTP_PROXY", "http_proxy"]).or(all),
            no_proxy: read(["NO_PROXY", "no_proxy"]),
        }
    }
}

/// Waiting between tries: doubles from `base` to `cap`, and a random part of it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait.
    pub base: Duration,
    /// The longest wait of all.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(250), cap: Duration::from_secs(5) }
    }
}

/// Mirrors, by containerd's `hosts.toml`.
#[derive(Debug, Clone)]
pub struct MirrorOptions {
    /// Directories with one directory for each registry; the first that has something to say counts.
    pub roots: Vec<PathBuf>,
    /// How old what was read of them may be.
    pub check_every: Duration,
    /// How long a mirror that failed is left alone.
    pub rest: Duration,
    /// How long a mirror that sent wrong bytes is left alone.
    pub rest_after_lies: Duration,
}

impl Default for MirrorOptions {
    /// No mirrors.
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            check_every: Duration::from_secs(1),
            rest: Duration::from_secs(30),
            rest_after_lies: Duration::from_mins(10),
        }
    }
}

/// Options of [`crate::Registry`].
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// PEM bundles of certificate authorities, added to those of the system.
    pub ca_pem: Vec<Vec<u8>>,
    /// Who is spoken to without TLS.
    pub plain_http: PlainHttp,
    /// Hosts that may resolve to loopback, link-local and metadata addresses.
    pub local_hosts: Vec<HostPattern>,
    /// Proxies. [`RegistryOptions::default`] takes none; see [`ProxySettings::from_env`].
    pub proxy: ProxySettings,
    /// Hosts that are asked before a registry.
    pub mirrors: MirrorOptions,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// How long a connection may take, TLS included.
    pub connect_timeout: Duration,
    /// How long nothing may arrive: before the header of an answer, and between pieces of its body.
    pub inactivity: Duration,
    /// How often a manifest, token or HEAD request is tried before it fails. Blob bodies are not retried here.
    pub tries: u32,
    /// Waits between those tries.
    pub backoff: Backoff,
    /// The longest pause asked for by a registry (`Retry-After`) that a request waits for; longer ones fail
    /// at once and tell the caller when to come back.
    pub patience: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            ca_pem: Vec::new(),
            plain_http: PlainHttp::default(),
            local_hosts: Vec::new(),
            proxy: ProxySettings::default(),
            mirrors: MirrorOptions::default(),
            user_agent: concat!("stowage/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            inactivity: Duration::from_secs(30),
            tries: 6,
            backoff: Backoff::default(),
            patience: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ProxySettings, RegistryOptions};

    #[test]
    fn a_proxy_password_is_not_shown() {
        let proxy =
            ProxySettings { https: Some("http://u:canary-42@proxy:1".into()), ..ProxySettings::default() };
        let options = RegistryOptions { proxy, ..RegistryOptions::default() };
        assert!(!format!("{options:?}").contains("canary-42"));
    }
}
