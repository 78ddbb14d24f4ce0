//! One repository, seen with one credential.

use std::fmt;
use std::sync::Arc;

use stowage_artifact::Reference;
use url::Url;

use crate::auth::Slot;
use crate::blob::Links;
use crate::client::Inner;
use crate::credential::Credential;
use crate::error::RegistryError;

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
    slot: Arc<Slot>,
    links: Links,
}

impl Repository {
    pub(crate) fn new(inner: Arc<Inner>, reference: &Reference, credential: Option<Credential>) -> Self {
        let slot = inner.passes.slot(reference.registry(), reference.repository(), credential.as_ref());
        let shared = Shared {
            inner,
            registry: reference.registry().to_owned(),
            api_host: reference.api_host().to_owned(),
            name: reference.repository().to_owned(),
            credential: credential.map(Arc::new),
            slot,
            links: Links::default(),
        };
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

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.shared.slot
    }

    pub(crate) fn links(&self) -> &Links {
        &self.shared.links
    }

    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.shared.credential.as_deref()
    }

    pub(crate) fn shared_credential(&self) -> Option<Arc<Credential>> {
        self.shared.credential.clone()
    }

    /// `host/repository`, for messages.
    pub(crate) fn describe_text(&self) -> String {
        format!("{}/{}", self.shared.registry, self.shared.name)
    }

    /// What a token request is doing.
    pub(crate) fn sign_in_text(&self) -> String {
        format!("sign in to {}", self.describe_text())
    }

    /// The URL of `/v2/<name>/`.
    pub(crate) async fn base(&self, what: &str) -> Result<Url, RegistryError> {
        self.shared.inner.base(&self.shared.api_host, &self.shared.name, what).await
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
