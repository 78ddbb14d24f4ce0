//! How one host is reached: clients, address policy, headers.
//!
//! A host in a `hosts.toml` is where an administrator wrote it, so its own address may be local and its scheme plain
//! http. That holds for this host and port alone: where it redirects to is a stranger's choice, judged like all others,
//! and gets neither its headers nor its client certificate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use reqwest::Client;
use reqwest::header::HeaderMap;
use stowage_artifact::{Algorithm, Digest};
use url::Url;

use crate::address::AddressPolicy;
use crate::clients::{ClientMaker, Clients, Special};
use crate::error::SetupError;
use crate::host::HostPattern;
use crate::hosts::HostSettings;
use crate::options::RegistryOptions;
use crate::shown::{host_and_port, same_origin};

/// The names of Docker Hub besides that of its API.
const DOCKER_NAMES: [&str; 2] = ["docker.io", "index.docker.io"];

/// What a host is to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The registry itself.
    Registry,
    /// The registry by another of its names; its API is not there.
    Alias,
    /// Somebody else.
    Mirror,
}

impl Role {
    /// What the host at `url` is to `registry`, whose API is at `api_host`.
    pub(crate) fn of(url: &Url, registry: &str, api_host: &str) -> Self {
        // Another path can be another registry's content at the same host.
        if url.path() != "/v2" {
            return Self::Mirror;
        }
        let is = |name: &str| {
            Url::parse(&format!("{}://{name}/", url.scheme())).is_ok_and(|own| same_origin(&own, url))
        };
        if is(api_host) {
            Self::Registry
        } else if registry == DOCKER_NAMES[0] && DOCKER_NAMES.into_iter().any(is) {
            Self::Alias
        } else if is(registry) {
            Self::Registry
        } else {
            Self::Mirror
        }
    }
}

/// What connections to a host are made with.
struct Reach {
    own: Clients,
    /// For where it redirects to.
    away: Clients,
    policy: Arc<AddressPolicy>,
}

/// How a host is reached.
pub(crate) struct Access {
    reach: Arc<Reach>,
    /// Headers of every request to the host itself. They can be secrets.
    pub(crate) headers: HeaderMap,
    /// For mirrors: the registry that is meant, as the parameter `ns`.
    pub(crate) namespace: Option<String>,
    /// How long the header of an answer may take.
    pub(crate) patience: Duration,
}

impl Access {
    /// The client for a request on behalf of the host at `host`.
    pub(crate) fn client(&self, host: &Url, url: &Url, long: bool) -> &Client {
        if same_origin(host, url) { self.reach.own.get(long) } else { self.reach.away.get(long) }
    }

    /// Which addresses may be spoken to on its behalf.
    pub(crate) fn policy(&self) -> &Arc<AddressPolicy> {
        &self.reach.policy
    }
}

/// Makes an [`Access`] for every host.
pub(crate) struct AccessMaker {
    clients: ClientMaker,
    local: Vec<HostPattern>,
    plain: Vec<HostPattern>,
    inactivity: Duration,
    ordinary: Arc<Access>,
    /// Clients in use, by what they are made of. Mirrors by `_default` stand before any number of registries, and
    /// a change of one host leaves the connections to the others alone.
    known: Mutex<HashMap<Digest, Weak<Reach>>>,
}

impl AccessMaker {
    pub(crate) fn new(options: &RegistryOptions) -> Result<Self, SetupError> {
        let clients = ClientMaker::new(options)?;
        let policy = Arc::new(AddressPolicy::new(
            &options.local_hosts,
            &options.plain_http.hosts,
            clients.proxy_hosts(),
            options.plain_http.loopback,
        ));
        let own = clients.make(&policy, &Special::default())?;
        let ordinary = Access {
            reach: Arc::new(Reach { away: own.clone(), own, policy }),
            headers: HeaderMap::new(),
            namespace: None,
            patience: options.inactivity,
        };
        Ok(Self {
            clients,
            local: options.local_hosts.clone(),
            plain: options.plain_http.hosts.clone(),
            inactivity: options.inactivity,
            ordinary: Arc::new(ordinary),
            known: Mutex::default(),
        })
    }

    /// For registries about which nothing is written.
    pub(crate) fn ordinary(&self) -> &Arc<Access> {
        &self.ordinary
    }

    /// For a host of a `hosts.toml`; without a URL for the registry in its own place.
    pub(crate) fn make(
        &self,
        url: Option<&Url>,
        role: Role,
        settings: &HostSettings,
        special: Special,
        registry: &str,
    ) -> Result<Arc<Access>, SetupError> {
        if url.is_none() && !settings.is_special() && settings.headers.is_empty() {
            return Ok(Arc::clone(&self.ordinary));
        }
        let mirror = role == Role::Mirror;
        Ok(Arc::new(Access {
            reach: self.reach(url, mirror, special)?,
            headers: settings.headers.clone(),
            namespace: mirror.then(|| registry.to_owned()),
            // Who reads a blob waits for one time of inactivity in all, and there are other hosts to ask.
            patience: if mirror { self.inactivity / 3 } else { self.inactivity },
        }))
    }

    fn reach(&self, url: Option<&Url>, mirror: bool, special: Special) -> Result<Arc<Reach>, SetupError> {
        let key = format!("{mirror} {} {}", url.map_or("", Url::as_str), special.fingerprint());
        let key = Digest::of(Algorithm::Sha256, key.as_bytes());
        if let Some(reach) = self.known().get(&key).and_then(Weak::upgrade) {
            return Ok(reach);
        }
        let policy = url.map_or_else(|| Arc::clone(self.ordinary.policy()), |url| self.policy(url));
        let away = if special.certificates.is_empty() {
            self.ordinary.reach.away.clone()
        } else {
            let certificates = special.certificates.clone();
            self.clients.make_one(&policy, &Special { certificates, ..Special::default() })?
        };
        let own = if mirror {
            self.clients.make_one(&policy, &Special { direct: true, ..special })?
        } else {
            self.clients.make(&policy, &special)?
        };
        let reach = Arc::new(Reach { own, away, policy });
        let mut known = self.known();
        known.retain(|_, reach| reach.strong_count() > 0);
        known.insert(key, Arc::downgrade(&reach));
        Ok(reach)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Reach>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy of the options, and this host besides.
    fn policy(&self, url: &Url) -> Arc<AddressPolicy> {
        let (mut local, mut plain) = (self.local.clone(), self.plain.clone());
        let port = url.port_or_known_default().unwrap_or_default();
        let host = url.host_str().unwrap_or_default();
        if let Ok(pattern) = format!("{host}:{port}").parse::<HostPattern>() {
            if url.scheme() == "http" { &mut plain } else { &mut local }.push(pattern);
        }
        Arc::new(AddressPolicy::new(&local, &plain, self.clients.proxy_hosts(), false))
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The name of a mirror: its host, and its path where that says more than `/v2`.
pub(crate) fn mirror_name(url: &Url) -> String {
    let path = if url.path() == "/v2" { "" } else { url.path() };
    format!("{}{path}", host_and_port(url))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use url::Url;

    use super::{AccessMaker, Role, mirror_name};
    use crate::clients::Special;
    use crate::hosts::HostSettings;
    use crate::options::RegistryOptions;

    #[test]
    fn a_registry_is_known_by_scheme_host_port_and_path() {
        let table = [
            ("https://ghcr.io/v2", "ghcr.io", "ghcr.io", Role::Registry),
            ("https://ghcr.io:443/v2", "ghcr.io", "ghcr.io", Role::Registry),
            ("http://lan:5000/v2", "lan:5000", "lan:5000", Role::Registry),
            ("http://lan/v2", "lan", "lan", Role::Registry),
            ("https://lan:5000/v2", "lan", "lan", Role::Mirror),
            ("https://lan/v2", "lan:5000", "lan:5000", Role::Mirror),
            ("https://ghcr.io/v2/proxy", "ghcr.io", "ghcr.io", Role::Mirror),
            ("https://ghcr.io.evil.example/v2", "ghcr.io", "ghcr.io", Role::Mirror),
            ("https://registry-1.docker.io/v2", "docker.io", "registry-1.docker.io", Role::Registry),
            ("https://docker.io/v2", "docker.io", "registry-1.docker.io", Role::Alias),
            ("https://index.docker.io/v2", "docker.io", "registry-1.docker.io", Role::Alias),
            ("https://docker.io/v2", "ghcr.io", "ghcr.io", Role::Mirror),
            ("http://[::1]:5000/v2", "[::1]:5000", "[::1]:5000", Role::Registry),
        ];
        for (url, registry, api_host, expected) in table {
            assert_eq!(Role::of(&Url::parse(url).unwrap(), registry, api_host), expected, "{url} {registry}");
        }
    }

    #[test]
    fn registries_behind_the_same_mirror_share_its_clients() {
        let maker = AccessMaker::new(&RegistryOptions::default()).unwrap();
        let mirror = Url::parse("https://mirror.example/v2").unwrap();
        let make = |registry: &str, special: Special| {
            maker.make(Some(&mirror), Role::Mirror, &HostSettings::default(), special, registry).unwrap()
        };
        let (one, other) = (make("a.example", Special::default()), make("b.example", Special::default()));
        assert!(Arc::ptr_eq(&one.reach, &other.reach));
        assert_eq!(other.namespace.as_deref(), Some("b.example"));
        let unchecked = make("a.example", Special { skip_verify: true, ..Special::default() });
        assert!(!Arc::ptr_eq(&one.reach, &unchecked.reach));
        drop((one, other, unchecked));
        make("c.example", Special::default());
        assert_eq!(maker.known().len(), 1, "what nobody uses is let go");
    }

    #[test]
    fn mirrors_are_named_by_host_and_path() {
        let name = |url: &str| mirror_name(&Url::parse(url).unwrap());
        assert_eq!(name("http://127.0.0.1:30020/v2"), "127.0.0.1:30020");
        assert_eq!(name("https://harbor.lan/v2/hub"), "harbor.lan/v2/hub");
    }
}
