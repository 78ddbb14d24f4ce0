//! How kubelet finds and takes on a plugin.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use stowage_csi_proto::csi::v1::NodeGetInfoRequest;
use stowage_csi_proto::csi::v1::node_client::NodeClient;
use stowage_csi_proto::pluginregistration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::{FakeKubelet, Plugin, channel};

/// The paths as kubelet dials them, written out: a package that is renamed in `proto/` must fail here.
const GET_INFO: &str = "/pluginregistration.Registration/GetInfo";
const NOTIFY: &str = "/pluginregistration.Registration/NotifyRegistrationStatus";

/// Why kubelet did not take the plugin on.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Nobody listened on the registration socket in time.
    #[error("no plugin listened on {} within {limit:?}", socket.display())]
    NoSocket {
        /// The socket.
        socket: PathBuf,
        /// How long kubelet waited.
        limit: Duration,
    },
    /// A call of the registration failed.
    #[error("{call} failed: {status}")]
    Call {
        /// The full path of the call.
        call: &'static str,
        /// The plugin's answer.
        status: Box<Status>,
    },
    /// The plugin described itself as something else.
    #[error("the plugin registered with {what} {found:?}, where kubelet wants {wanted}")]
    Info {
        /// Which part is wrong.
        what: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        wanted: String,
    },
    /// `NodeGetInfo` failed or named no node.
    #[error("NodeGetInfo failed, so kubelet refused the plugin: {0}")]
    NodeInfo(String),
}

impl FakeKubelet {
    /// Registers a driver as kubelet does: `GetInfo`, `NodeGetInfo` at the endpoint, then the notice.
    /// Waits at most `limit` for the registration socket; the plugin is told of every failure.
    pub async fn register(&self, driver: &str, limit: Duration) -> Result<Plugin, RegistrationError> {
        let socket = self.registration_socket(driver);
        self.wait_for(&socket, limit).await?;
        let registration = channel::by_path(&socket).map_err(|reset| RegistrationError::Call {
            call: GET_INFO,
            status: Box::new(Status::internal(reset)),
        })?;
        let info: PluginInfo = call(&registration, GET_INFO, InfoRequest {}).await?;
        let outcome = self.take_on(driver, &info).await;
        let status = RegistrationStatus {
            plugin_registered: outcome.is_ok(),
            error: outcome.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        };
        let _: RegistrationStatusResponse = call(&registration, NOTIFY, status).await?;
        outcome
    }

    async fn wait_for(&self, socket: &PathBuf, limit: Duration) -> Result<(), RegistrationError> {
        let listening = async {
            while tokio::net::UnixStream::connect(socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(limit, listening)
            .await
            .map_err(|_| RegistrationError::NoSocket { socket: socket.clone(), limit })
    }

    async fn take_on(&self, driver: &str, info: &PluginInfo) -> Result<Plugin, RegistrationError> {
        let wrong = |what, found: &str, wanted: &str| RegistrationError::Info {
            what,
            found: found.into(),
            wanted: wanted.into(),
        };
        if info.r#type != "CSIPlugin" {
            return Err(wrong("type", &info.r#type, "CSIPlugin"));
        }
        if info.name != driver {
            return Err(wrong("name", &info.name, driver));
        }
        let versions = &info.supported_versions;
        if !versions.iter().any(|version| version.strip_prefix("1.").is_some()) {
            return Err(wrong("versions", &versions.join(", "), "a CSI version 1.x.y"));
        }
        // Without an endpoint kubelet goes on with the registration socket.
        let endpoint = match info.endpoint.as_str() {
            "" => self.registration_socket(driver),
            path if path.starts_with('/') => path.into(),
            other => return Err(wrong("endpoint", other, "an absolute path")),
        };
        let mut node = NodeClient::new(channel::lazily(&endpoint));
        let answer = node
            .node_get_info(NodeGetInfoRequest {})
            .await
            .map_err(|status| RegistrationError::NodeInfo(status.to_string()))?
            .into_inner();
        if answer.node_id.is_empty() {
            return Err(RegistrationError::NodeInfo("the node_id is empty".into()));
        }
        Ok(Plugin::new(self.clone(), driver, endpoint, answer))
    }
}

async fn call<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A, RegistrationError>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let failed = |status| RegistrationError::Call { call: path, status: Box::new(status) };
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| failed(Status::unavailable(error.to_string())))?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = client.unary(Request::new(request), PathAndQuery::from_static(path), codec).await;
    answer.map(tonic::Response::into_inner).map_err(failed)
}
