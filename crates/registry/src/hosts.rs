//! containerd's `hosts.toml`: which hosts an administrator wrote down for a registry, and how they are reached.
//!
//! The format is containerd's (`docs/hosts.md` and `core/remotes/docker/config` there), so that a node's own
//! files serve us too. One key is ours, and containerd skips it like every key that it does not know:
//! `stowage_authoritative`.

mod directory;
pub(crate) mod duration;
mod parse;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

pub use parse::parse_hosts;
pub(crate) use watch::{HostsConfig, LoadedHost, Watch};

/// Where containerd, k3s, RKE2 and Talos keep such directories.
pub const DEFAULT_HOSTS_DIRS: [&str; 4] = [
    "/etc/containerd/certs.d",
    "/var/lib/rancher/k3s/agent/etc/containerd/certs.d",
    "/var/lib/rancher/rke2/agent/etc/containerd/certs.d",
    "/etc/cri/conf.d/hosts",
];

/// What one `hosts.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostsFile {
    /// The `[host]` tables, in the order of the file.
    pub hosts: Vec<HostEntry>,
    /// `server`, where the file has one: the last of the hosts, in the registry's own place.
    pub server: Option<Url>,
    /// The settings at the top of the file, which are those of the last host.
    pub settings: HostSettings,
    /// What was understood and has no effect here, as sentences.
    pub notes: Vec<String>,
}

/// One host that is asked before the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// Where its API is, up to and with `/v2` unless `override_path` says otherwise; never ends in a slash.
    pub url: Url,
    /// How it is reached and what for.
    pub settings: HostSettings,
}

/// What a host may be asked for; without the key, everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Blobs and manifests by digest.
    pub pull: bool,
    /// The digest of a tag.
    pub resolve: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { pull: true, resolve: true }
    }
}

/// The keys of a host.
#[derive(Default, Clone, PartialEq, Eq)]
pub struct HostSettings {
    /// What it may be asked for.
    pub capabilities: Capabilities,
    /// Certificate authorities besides the system's.
    pub ca: Vec<PathBuf>,
    /// Client certificates, each with the file of its key, which may be the same.
    pub client: Vec<(PathBuf, PathBuf)>,
    /// Whether its certificate is not checked.
    pub skip_verify: bool,
    /// Headers of every request to it. They can be secrets.
    pub headers: HeaderMap,
    /// How long a connection may take.
    pub dial_timeout: Option<Duration>,
    /// `stowage_authoritative`: what it serves may be read by every pod, without asking the registry.
    pub authoritative: bool,
}

impl HostSettings {
    /// Whether a client of its own is needed to reach the host.
    pub(crate) fn is_special(&self) -> bool {
        !self.ca.is_empty() || !self.client.is_empty() || self.skip_verify || self.dial_timeout.is_some()
    }
}

// Headers can hold tokens.
impl fmt::Debug for HostSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostSettings")
            .field("capabilities", &self.capabilities)
            .field("ca", &self.ca)
            .field("client", &self.client)
            .field("skip_verify", &self.skip_verify)
            .field("headers", &self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>())
            .field("dial_timeout", &self.dial_timeout)
            .field("authoritative", &self.authoritative)
            .finish()
    }
}

/// What is wrong with a `hosts.toml`, and in which line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct HostsFileError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

/// A value of a header that nothing shows.
fn header_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
