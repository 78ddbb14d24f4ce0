//! The CSI Node service.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use stowage_csi_proto::csi::v1::node_server::Node;
use stowage_csi_proto::csi::v1::node_service_capability::{Rpc, Type, rpc};
use stowage_csi_proto::csi::v1::volume_health::VolumeHealthEntry;
use stowage_csi_proto::csi::v1::volume_usage::Unit;
use stowage_csi_proto::csi::v1::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodeGetStorageHealthRequest,
    NodeGetStorageHealthResponse, NodeGetVolumeHealthRequest, NodeGetVolumeHealthResponse,
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest,
    NodePublishVolumeResponse, NodeServiceCapability, NodeStageVolumeRequest, NodeStageVolumeResponse,
    NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest,
    NodeUnstageVolumeResponse, VolumeHealth, VolumeHealthErrorType, VolumeUsage,
};
use stowage_volumes::{
    Abnormal, AbnormalKind, Access, Look, Meaning, PublishError, PublishRequest, VolumeStats, Volumes,
    wait_within,
};
use tonic::{Request, Response, Status};

use crate::credentials::Question;
use crate::events::Subject;
use crate::{Plugin, arguments, deadline, status};

/// So long a credential is looked for even by a call that waits for nothing: most are in a file of this node.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// The answer where the rules have refused a reference and allow it a moment later.
const CHANGED_RULES: &str = "the rules of this node have just changed; the call is repeated by kubelet";

/// Publishes and unpublishes volumes.
#[derive(Clone, Debug)]
pub struct NodeService(Plugin);

impl NodeService {
    /// The service of `plugin`.
    pub fn new(plugin: Plugin) -> Self {
        Self(plugin)
    }

    fn volumes(&self) -> Result<&Volumes, Status> {
        self.0.volumes().ok_or_else(|| {
            Status::unavailable("the store of this node is not open yet; the call is repeated by kubelet")
        })
    }

    async fn publish(&self, request: Request<NodePublishVolumeRequest>) -> Result<(), Status> {
        let started = Instant::now();
        let wait = wait_within(self.0.options.publish_wait, deadline::of(request.metadata()));
        let request = request.into_inner();
        let subject = Subject::of(&request);
        let (request, question) = arguments::publish(request, wait)
            .map_err(|error| self.refused(subject.as_ref(), error.into()))?;
        let credentials = &self.0.options.credentials;
        let used = question.used.clone();
        let failed = |error: PublishError| {
            if let Some(subject) = &subject {
                self.0.events.failed(subject, &error);
            }
            status::of_publish(&error)
        };
        let left = || wait.saturating_sub(started.elapsed());
        let call = self.volumes()?.announce(request);
        // What is mounted needs no credential, and for what is refused none is looked for.
        let asks_others = credentials.asks_others(&call.request().attributes);
        let look = if asks_others { call.look().await.map_err(failed)? } else { Look::Open };
        let found = match look {
            Look::Mounted => return Ok(()),
            Look::Refused => Ok(Access::failed(Meaning::Unavailable, CHANGED_RULES.to_owned())),
            Look::Open => {
                let access = self.access(question, call.request(), left());
                call.unless_ended(access).await.map_err(failed)?
            }
        };
        let work = match found {
            Ok(access) => call.begin(access, left()).await.map_err(failed)?,
            // What an earlier call has begun goes on with what that call has found.
            Err(status) => match call.join(left()) {
                Some(work) => work,
                None if call.is_mounted().await.map_err(failed)? => return Ok(()),
                None => return Err(self.refused(subject.as_ref(), status)),
            },
        };
        if let Some(subject) = subject.filter(|_| work.started()) {
            self.0.events.follow(subject, work.clone());
        }
        work.wait().await.map_err(|error| {
            credentials.publish_failed(&used, &error);
            status::of_publish(&error)
        })?;
        Ok(())
    }

    fn refused(&self, subject: Option<&Subject>, status: Status) -> Status {
        if let Some(subject) = subject {
            self.0.events.refused(subject, &status);
        }
        status
    }

    /// With which credential the registry is asked. A failure that passes is a status, and a download that an earlier
    /// call has begun goes on; one that does not ends that download, so it goes the way of all failures.
    async fn access(
        &self,
        question: Question,
        request: &PublishRequest,
        wait: Duration,
    ) -> Result<Access, Status> {
        let until = tokio::time::Instant::now() + wait.max(SHORTEST_LOOK);
        let found = self.0.options.credentials.access(question, &request.attributes, until).await;
        let error = match found {
            Ok(access) => return Ok(access),
            Err(error) => error,
        };
        let meaning = error.meaning();
        if meaning.is_final() {
            return Ok(Access::failed(meaning, error.to_string()));
        }
        let reference = &request.attributes.reference;
        Err(Status::new(status::code(meaning), format!("cannot pull {reference}: {error}")))
    }

    async fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> Result<(), Status> {
        let id = arguments::volume_id(request.volume_id)?;
        let target = arguments::target_path(request.target_path)?;
        self.volumes()?.unpublish(&id, &target).await.map_err(|error| status::of_unpublish(&error))?;
        self.0.events.unpublished(&target);
        Ok(())
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let result = self.publish(request).await;
        self.0.metrics.publish(status::label(result.as_ref()));
        if let Err(error) = &result {
            tracing::info!(code = ?error.code(), message = error.message(), "publish answered with an error");
        }
        result.map(|()| Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let started = Instant::now();
        let result = self.unpublish(request.into_inner()).await;
        self.0.metrics.unpublish(status::label(result.as_ref()), started.elapsed());
        if let Err(error) = &result {
            tracing::warn!(code = ?error.code(), message = error.message(), "unpublish answered with an error");
        }
        result.map(|()| Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        let id = arguments::volume_id(request.volume_id)?;
        let path = arguments::volume_path(request.volume_path)?;
        let stats = self.volumes()?.stats(&id, &path).await.map_err(|error| status::of_stats(&error))?;
        Ok(Response::new(usage(&stats)))
    }

    /// A damaged file, or a mount that is gone (CSI 1.13; earlier versions had a condition in the stats).
    /// The path is optional: without it every place of the volume counts.
    async fn node_get_volume_health(
        &self,
        request: Request<NodeGetVolumeHealthRequest>,
    ) -> Result<Response<NodeGetVolumeHealthResponse>, Status> {
        let request = request.into_inner();
        let id = arguments::volume_id(request.volume_id)?;
        let path = Some(request.volume_publish_path).filter(|path| !path.is_empty()).map(PathBuf::from);
        let health = self.volumes()?.health(&id, path.as_deref()).await;
        let abnormal = health.map_err(|error| status::of_stats(&error))?;
        let health_statuses = abnormal.into_iter().map(health_entry).collect();
        let volume_health = Some(VolumeHealth { volume_id: id, health_statuses });
        Ok(Response::new(NodeGetVolumeHealthResponse { volume_health }))
    }

    async fn node_get_storage_health(
        &self,
        _request: Request<NodeGetStorageHealthRequest>,
    ) -> Result<Response<NodeGetStorageHealthResponse>, Status> {
        Err(Status::unimplemented("the health of registries is in the metrics, not in CSI"))
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capabilities = [rpc::Type::GetVolumeStats, rpc::Type::GetVolumeHealth]
            .map(|kind| NodeServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })) })
            .into();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    /// Answers while the store is still closed: kubelet asks before it registers the plugin.
    async fn node_get_info(
        &self,
        _request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: self.0.options.node_id.clone(),
            ..NodeGetInfoResponse::default()
        }))
    }

    async fn node_stage_volume(
        &self,
        _request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        Err(Status::unimplemented("this driver stages no volumes; publish them directly"))
    }

    async fn node_unstage_volume(
        &self,
        _request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        Err(Status::unimplemented("this driver stages no volumes; unpublish them directly"))
    }

    async fn node_expand_volume(
        &self,
        _request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        Err(Status::unimplemented("artifacts have one size; a volume cannot be expanded"))
    }
}

/// All of a volume is used and nothing is available: it cannot be written.
fn usage(stats: &VolumeStats) -> NodeGetVolumeStatsResponse {
    let full = |unit: Unit, count: u64| {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        VolumeUsage { available: 0, total: count, used: count, unit: unit.into() }
    };
    NodeGetVolumeStatsResponse {
        usage: vec![full(Unit::Bytes, stats.bytes), full(Unit::Inodes, stats.inodes)],
    }
}

fn health_entry(abnormal: Abnormal) -> VolumeHealthEntry {
    let (status, reason) = match abnormal.kind {
        AbnormalKind::Damaged => (VolumeHealthErrorType::DataLoss, "BlobDamaged"),
        AbnormalKind::NotMounted => (VolumeHealthErrorType::Inaccessible, "NotMounted"),
        AbnormalKind::ViewGone => (VolumeHealthErrorType::Degraded, "ViewGone"),
    };
    VolumeHealthEntry { status: status.into(), reason: reason.to_owned(), message: abnormal.message }
}
