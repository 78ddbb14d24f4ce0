//! The client that all repositories share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy};
use stowage_artifact::Reference;
use url::Url;

use crate::address::{AddressPolicy, PolicyResolver};
use crate::auth::Passes;
use crate::credential::Credential;
use crate::error::{RegistryError, SetupError};
use crate::host::HostPattern;
use crate::network_error::spoke_tls;
use crate::options::{ProxySettings, RegistryOptions};
use crate::pause::Pauses;
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
    pub(crate) policy: Arc<AddressPolicy>,
    pub(crate) pauses: Pauses,
    pub(crate) passes: Passes,
    /// For manifests and tokens.
    short: Client,
    /// For blobs: limits of registries are per connection, so each stream has its own.
    long: Client,
    /// Which loopback registries speak plain http.
    loopback_schemes: Mutex<HashMap<String, bool>>,
}

impl Registry {
    /// Makes a client. The system's certificates are read here, once.
    pub fn new(options: RegistryOptions) -> Result<Self, SetupError> {
        let proxies = proxies(&options.proxy)?;
        let policy = Arc::new(AddressPolicy::new(
            &options.local_hosts,
            &options.plain_http.hosts,
            proxies.iter().map(|(_, host)| host.clone()).collect(),
            options.plain_http.loopback,
        ));
        let certificates = certificates(&options.ca_pem)?;
        let make = || builder(&options, &policy, &certificates, &proxies);
        let (short, long) = (build(make, &certificates)?, build(|| make().http1_only(), &certificates)?);
        let inner = Inner {
            policy,
            pauses: Pauses::default(),
            passes: Passes::new(),
            short,
            long,
            loopback_schemes: Mutex::default(),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// One repository, seen with one credential. Nothing is sent yet.
    pub fn repository(&self, reference: &Reference, credential: Option<Credential>) -> Repository {
        Repository::new(Arc::clone(&self.inner), reference, credential)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn client(&self, long: bool) -> &Client {
        if long { &self.long } else { &self.short }
    }

    /// The URL of `/v2/<repository>/` at a registry, with the scheme that policy gives it.
    pub(crate) async fn base(&self, host: &str, repository: &str, what: &str) -> Result<Url, RegistryError> {
        let parse = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/v2/{repository}/")).map_err(|_| RegistryError::Protocol {
                what: what.to_owned(),
                reason: format!("{host}/{repository} gives no URL"),
            })
        };
        let (plain, secure) = (parse("http")?, parse("https")?);
        if self.policy.is_listed_plain(&plain) {
            return Ok(plain);
        }
        if self.policy.is_loopback_registry(&secure) && !self.loopback_speaks_tls(host, &secure).await {
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
        let probe = self.short.head(secure.clone()).timeout(SCHEME_PROBE).send().await;
        // A server that is not there yet has shown nothing: it is asked again next time.
        let Some(tls) = probe.map_or_else(|error| spoke_tls(&error), |_| Some(true)) else { return false };
        self.loopback_schemes.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), tls);
        tls
    }
}

type HostedProxy = (Proxy, HostPattern);

fn proxies(settings: &ProxySettings) -> Result<Vec<HostedProxy>, SetupError> {
    // A proxy's loopback is not ours, so loopback is never asked of it.
    let own = settings.no_proxy.as_deref().unwrap_or_default();
    let direct = NoProxy::from_string(&format!("localhost,127.0.0.0/8,::1,{own}"));
    let mut proxies = Vec::new();
    let wanted = [("HTTPS_PROXY", &settings.https), ("HTTP_PROXY", &settings.http)];
    for (variable, value) in wanted {
        let Some(value) = value else { continue };
        let refuse = || SetupError::Proxy { variable };
        let with_scheme = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        let url = Url::parse(&with_scheme).map_err(|_| refuse())?;
        let host = url.host_str().ok_or_else(refuse)?.parse().map_err(|_| refuse())?;
        let proxy = if variable == "HTTPS_PROXY" { Proxy::https(url) } else { Proxy::http(url) };
        proxies.push((proxy.map_err(|_| refuse())?.no_proxy(direct.clone()), host));
    }
    Ok(proxies)
}

fn certificates(bundles: &[Vec<u8>]) -> Result<Vec<Certificate>, SetupError> {
    let mut all = Vec::new();
    for (index, pem) in bundles.iter().enumerate() {
        let refuse = |reason: String| SetupError::CaBundle { number: index + 1, reason };
        let found = Certificate::from_pem_bundle(pem).map_err(|error| refuse(innermost(&error)))?;
        if found.is_empty() {
            return Err(refuse("it holds no certificate".to_owned()));
        }
        all.extend(found);
    }
    Ok(all)
}

fn builder(
    options: &RegistryOptions,
    policy: &Arc<AddressPolicy>,
    certificates: &[Certificate],
    proxies: &[HostedProxy],
) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(&options.user_agent)
        .connect_timeout(options.connect_timeout)
        .redirect(Policy::none())
        .referer(false)
        // Another crate of the process may switch decompression on for all: digests are of the bytes sent.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .no_proxy()
        .dns_resolver(PolicyResolver(Arc::clone(policy)))
        .tls_certs_merge(certificates.iter().cloned());
    proxies.iter().fold(builder, |builder, (proxy, _)| builder.proxy(proxy.clone()))
}

fn build(make: impl Fn() -> ClientBuilder, certificates: &[Certificate]) -> Result<Client, SetupError> {
    let failed = match make().build() {
        Ok(client) => return Ok(client),
        Err(error) => SetupError::Client { reason: innermost(&error) },
    };
    if !certificates.is_empty() {
        return Err(failed);
    }
    // An image without any certificate still has plain registries to read from; https then says why it fails.
    let client = make().tls_certs_only([]).build().map_err(|_| failed)?;
    tracing::warn!("no certificate authority is known to this system: https registries need a CA bundle");
    Ok(client)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
