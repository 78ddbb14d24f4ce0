//! Registration with kubelet: who we are, and what happens when kubelet forgets us.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use stowage_csi_proto::pluginregistration::registration_client::RegistrationClient;
use stowage_csi_proto::pluginregistration::{InfoRequest, RegistrationStatus};
use stowage_node::{DRIVER_NAME, Registration, RegistrationOptions};
use stowage_telemetry::Health;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};

const LIMIT: Duration = Duration::from_secs(20);

struct Running {
    directory: tempfile::TempDir,
    health: Health,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(patience: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = RegistrationOptions {
            patience,
            check: Duration::from_millis(20),
            ..RegistrationOptions::new(
                DRIVER_NAME.to_owned(),
                "/k/csi.sock".to_owned(),
                directory.path().to_owned(),
            )
        };
        let (health, stop) = (Health::new(), CancellationToken::new());
        let registration = Registration::new(options, health.clone());
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { registration.run(stop).await.unwrap() }
        });
        Self { directory, health, stop, task }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join(format!("{DRIVER_NAME}@reg.sock"))
    }

    async fn client(&self) -> RegistrationClient<Channel> {
        let path = self.socket();
        until("the registration socket answers", async || {
            let path = path.clone();
            let connect = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
            });
            let channel =
                Endpoint::from_static("http://kubelet").connect_with_connector(connect).await.ok()?;
            Some(RegistrationClient::new(channel))
        })
        .await
    }

    async fn notify(&self, registered: bool, error: &str) {
        let status = RegistrationStatus { plugin_registered: registered, error: error.to_owned() };
        self.client().await.notify_registration_status(status).await.unwrap();
    }
}

async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen in {LIMIT:?}"))
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|metadata| metadata.ino())
}

#[tokio::test]
async fn kubelet_learns_who_we_are_and_readiness_follows_its_word() {
    let running = Running::start(Duration::from_mins(1));
    assert!(running.health.readiness().unwrap_err().contains("registration"));
    let info = running.client().await.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (info.r#type.as_str(), info.name.as_str(), info.endpoint.as_str()),
        ("CSIPlugin", DRIVER_NAME, "/k/csi.sock")
    );
    assert_eq!(info.supported_versions, ["1.0.0"]);
    running.notify(true, "").await;
    assert!(running.health.is_ready());
    running.notify(false, "plugin name is taken").await;
    assert!(running.health.readiness().unwrap_err().contains("plugin name is taken"));
    running.stop.cancel();
    running.task.await.unwrap();
    assert_eq!(std::fs::read_dir(running.directory.path()).unwrap().count(), 0, "the socket stays behind");
}

#[tokio::test]
async fn a_socket_that_went_missing_is_made_again() {
    let running = Running::start(Duration::from_mins(1));
    running.notify(true, "").await;
    std::fs::remove_file(running.socket()).unwrap();
    running.notify(true, "").await;
    assert!(running.health.is_ready());
    running.stop.cancel();
}

#[tokio::test]
async fn a_kubelet_that_says_nothing_sees_the_socket_appear_anew() {
    let running = Running::start(Duration::from_millis(100));
    let socket = running.socket();
    let first = until("the first socket", async || inode(&socket)).await;
    until("another socket", async || inode(&socket).filter(|inode| *inode != first)).await;
    running.stop.cancel();
}
