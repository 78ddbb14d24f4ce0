//! One repository, seen with one credential.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use stowage_artifact::Reference;

use crate::client::Inner;
use crate::credential::Credential;
use crate::dossier::Dossiers;
use crate::error::RegistryError;
use crate::hosts::HostsConfig;
use crate::renewable::Renewable;
use crate::route::{Destination, Route};

/// Reads the manifests and blobs of one repository with one credential. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<Inner>,
    /// As references name it: `docker.io`.
    registry: String,
    /// Where its API is: `registry-1.docker.io`.
    api_host: String,
    name: String,
    credential: Renewable,
    way: Mutex<Way>,
    dossiers: Dossiers,
}

/// The hosts that are asked, and what they follow from.
struct Way {
    config: Option<Arc<HostsConfig>>,
    credential: Option<Arc<Credential>>,
    route: Arc<Route>,
}

impl Way {
    /// Whether it leads where these say.
    fn fits(&self, config: Option<&Arc<HostsConfig>>, credential: Option<&Arc<Credential>>) -> bool {
        self.config.as_ref().map(Arc::as_ptr) == config.map(Arc::as_ptr)
            && self.credential.as_ref().map(Arc::as_ptr) == credential.map(Arc::as_ptr)
    }
}

impl Repository {
    pub(crate) fn new(inner: Arc<Inner>, reference: &Reference, credential: Renewable) -> Self {
        let current = credential.current();
        let (registry, api_host) = (reference.registry().to_owned(), reference.api_host().to_owned());
        let name = reference.repository().to_owned();
        let straight = Route::new(
            &Destination {
                inner: &inner,
                registry: &registry,
                api_host: &api_host,
                name: &name,
                credential: current.as_ref(),
            },
            None,
        );
        let way = Mutex::new(Way { config: None, credential: current, route: Arc::new(straight) });
        let dossiers = Dossiers::default();
        let shared = Shared { inner, registry, api_host, name, credential, way, dossiers };
        Self { shared: Arc::new(shared) }
    }

    /// The registry as references name it, `host[:port]`.
    pub fn registry(&self) -> &str {
        &self.shared.registry
    }

    /// The repository's name.
    pub fn repository(&self) -> &str {
        &self.shared.name
    }

    /// Whether requests may carry a credential.
    pub fn has_credential(&self) -> bool {
        self.shared.credential.current().is_some()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.shared.inner
    }

    pub(crate) fn dossiers(&self) -> &Dossiers {
        &self.shared.dossiers
    }

    /// `host/repository`, for messages.
    pub(crate) fn describe_text(&self) -> String {
        format!("{}/{}", self.shared.registry, self.shared.name)
    }

    /// The hosts that are asked now, by what an administrator has written, with the newest credential.
    pub(crate) async fn route(&self, what: &str) -> Result<Arc<Route>, RegistryError> {
        let Shared { inner, registry, api_host, name, credential, way, .. } = &*self.shared;
        let config = inner.hosts.config(registry, api_host).await.map_err(|error| {
            let (what, reason) = (what.to_owned(), error.to_string());
            RegistryError::Unavailable { what, reason, retry_after: None }
        })?;
        let mut way = way.lock().unwrap_or_else(PoisonError::into_inner);
        let credential = credential.current();
        if !way.fits(config.as_ref(), credential.as_ref()) {
            let to = Destination { inner, registry, api_host, name, credential: credential.as_ref() };
            let route = Arc::new(Route::new(&to, config.as_deref()));
            *way = Way { config, credential, route };
        }
        Ok(Arc::clone(&way.route))
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("registry", &self.shared.registry)
            .field("repository", &self.shared.name)
            .field("credential", &self.shared.credential.current().is_some())
            .finish_non_exhaustive()
    }
}
