//! The registration with kubelet (`pluginregistration` v1), built in: no sidecar.
//!
//! Kubelet watches a directory. A socket that appears there is asked who it is; then kubelet talks to the CSI
//! socket and reports back whether it took the plugin. A socket that went missing, or that kubelet did not
//! answer for a minute, is made again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stowage_csi_plugin::{OwnedSocket, SocketError};
use stowage_csi_proto::pluginregistration::registration_server::{
    Registration as RegistrationRpc, RegistrationServer,
};
use stowage_csi_proto::pluginregistration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use stowage_telemetry::Health;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// What kubelet calls a CSI driver.
const PLUGIN_TYPE: &str = "CSIPlugin";
/// The CSI versions that we speak, as kubelet wants them.
const VERSIONS: [&str; 1] = ["1.0.0"];

/// Settings of the registration.
#[derive(Clone, Debug)]
pub struct RegistrationOptions {
    /// The CSI driver name.
    pub driver_name: String,
    /// The CSI socket as kubelet sees it, which may differ from our own path to it.
    pub endpoint: String,
    /// Kubelet's `plugins_registry` directory as we see it.
    pub directory: PathBuf,
    /// How long kubelet may take to report before the socket is made again.
    pub patience: Duration,
    /// How often the socket is looked after.
    pub check: Duration,
}

impl RegistrationOptions {
    /// The usual times: a minute of patience, a look every 5 s.
    pub fn new(driver_name: String, endpoint: String, directory: PathBuf) -> Self {
        Self {
            driver_name,
            endpoint,
            directory,
            patience: Duration::from_mins(1),
            check: Duration::from_secs(5),
        }
    }

    /// Kubelet's gRPC library sends the socket's path as `:authority`, with `%2F` for each slash. HTTP/2 servers in Rust take
    /// per cent signs only before an `@`, and reset the stream of anything else: hence the `@`.
    fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}@reg.sock", self.driver_name))
    }
}

/// The service that kubelet asks.
#[derive(Clone, Debug)]
pub struct Registration {
    options: Arc<RegistrationOptions>,
    registered: Arc<AtomicBool>,
    health: Health,
}

impl Registration {
    /// A registration that has not happened yet; `/readyz` says so.
    pub fn new(options: RegistrationOptions, health: Health) -> Self {
        health.waiting("registration", "kubelet has not registered the plugin yet");
        Self { options: Arc::new(options), registered: Arc::default(), health }
    }

    /// Keeps the plugin registered until `stop`.
    ///
    /// # Errors
    /// [`SocketError`] where the first socket cannot be made; later failures are logged and tried again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), SocketError> {
        let mut served = Some(self.serve()?);
        let mut since = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.options.check) => {}
            }
            let in_place = served.as_ref().is_some_and(|served| served.socket.in_place());
            let patient = self.registered.load(Ordering::Acquire) || since.elapsed() < self.options.patience;
            if in_place && patient {
                continue;
            }
            tracing::info!(in_place, "making the registration socket again");
            self.unregistered("the registration socket was made again; kubelet has not answered yet");
            since = Instant::now();
            // The old socket goes first: kubelet must see its path vanish and appear.
            served = None;
            match self.serve() {
                Ok(again) => served = Some(again),
                Err(error) => tracing::warn!(%error, "cannot make the registration socket; trying again"),
            }
        }
    }

    fn serve(&self) -> Result<Served, SocketError> {
        let (socket, listener) = OwnedSocket::bind(&self.options.socket())?;
        let service = RegistrationServer::new(self.clone());
        let task = tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            if let Err(error) =
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
            {
                tracing::warn!(%error, "the registration socket is no longer served");
            }
        });
        Ok(Served { socket, task })
    }

    fn unregistered(&self, reason: impl Into<String>) {
        self.registered.store(false, Ordering::Release);
        self.health.waiting("registration", reason);
    }
}

/// A socket and the task that serves it; both end together.
struct Served {
    socket: OwnedSocket,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tonic::async_trait]
impl RegistrationRpc for Registration {
    async fn get_info(&self, _request: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: PLUGIN_TYPE.to_owned(),
            name: self.options.driver_name.clone(),
            endpoint: self.options.endpoint.clone(),
            supported_versions: VERSIONS.map(str::to_owned).into(),
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            tracing::info!(driver = %self.options.driver_name, "kubelet has registered the plugin");
            self.registered.store(true, Ordering::Release);
            self.health.ready("registration");
        } else {
            tracing::warn!(error = %status.error, "kubelet has refused the plugin");
            self.unregistered(format!("kubelet has refused the plugin: {}", status.error));
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
