//! The client that all repositories share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stowage_artifact::Reference;
use url::Url;

use crate::access::{Access, AccessMaker};
use crate::auth::Passes;
use crate::credential::Credential;
use crate::error::{RegistryError, SetupError};
use crate::hosts::Watch;
use crate::network_error::spoke_tls;
use crate::options::RegistryOptions;
use crate::pause::Pauses;
use crate::renewable::Renewable;
use crate::repository::Repository;

/// How long a loopback server may take to show whether it speaks TLS.
const SCHEME_PROBE: Duration = Duration::from_secs(3);

/// Reads from registries. Cheap to clone; all clones share connections, tokens and pauses.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: RegistryOptions,
    /// How registries are reached about which nothing is written.
    pub(crate) access: Arc<Access>,
    /// What is written about registries.
    pub(crate) hosts: Watch,
    /// Hosts that asked for a pause.
    pub(crate) pauses: Pauses,
    /// Mirrors that failed and are left alone for a while.
    pub(crate) rests: Pauses,
    pub(crate) passes: Passes,
    /// Which loopback registries speak plain http.
    loopback_schemes: Mutex<HashMap<String, bool>>,
}

impl Registry {
    /// Makes a client. The system's certificates are read here, once.
    pub fn new(options: RegistryOptions) -> Result<Self, SetupError> {
        let maker = Arc::new(AccessMaker::new(&options)?);
        let inner = Inner {
            access: Arc::clone(maker.ordinary()),
            hosts: Watch::new(&options.mirrors.roots, options.mirrors.check_every, maker),
            pauses: Pauses::default(),
            rests: Pauses::default(),
            passes: Passes::new(),
            loopback_schemes: Mutex::default(),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// One repository, seen with one credential. Nothing is sent yet.
    pub fn repository(&self, reference: &Reference, credential: Option<Credential>) -> Repository {
        self.repository_of(reference, &Renewable::from(credential))
    }

    /// The same for a reader whose credential is renewed now and then.
    pub fn repository_of(&self, reference: &Reference, credential: &Renewable) -> Repository {
        Repository::new(Arc::clone(&self.inner), reference, credential.clone())
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Inner {
    /// The URL of `/v2/<repository>/` at a registry, with the scheme that policy gives it.
    pub(crate) async fn base(&self, host: &str, repository: &str, what: &str) -> Result<Url, RegistryError> {
        let parse = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/v2/{repository}/")).map_err(|_| RegistryError::Protocol {
                what: what.to_owned(),
                reason: format!("{host}/{repository} gives no URL"),
            })
        };
        let (plain, secure) = (parse("http")?, parse("https")?);
        if self.access.policy().is_listed_plain(&plain) {
            return Ok(plain);
        }
        if self.access.policy().is_loopback_registry(&secure)
            && !self.loopback_speaks_tls(host, &secure).await
        {
            return Ok(plain);
        }
        Ok(secure)
    }

    /// Finds out once per registry whether it answers in TLS. Used on loopback alone, where nobody sits in
    /// between to pretend that it does not.
    async fn loopback_speaks_tls(&self, host: &str, secure: &Url) -> bool {
        let known =
            || self.loopback_schemes.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
        if let Some(tls) = known() {
            return tls;
        }
        let client = self.access.client(secure, secure, false);
        let probe = client.head(secure.clone()).timeout(SCHEME_PROBE).send().await;
        // A server that is not there yet has shown nothing: it is asked again next time.
        let Some(tls) = probe.map_or_else(|error| spoke_tls(&error), |_| Some(true)) else { return false };
        self.loopback_schemes.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), tls);
        tls
    }
}
