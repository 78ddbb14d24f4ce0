//! One repository at one host: where a request goes, and who we are there.

use std::sync::Arc;

use url::Url;

use crate::access::{Access, mirror_name};
use crate::auth::Slot;
use crate::blob::Links;
use crate::client::Inner;
use crate::credential::Credential;
use crate::error::RegistryError;

/// One repository at one host.
pub(crate) struct Endpoint {
    inner: Arc<Inner>,
    access: Arc<Access>,
    place: Place,
    /// The repository's name.
    name: String,
    /// `host/repository`, for messages.
    shown: String,
    /// Never the pod's at a mirror.
    credential: Option<Arc<Credential>>,
    slot: Arc<Slot>,
    links: Links,
}

/// Where the API of a host is.
pub(crate) enum Place {
    /// At this host, with the scheme that policy gives it.
    Host(String),
    /// Where an administrator wrote it.
    Written(Url),
}

impl Endpoint {
    /// The registry itself, with the credential that was given for it.
    pub(crate) fn registry(
        inner: &Arc<Inner>,
        access: Arc<Access>,
        place: Place,
        registry: &str,
        name: &str,
        credential: Option<Arc<Credential>>,
    ) -> Self {
        Self {
            inner: Arc::clone(inner),
            access,
            place,
            name: name.to_owned(),
            shown: format!("{registry}/{name}"),
            slot: inner.passes.slot(registry, name, credential.as_deref()),
            credential,
            links: Links::default(),
        }
    }

    /// A mirror of `registry`. It never hears of a credential.
    pub(crate) fn mirror(
        inner: &Arc<Inner>,
        access: Arc<Access>,
        url: &Url,
        registry: &str,
        name: &str,
    ) -> Self {
        // Tokens of one registry are none of another one's behind the same mirror.
        let slot = inner.passes.slot(&format!("{url} for {registry}"), name, None);
        Self {
            inner: Arc::clone(inner),
            access,
            place: Place::Written(url.clone()),
            name: name.to_owned(),
            shown: format!("{registry}/{name} at the mirror {}", mirror_name(url)),
            credential: None,
            slot,
            links: Links::default(),
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    pub(crate) fn is_mirror(&self) -> bool {
        self.access.namespace.is_some()
    }

    /// The repository's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    pub(crate) fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.credential.as_deref()
    }

    pub(crate) fn shared_credential(&self) -> Option<Arc<Credential>> {
        self.credential.clone()
    }

    /// `host/repository`, for messages.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// What a token request is doing.
    pub(crate) fn sign_in_text(&self) -> String {
        format!("sign in to {}", self.shown)
    }

    /// The URL below which the repository is.
    pub(crate) async fn base(&self, what: &str) -> Result<Url, RegistryError> {
        match &self.place {
            Place::Host(host) => self.inner.base(host, &self.name, what).await,
            Place::Written(url) => {
                let api = url.as_str().trim_end_matches('/');
                Url::parse(&format!("{api}/{}/", self.name)).map_err(|_| self.no_url(what))
            }
        }
    }

    /// The URL of something below the repository.
    pub(crate) fn url(&self, base: &Url, path: &str, what: &str) -> Result<Url, RegistryError> {
        let mut url = base.join(path).map_err(|_| self.no_url(what))?;
        if let Some(namespace) = &self.access.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    fn no_url(&self, what: &str) -> RegistryError {
        let reason = format!("{} and the path give no URL", self.shown);
        RegistryError::Protocol { what: what.to_owned(), reason }
    }
}
