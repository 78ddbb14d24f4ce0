//! Which hosts stand for a repository, and in which order they are asked.

use std::path::PathBuf;
use std::sync::Arc;

use stowage_store::SourceError;

use crate::access::{Role, mirror_name};
use crate::client::Inner;
use crate::credential::Credential;
use crate::endpoint::{Endpoint, Place};
use crate::error::RegistryError;
use crate::hosts::{Capabilities, HostsConfig, LoadedHost};

/// The way to a repository's content.
pub(crate) struct Route {
    /// The registry itself: it is asked for permission, whoever delivers.
    pub(crate) registry: Endpoint,
    /// In the order in which they are tried; the registry is among them unless an administrator put another host in
    /// its place.
    pub(crate) hops: Vec<Hop>,
    /// Whether the mirrors were written for this registry, not for all that have nothing of their own.
    pub(crate) named: bool,
    /// Where an administrator wrote it.
    pub(crate) file: Option<PathBuf>,
}

/// One host on the way.
pub(crate) struct Hop {
    /// Whether it may be asked for what has a digest.
    pub(crate) pull: bool,
    /// Whether it may be asked for tags.
    pub(crate) resolve: bool,
    pub(crate) stop: Stop,
}

pub(crate) enum Stop {
    Registry,
    Mirror(Arc<Mirror>),
}

impl Stop {
    /// Whether the registry must have answered. Each try to get that answer can take as long as the last.
    pub(crate) fn needs_permission(&self) -> bool {
        !matches!(self, Self::Mirror(mirror) if mirror.authoritative)
    }
}

/// A host that delivers in a registry's place.
pub(crate) struct Mirror {
    pub(crate) endpoint: Endpoint,
    /// For messages and for the download engine.
    pub(crate) name: Arc<str>,
    /// Whether it is an authority of its own, so that the registry is not asked.
    pub(crate) authoritative: bool,
}

/// Whose content the way leads to.
pub(crate) struct Destination<'a> {
    pub(crate) inner: &'a Arc<Inner>,
    pub(crate) registry: &'a str,
    pub(crate) api_host: &'a str,
    pub(crate) name: &'a str,
    pub(crate) credential: Option<&'a Arc<Credential>>,
}

impl Route {
    /// The way by what an administrator wrote, or straight to the registry.
    pub(crate) fn new(to: &Destination<'_>, config: Option<&HostsConfig>) -> Self {
        let Some(config) = config else {
            return Self {
                registry: to.straight(),
                hops: vec![Hop { pull: true, resolve: true, stop: Stop::Registry }],
                named: false,
                file: None,
            };
        };
        let own = config.registry();
        let registry = own.map_or_else(|| to.straight(), |host| to.written(host));
        let mut hops: Vec<Hop> = Vec::new();
        for host in &config.hosts {
            let Capabilities { pull, resolve } = host.settings.capabilities;
            let stop = match &host.url {
                // The registry over another scheme than the one chosen does not get the credential.
                Some(url) if host.role == Role::Mirror || own.is_some_and(|own| differs(own, host)) => {
                    Stop::Mirror(Arc::new(Mirror {
                        endpoint: Endpoint::mirror(
                            to.inner,
                            Arc::clone(&host.access),
                            url,
                            to.registry,
                            to.name,
                        ),
                        name: mirror_name(url).into(),
                        authoritative: host.settings.authoritative,
                    }))
                }
                _ => {
                    if let Some(known) = hops.iter_mut().find(|hop| matches!(hop.stop, Stop::Registry)) {
                        known.pull |= pull;
                        known.resolve |= resolve;
                        continue;
                    }
                    Stop::Registry
                }
            };
            hops.push(Hop { pull, resolve, stop });
        }
        Self { registry, hops, named: config.named, file: Some(config.file.clone()) }
    }

    /// Whether the registry alone is asked for everything.
    pub(crate) fn is_straight(&self) -> bool {
        matches!(self.hops.as_slice(), [Hop { pull: true, resolve: true, stop: Stop::Registry }])
    }

    /// Whether what a mirror delivers may be asked of the registry itself, too.
    pub(crate) fn has_registry(&self) -> bool {
        self.hops.iter().any(|hop| hop.pull && matches!(hop.stop, Stop::Registry))
    }

    /// The mirrors that are authorities of their own.
    pub(crate) fn authorities(&self) -> impl Iterator<Item = &Arc<Mirror>> {
        self.hops.iter().filter(|hop| hop.pull).filter_map(|hop| match &hop.stop {
            Stop::Mirror(mirror) if mirror.authoritative => Some(mirror),
            Stop::Mirror(_) | Stop::Registry => None,
        })
    }

    /// The error where no host was allowed or able to answer.
    pub(crate) fn nobody(&self, what: &str, capability: &str) -> RegistryError {
        let file = self.file.as_ref().map_or_else(String::new, |file| format!(" in {}", file.display()));
        let may = self.hops.iter().any(|hop| if capability == "pull" { hop.pull } else { hop.resolve });
        let (what, retry_after) = (what.to_owned(), None);
        if may {
            let reason = format!("none of the hosts{file} delivers it now");
            return RegistryError::Unavailable { what, reason, retry_after };
        }
        let reason = format!("none of the hosts{file} has the capability `{capability}`: give it to one");
        RegistryError::Unavailable { what, reason, retry_after }
    }
}

impl HostsConfig {
    /// The entry that says how the registry itself is reached.
    ///
    /// The first table of its host, since authorities are usually written there; but `server` where that
    /// names another scheme.
    fn registry(&self) -> Option<&LoadedHost> {
        let (last, hosts) = self.hosts.split_last()?;
        let first = hosts.iter().find(|host| host.role == Role::Registry);
        match (first, last.role) {
            (Some(first), Role::Registry) if last.url.is_some() && differs(first, last) => Some(last),
            (Some(first), _) => Some(first),
            (None, Role::Registry) => Some(last),
            (None, _) => None,
        }
    }
}

/// Whether two entries of a registry name different schemes.
fn differs(one: &LoadedHost, other: &LoadedHost) -> bool {
    match (&one.url, &other.url) {
        (Some(one), Some(other)) => one.scheme() != other.scheme(),
        _ => false,
    }
}

impl Destination<'_> {
    /// The registry, of which nothing is written.
    fn straight(&self) -> Endpoint {
        let place = Place::Host(self.api_host.to_owned());
        let access = Arc::clone(&self.inner.access);
        Endpoint::registry(self.inner, access, place, self.registry, self.name, self.credential.cloned())
    }

    /// The registry, as it is written.
    fn written(&self, host: &LoadedHost) -> Endpoint {
        let place = match &host.url {
            Some(url) => Place::Written(url.clone()),
            None => Place::Host(self.api_host.to_owned()),
        };
        let access = Arc::clone(&host.access);
        Endpoint::registry(self.inner, access, place, self.registry, self.name, self.credential.cloned())
    }
}

impl Mirror {
    /// Whether it is left alone now.
    pub(crate) fn rests(&self) -> bool {
        let rests = &self.endpoint.inner().rests;
        rests.remaining(&self.name).is_some() || rests.remaining(&self.place()).is_some()
    }

    /// Notes a failure of the host, not of one thing that it was asked for.
    pub(crate) fn failed(&self, error: &RegistryError) {
        let options = &self.endpoint.inner().options.mirrors;
        let (key, rest) = match error {
            // It knows us for this repository; it may serve others.
            RegistryError::Unauthenticated { .. } | RegistryError::Forbidden { .. } => {
                (self.place(), options.rest)
            }
            RegistryError::DigestMismatch { .. } => (self.name.to_string(), options.rest_after_lies),
            error => (self.name.to_string(), error.retry_after().unwrap_or(options.rest)),
        };
        let seconds = rest.as_secs();
        tracing::warn!(mirror = %self.name, %error, seconds, "a mirror failed and is left alone");
        self.endpoint.inner().rests.begin(&key, rest);
    }

    /// A body of it broke off.
    pub(crate) fn broke(&self, error: &SourceError) {
        let rest = self.endpoint.inner().options.mirrors.rest;
        let seconds = rest.as_secs();
        tracing::warn!(mirror = %self.name, %error, seconds, "a mirror failed and is left alone");
        self.endpoint.inner().rests.begin(&self.name, rest);
    }

    fn place(&self) -> String {
        format!("{} {}", self.name, self.endpoint.name())
    }
}
