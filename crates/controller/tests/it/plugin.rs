//! The controller's CSI socket, and its clients.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kube::Client;
use stowage_controller::csi::{ControllerService, IdentityService, ServeError, serve};
use stowage_controller::{Memory, Policy, Provisioner, ProvisionerOptions, Resolver};
use stowage_csi_proto::csi::v1::controller_client::ControllerClient;
use stowage_csi_proto::csi::v1::identity_client::IdentityClient;
use stowage_csi_proto::csi::v1::volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode};
use stowage_csi_proto::csi::v1::{CapacityRange, CreateVolumeRequest, Volume, VolumeCapability};
use stowage_registry::{Backoff, PlainHttp, RegistryOptions};
use stowage_telemetry::{ControllerMetrics, Health};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

/// How long anything may take on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A controller that is not started yet.
pub(crate) struct Builder {
    pub(crate) client: Option<Client>,
    pub(crate) memory: Memory,
    pub(crate) docker_config: Option<PathBuf>,
    pub(crate) policy: Policy,
    pub(crate) budget: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            client: None,
            memory: Memory::volatile(),
            docker_config: None,
            policy: Policy::default(),
            budget: LIMIT,
        }
    }
}

impl Builder {
    /// Serves the socket, and waits until it is ready.
    pub(crate) async fn start(self) -> Plugin {
        let options = RegistryOptions {
            plain_http: PlainHttp { hosts: Vec::new(), loopback: true },
            tries: 2,
            backoff: Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(2) },
            ..RegistryOptions::default()
        };
        let registry = stowage_registry::Registry::new(options).unwrap();
        let resolver = Resolver::new(registry, self.policy);
        let options = ProvisionerOptions {
            memory: self.memory,
            docker_config: self.docker_config,
            budget: self.budget,
            ..ProvisionerOptions::new("csi.stowage.dev".to_owned(), resolver, self.client)
        };
        let (stop, health, metrics) = (CancellationToken::new(), Health::new(), ControllerMetrics::new());
        health.waiting("csi", "not served yet");
        let provisioner = Provisioner::new(options, stop.clone());
        let identity = IdentityService::new(provisioner.clone());
        let controller = ControllerService::new(provisioner, metrics.clone());
        let directory = tempfile::Builder::new().prefix("stw-").tempdir().unwrap();
        let socket = directory.path().join("csi.sock");
        let running = tokio::spawn({
            let (socket, health, stop) = (socket.clone(), health.clone(), stop.clone());
            async move { serve(identity, controller, &socket, &health, stop).await }
        });
        let ready = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            while !health.is_ready() {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, ready).await.expect("the socket is not served");
        Plugin { directory, metrics, stop, running, channel: channel(socket) }
    }
}

fn channel(socket: PathBuf) -> Channel {
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    }))
}

/// A controller that serves.
pub(crate) struct Plugin {
    directory: TempDir,
    pub(crate) metrics: ControllerMetrics,
    pub(crate) stop: CancellationToken,
    running: JoinHandle<Result<(), ServeError>>,
    channel: Channel,
}

impl Plugin {
    pub(crate) fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone())
    }

    pub(crate) fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel.clone())
    }

    /// `CreateVolume`: the volume, or the code and its message.
    pub(crate) async fn create(&self, request: CreateVolumeRequest) -> Result<Volume, (Code, String)> {
        let answer = self.controller().create_volume(request).await.map_err(told)?;
        Ok(answer.into_inner().volume.unwrap())
    }

    /// Stops it, and waits until its socket is gone.
    pub(crate) async fn ended(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.running).await.expect("it does not end").unwrap().unwrap();
        assert_eq!(std::fs::read_dir(self.directory.path()).unwrap().count(), 0, "the socket is left");
    }
}

/// A status as the tests compare it.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
pub(crate) fn told(status: Status) -> (Code, String) {
    (status.code(), status.message().to_owned())
}

/// What the provisioner asks for a claim of `ReadOnlyMany`.
pub(crate) fn request(name: &str, parameters: &[(&str, &str)]) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: 10, limit_bytes: 0 }),
        volume_capabilities: vec![capability(Mode::MultiNodeReaderOnly)],
        parameters: map(parameters),
        ..CreateVolumeRequest::default()
    }
}

pub(crate) fn capability(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
