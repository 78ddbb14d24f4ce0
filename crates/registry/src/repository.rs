//! One repository, seen with one credential.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use stowage_artifact::Reference;

use crate::client::Inner;
use crate::credential::Credential;
use crate::dossier::Dossiers;
use crate::error::RegistryError;
use crate::hosts::HostsConfig;
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
    credential: Option<Arc<Credential>>,
    route: Mutex<(Option<Arc<HostsConfig>>, Arc<Route>)>,
    dossiers: Dossiers,
}

impl Repository {
    pub(crate) fn new(inner: Arc<Inner>, reference: &Reference, credential: Option<Credential>) -> Self {
        let credential = credential.map(Arc::new);
        let (registry, api_host) = (reference.registry().to_owned(), reference.api_host().to_owned());
        let name = reference.repository().to_owned();
        let straight = Route::new(
            &Destination {
                inner: &inner,
                registry: &registry,
                api_host: &api_host,
                name: &name,
                credential: credential.as_ref(),
            },
            None,
        );
        let route = Mutex::new((None, Arc::new(straight)));
        let dossiers = Dossiers::default();
        let shared = Shared { inner, registry, api_host, name, credential, route, dossiers };
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
        self.shared.credential.is_some()
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

    /// The hosts that are asked now, by what an administrator has written.
    pub(crate) async fn route(&self, what: &str) -> Result<Arc<Route>, RegistryError> {
        let Shared { inner, registry, api_host, name, credential, route, .. } = &*self.shared;
        let config = inner.hosts.config(registry, api_host).await.map_err(|error| {
            let (what, reason) = (what.to_owned(), error.to_string());
            RegistryError::Unavailable { what, reason, retry_after: None }
        })?;
        let mut route = route.lock().unwrap_or_else(PoisonError::into_inner);
        if route.0.as_ref().map(Arc::as_ptr) != config.as_ref().map(Arc::as_ptr) {
            let credential = credential.as_ref();
            let to = Destination { inner, registry, api_host, name, credential };
            let new = Arc::new(Route::new(&to, config.as_deref()));
            *route = (config, new);
        }
        Ok(Arc::clone(&route.1))
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("registry", &self.shared.registry)
            .field("repository", &self.shared.name)
            .field("credential", &self.shared.credential.is_some())
            .finish_non_exhaustive()
    }
}
