//! HTTP clients: one kind for every purpose, made of the options and of what a `hosts.toml` adds.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy};
use stowage_artifact::Digest;
use url::Url;

use crate::address::{AddressPolicy, PolicyResolver};
use crate::error::SetupError;
use crate::host::HostPattern;
use crate::options::{ProxySettings, RegistryOptions};

/// Clients that reach the same hosts in the same way.
#[derive(Clone)]
pub(crate) struct Clients {
    /// For manifests and tokens.
    pub(crate) short: Client,
    /// For blobs: limits of registries are per connection, so each stream has its own.
    pub(crate) long: Client,
}

impl Clients {
    pub(crate) fn get(&self, long: bool) -> &Client {
        if long { &self.long } else { &self.short }
    }
}

/// What sets one host's clients apart.
#[derive(Clone, Default)]
pub(crate) struct Special {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) identity: Option<Identity>,
    /// Digests of the files that both are from.
    pub(crate) files: Vec<Digest>,
    pub(crate) skip_verify: bool,
    pub(crate) connect_timeout: Option<Duration>,
    /// Whether the proxies of the environment are left aside.
    pub(crate) direct: bool,
}

impl Special {
    /// Tells it from all others.
    pub(crate) fn fingerprint(&self) -> String {
        let Self { files, skip_verify, connect_timeout, direct, .. } = self;
        format!("{files:?} {skip_verify} {connect_timeout:?} {direct}")
    }
}

/// Makes clients. The certificates and proxies of the options are read once.
pub(crate) struct ClientMaker {
    user_agent: String,
    connect_timeout: Duration,
    certificates: Vec<Certificate>,
    proxies: Vec<(Proxy, HostPattern)>,
}

impl ClientMaker {
    pub(crate) fn new(options: &RegistryOptions) -> Result<Self, SetupError> {
        Ok(Self {
            user_agent: options.user_agent.clone(),
            connect_timeout: options.connect_timeout,
            certificates: certificates(&options.ca_pem)?,
            proxies: proxies(&options.proxy)?,
        })
    }

    /// The proxies' own hosts.
    pub(crate) fn proxy_hosts(&self) -> Vec<HostPattern> {
        self.proxies.iter().map(|(_, host)| host.clone()).collect()
    }

    /// Makes one client for all that is asked of a mirror: they are costly to make, and a file can name many.
    pub(crate) fn make_one(
        &self,
        policy: &Arc<AddressPolicy>,
        special: &Special,
    ) -> Result<Clients, SetupError> {
        let client = self.build(|| self.builder(policy, special).http1_only(), special)?;
        Ok(Clients { short: client.clone(), long: client })
    }

    /// Makes a pair of clients.
    pub(crate) fn make(&self, policy: &Arc<AddressPolicy>, special: &Special) -> Result<Clients, SetupError> {
        let make = || self.builder(policy, special);
        let short = self.build(make, special)?;
        let long = self.build(|| make().http1_only(), special)?;
        Ok(Clients { short, long })
    }

    fn builder(&self, policy: &Arc<AddressPolicy>, special: &Special) -> ClientBuilder {
        let certificates = self.certificates.iter().chain(&special.certificates).cloned();
        let mut builder = Client::builder()
            .user_agent(&self.user_agent)
            .connect_timeout(special.connect_timeout.unwrap_or(self.connect_timeout))
            .redirect(Policy::none())
            .referer(false)
            // Another crate of the process may switch decompression on for all: digests are of the bytes sent.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .no_proxy()
            .dns_resolver(PolicyResolver(Arc::clone(policy)))
            .tls_certs_merge(certificates);
        if special.skip_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if let Some(identity) = &special.identity {
            builder = builder.identity(identity.clone());
        }
        if special.direct {
            return builder;
        }
        self.proxies.iter().fold(builder, |builder, (proxy, _)| builder.proxy(proxy.clone()))
    }

    fn build(&self, make: impl Fn() -> ClientBuilder, special: &Special) -> Result<Client, SetupError> {
        let failed = match make().build() {
            Ok(client) => return Ok(client),
            Err(error) => SetupError::Client { reason: innermost(&error) },
        };
        if !self.certificates.is_empty() || !special.certificates.is_empty() || special.identity.is_some() {
            return Err(failed);
        }
        // An image without any certificate still has plain registries to read from; https then says why it fails.
        let client = make().tls_certs_only([]).build().map_err(|_| failed)?;
        tracing::warn!("no certificate authority is known to this system: https registries need a CA bundle");
        Ok(client)
    }
}

fn proxies(settings: &ProxySettings) -> Result<Vec<(Proxy, HostPattern)>, SetupError> {
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
        let found = bundle(pem).map_err(|reason| SetupError::CaBundle { number: index + 1, reason })?;
        all.extend(found);
    }
    Ok(all)
}

/// The certificates of a PEM bundle, at least one; else why there are none.
pub(crate) fn bundle(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let found = Certificate::from_pem_bundle(pem).map_err(|error| innermost(&error))?;
    if found.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(found) }
}

/// A certificate with its key out of PEM.
pub(crate) fn identity(pem: &[u8]) -> Result<Identity, String> {
    Identity::from_pem(pem).map_err(|error| innermost(&error))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
