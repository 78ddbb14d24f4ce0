//! A registered plugin, and the calls that kubelet makes to it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stowage_csi_proto::csi::v1::identity_client::IdentityClient;
use stowage_csi_proto::csi::v1::node_client::NodeClient;
use stowage_csi_proto::csi::v1::volume_capability::access_mode::Mode;
use stowage_csi_proto::csi::v1::volume_capability::{AccessMode, AccessType, MountVolume};
use stowage_csi_proto::csi::v1::{
    NodeGetInfoResponse, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest,
    NodeUnpublishVolumeRequest, VolumeCapability,
};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{Failure, FakeKubelet, Pod, RetryPolicy, channel, is_uncertain};

/// Kubelet's deadline for every call to a CSI driver.
const DEADLINE: Duration = Duration::from_mins(2);

/// A plugin that kubelet has taken on.
#[derive(Clone, Debug)]
pub struct Plugin {
    kubelet: FakeKubelet,
    driver: String,
    endpoint: PathBuf,
    info: NodeGetInfoResponse,
    channel: Channel,
    deadline: Duration,
}

/// What is to be published, with kubelet's defaults; the fields may be bent.
#[derive(Clone)]
pub struct PublishRequest {
    /// The volume's id.
    pub volume_id: String,
    /// Where it goes.
    pub target: PathBuf,
    /// The attributes, kubelet's own keys among them.
    pub volume_context: BTreeMap<String, String>,
    /// The secrets.
    pub secrets: BTreeMap<String, String>,
    /// The access mode.
    pub mode: Mode,
    /// Whether the pod asked for `readOnly`.
    pub readonly: bool,
    /// Mount flags, of persistent volumes only.
    pub mount_flags: Vec<String>,
}

/// A volume that was published.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The volume's id.
    pub volume_id: String,
    /// Where it is.
    pub target: PathBuf,
    /// The codes of the tries before it worked.
    pub failed: Vec<tonic::Code>,
}

impl PublishRequest {
    /// The message on the wire.
    pub fn message(&self) -> NodePublishVolumeRequest {
        let mount = MountVolume {
            fs_type: String::new(),
            mount_flags: self.mount_flags.clone(),
            volume_mount_group: String::new(),
        };
        NodePublishVolumeRequest {
            volume_id: self.volume_id.clone(),
            publish_context: HashMap::new(),
            staging_target_path: String::new(),
            target_path: self.target.display().to_string(),
            volume_capability: Some(VolumeCapability {
                access_mode: Some(AccessMode { mode: self.mode.into() }),
                access_type: Some(AccessType::Mount(mount)),
            }),
            readonly: self.readonly,
            secrets: self.secrets.clone().into_iter().collect(),
            volume_context: self.volume_context.clone().into_iter().collect(),
        }
    }
}

impl Plugin {
    pub(super) fn new(
        kubelet: FakeKubelet,
        driver: &str,
        endpoint: PathBuf,
        info: NodeGetInfoResponse,
    ) -> Self {
        let channel = channel::lazily(&endpoint);
        Self { kubelet, driver: driver.into(), endpoint, info, channel, deadline: DEADLINE }
    }

    /// Gives each call this long, where kubelet gives 2 minutes.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The driver's name.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The plugin's own socket.
    pub fn endpoint(&self) -> &Path {
        &self.endpoint
    }

    /// What `NodeGetInfo` answered at the registration.
    pub fn info(&self) -> &NodeGetInfoResponse {
        &self.info
    }

    /// The Node service itself; no deadline is set.
    pub fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    /// The Identity service itself.
    pub fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel.clone())
    }

    /// The request for an inline volume of a pod.
    pub fn inline(&self, pod: &Pod, volume: &str, attributes: &[(&str, &str)]) -> PublishRequest {
        PublishRequest {
            volume_id: pod.inline_volume_id(volume),
            target: self.kubelet.target_path(pod, volume),
            volume_context: context(pod, attributes, true),
            secrets: BTreeMap::new(),
            mode: Mode::SingleNodeWriter,
            readonly: false,
            mount_flags: Vec::new(),
        }
    }

    /// The request for a persistent volume `name` with the handle `handle`, as `ReadOnlyMany`.
    pub fn persistent(
        &self,
        pod: &Pod,
        name: &str,
        handle: &str,
        attributes: &[(&str, &str)],
    ) -> PublishRequest {
        PublishRequest {
            volume_id: handle.into(),
            volume_context: context(pod, attributes, false),
            mode: Mode::MultiNodeReaderOnly,
            ..self.inline(pod, name, &[])
        }
    }

    /// Publishes once: makes the target's parent, and after a final failure removes what kubelet removes.
    pub async fn publish(&self, request: &PublishRequest) -> Result<Publication, Status> {
        let Some(volume_dir) = request.target.parent() else {
            return Err(Status::invalid_argument("the target has no parent"));
        };
        prepare(volume_dir, request).map_err(|error| Status::internal(error.to_string()))?;
        let mut call = Request::new(request.message());
        call.set_timeout(self.deadline);
        match self.within(self.node().node_publish_volume(call)).await {
            Ok(_) => Ok(Publication {
                volume_id: request.volume_id.clone(),
                target: request.target.clone(),
                failed: Vec::new(),
            }),
            Err(status) => {
                if !is_uncertain(status.code()) {
                    clean_up(&request.target);
                }
                Err(status)
            }
        }
    }

    /// Publishes, again after every uncertain code, as kubelet does; a final code ends it.
    pub async fn publish_until(
        &self,
        request: &PublishRequest,
        policy: RetryPolicy,
    ) -> Result<Publication, Failure> {
        let started = Instant::now();
        let mut codes = Vec::new();
        let mut wait = policy.first;
        loop {
            match self.publish(request).await {
                Ok(publication) => return Ok(Publication { failed: codes, ..publication }),
                Err(status) => {
                    codes.push(status.code());
                    if !is_uncertain(status.code()) || started.elapsed() + wait > policy.limit {
                        return Err(Failure { status: Box::new(status), tries: codes.len(), codes });
                    }
                }
            }
            tokio::time::sleep(wait).await;
            wait = policy.most.min(wait * 2);
        }
    }

    /// Publishes an inline volume once.
    pub async fn publish_inline(
        &self,
        pod: &Pod,
        volume: &str,
        attributes: &[(&str, &str)],
        secrets: &[(&str, &str)],
        readonly: bool,
    ) -> Result<Publication, Status> {
        let request =
            PublishRequest { secrets: owned(secrets), readonly, ..self.inline(pod, volume, attributes) };
        self.publish(&request).await
    }

    /// Publishes a static persistent volume once.
    pub async fn publish_pv(
        &self,
        pod: &Pod,
        name: &str,
        handle: &str,
        attributes: &[(&str, &str)],
        readonly: bool,
    ) -> Result<Publication, Status> {
        let request = PublishRequest { readonly, ..self.persistent(pod, name, handle, attributes) };
        self.publish(&request).await
    }

    /// Unpublishes, then removes the volume's directory as kubelet does.
    pub async fn unpublish(&self, publication: &Publication) -> Result<(), Status> {
        let mut call = Request::new(NodeUnpublishVolumeRequest {
            volume_id: publication.volume_id.clone(),
            target_path: publication.target.display().to_string(),
        });
        call.set_timeout(self.deadline);
        self.within(self.node().node_unpublish_volume(call)).await?;
        clean_up(&publication.target);
        Ok(())
    }

    /// Asks for a volume's statistics.
    pub async fn stats(&self, publication: &Publication) -> Result<NodeGetVolumeStatsResponse, Status> {
        let mut call = Request::new(NodeGetVolumeStatsRequest {
            volume_id: publication.volume_id.clone(),
            volume_path: publication.target.display().to_string(),
            staging_target_path: String::new(),
        });
        call.set_timeout(self.deadline);
        Ok(self.within(self.node().node_get_volume_stats(call)).await?.into_inner())
    }

    /// A driver that does not keep to the deadline is cut off by the client, as kubelet's is.
    async fn within<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let late = || Status::deadline_exceeded(format!("no answer within {:?}", self.deadline));
        tokio::time::timeout(self.deadline, call).await.unwrap_or_else(|_| Err(late()))
    }
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Kubelet's keys win over equal ones of the pod's author.
fn context(pod: &Pod, attributes: &[(&str, &str)], ephemeral: bool) -> BTreeMap<String, String> {
    let mut context = owned(attributes);
    context.extend(pod.info(ephemeral));
    context
}

fn prepare(volume_dir: &Path, request: &PublishRequest) -> io::Result<()> {
    std::fs::create_dir_all(volume_dir)?;
    let note = serde_json::json!({ "volumeHandle": request.volume_id });
    std::fs::write(volume_dir.join("vol_data.json"), note.to_string())
}

/// Kubelet removes the target, its own note and the volume's directory, never what is inside a target.
fn clean_up(target: &Path) {
    // What is not there, or not empty, stays as it is; a test looks at the tree afterwards.
    let _ = std::fs::remove_dir(target);
    if let Some(volume_dir) = target.parent() {
        let _ = std::fs::remove_file(volume_dir.join("vol_data.json"));
        let _ = std::fs::remove_dir(volume_dir);
    }
}
