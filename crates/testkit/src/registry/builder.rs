//! How a registry is to behave, and its start.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Registry;
use super::auth::{Access, Auth, BearerOptions, Gate};
use super::content::Content;
use super::push::Uploads;
use super::rules::Faults;
use super::server::Listener;
use super::shared::{Mode, Presigned, Shared, State};
use super::tls::Identity;
use super::traffic::{Place, Traffic};

/// Name, password, and the repositories with access to them; `None` is all.
type NewUser = (String, String, Option<Vec<(String, Access)>>);

/// Settles how a registry behaves before it starts.
#[derive(Clone, Debug)]
pub struct RegistryBuilder {
    address: SocketAddr,
    storage_address: SocketAddr,
    tls: bool,
    names: Vec<String>,
    auth: Auth,
    users: Vec<NewUser>,
    public: Vec<String>,
    rate: u64,
    mode: Mode,
}

impl Default for RegistryBuilder {
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            address: loopback,
            storage_address: loopback,
            tls: false,
            names: Vec::new(),
            auth: Auth::None,
            users: Vec::new(),
            public: Vec::new(),
            rate: 0,
            mode: Mode { ollama: false, tags_only: false, referrers: true, redirect: None },
        }
    }
}

impl RegistryBuilder {
    /// Listens at this address, not at a free loopback port.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Puts the host of redirected blobs at this address, not at a free loopback port.
    #[must_use]
    pub fn bind_storage(mut self, address: SocketAddr) -> Self {
        self.storage_address = address;
        self
    }

    /// Speaks TLS, by a certificate that is good for loopback.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Makes the certificate good for one more name.
    #[must_use]
    pub fn tls_name(mut self, name: &str) -> Self {
        self.names.push(name.into());
        self
    }

    /// Wants a user and a password; the user may do everything. Call it again for more users.
    #[must_use]
    pub fn basic(mut self, user: &str, password: &str) -> Self {
        self.auth = Auth::Basic;
        self.user(user, password)
    }

    /// Wants bearer tokens, from this registry's own `/token`.
    #[must_use]
    pub fn bearer(mut self, options: BearerOptions) -> Self {
        self.auth = Auth::Bearer(options);
        self
    }

    /// Adds a user who may do everything.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.into(), password.into(), None));
        self
    }

    /// Adds a user with access to some repositories: names, or patterns that end in `*`.
    #[must_use]
    pub fn user_of(mut self, name: &str, password: &str, repositories: &[(&str, Access)]) -> Self {
        let owned = repositories.iter().map(|(pattern, access)| ((*pattern).into(), *access)).collect();
        self.users.push((name.into(), password.into(), Some(owned)));
        self
    }

    /// Lets everybody pull from these repositories: a name, or a pattern that ends in `*`.
    #[must_use]
    pub fn public(mut self, pattern: &str) -> Self {
        self.public.push(pattern.into());
        self
    }

    /// Limits each connection to this many bytes a second.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = bytes_per_second;
        self
    }

    /// Redirects every GET of a blob to the other host, by a signed URL that expires so.
    #[must_use]
    pub fn redirect_blobs(mut self, uses: Option<u32>, lifetime: Option<Duration>) -> Self {
        self.mode.redirect = Some((uses, lifetime));
        self
    }

    /// Behaves as Ollama's registry: every manifest is served as Docker's schema 2, and only to those who accept that;
    /// blobs come by 307 from another host; there is no `/v2/`, catalog, list of tags or referrers
    /// (<https://github.com/ollama/ollama/issues/6510> and 5021).
    #[must_use]
    pub fn ollama(mut self) -> Self {
        self.mode = Mode { ollama: true, referrers: false, redirect: Some((None, None)), ..self.mode };
        self
    }

    /// Answers 500 to whoever asks for a manifest by its digest, as Ollama's registry has been seen to do
    /// (<https://github.com/ollama/ollama/issues/5298>).
    #[must_use]
    pub fn manifests_by_tag_only(mut self) -> Self {
        self.mode.tags_only = true;
        self
    }

    /// Has no referrers API.
    #[must_use]
    pub fn without_referrers(mut self) -> Self {
        self.mode.referrers = false;
        self
    }

    /// Starts on the caller's runtime.
    pub async fn start(self) -> io::Result<Registry> {
        let listener = TcpListener::bind(self.address).await?;
        let storage = TcpListener::bind(self.storage_address).await?;
        let (address, storage_address) = (listener.local_addr()?, storage.local_addr()?);
        let identity = self.tls.then(|| Identity::generate(&self.names)).transpose()?;
        let acceptor = match &identity {
            Some(identity) => Some(TlsAcceptor::from(identity.server_config()?)),
            None => None,
        };
        let shared = self.shared(address, storage_address)?;
        let (online, _) = watch::channel(true);
        let (listening, listening_now) = watch::channel(true);
        let (storage_listening, _) = watch::channel(true);
        let run = |place, address, listening, bound| {
            let listener = Listener {
                shared: Arc::clone(&shared),
                place,
                address,
                tls: acceptor.clone(),
                online: online.subscribe(),
                listening,
            };
            AbortOnDropHandle::new(tokio::spawn(listener.run(bound)))
        };
        let tasks = vec![
            run(Place::Registry, address, listening, listener),
            run(Place::Storage, storage_address, storage_listening, storage),
        ];
        Ok(Registry {
            shared,
            address,
            storage_address,
            identity,
            online,
            listening: listening_now,
            tasks,
            runtime: None,
        })
    }

    /// Starts on threads of its own, for callers that block.
    pub fn start_blocking(self) -> io::Result<Registry> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let handle = runtime.handle().clone();
        // A thread of its own, because the caller may be on another runtime's thread.
        let start = std::thread::spawn(move || handle.block_on(self.start()));
        let mut registry = start.join().map_err(|_| io::Error::other("starting the registry panicked"))??;
        registry.runtime = Some(runtime);
        Ok(registry)
    }

    fn shared(self, address: SocketAddr, storage_address: SocketAddr) -> io::Result<State> {
        let scheme = if self.tls { "https" } else { "http" };
        let gate = Gate::new(self.auth);
        for (name, password, repositories) in self.users {
            gate.set_user(&name, &password, repositories);
        }
        for pattern in &self.public {
            gate.make_public(pattern);
        }
        Ok(Arc::new(Shared {
            content: Content::default(),
            gate,
            faults: Faults::default(),
            traffic: Traffic::default(),
            uploads: Uploads::default(),
            presigned: Presigned::default(),
            mode: self.mode,
            origin: format!("{scheme}://{address}"),
            storage_origin: format!("{scheme}://{storage_address}"),
            rate: AtomicU64::new(self.rate),
            next_connection: AtomicU64::new(1),
            cut: Mutex::new(CancellationToken::new()),
            directory: tempfile::Builder::new().prefix("stowage-registry-").tempdir()?,
        }))
    }
}
