//! The CSI Controller service.

use std::time::Instant;

use stowage_csi_proto::csi::v1::controller_server::Controller;
use stowage_csi_proto::csi::v1::controller_service_capability::{Rpc, Type, rpc};
use stowage_csi_proto::csi::v1::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, ControllerGetVolumeHealthRequest, ControllerGetVolumeHealthResponse,
    ControllerGetVolumeRequest, ControllerGetVolumeResponse, ControllerListVolumeHealthRequest,
    ControllerListVolumeHealthResponse, ControllerModifyVolumeRequest, ControllerModifyVolumeResponse,
    ControllerPublishVolumeRequest, ControllerPublishVolumeResponse, ControllerServiceCapability,
    ControllerUnpublishVolumeRequest, ControllerUnpublishVolumeResponse, CreateSnapshotRequest,
    CreateSnapshotResponse, CreateVolumeRequest, CreateVolumeResponse, DeleteSnapshotRequest,
    DeleteSnapshotResponse, DeleteVolumeRequest, DeleteVolumeResponse, GetCapacityRequest,
    GetCapacityResponse, GetSnapshotRequest, GetSnapshotResponse, ListSnapshotsRequest,
    ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse, ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse,
};
use stowage_telemetry::ControllerMetrics;
use tonic::{Request, Response, Status};

use super::Provisioner;
use super::error::{ControllerError, label};

/// Makes and deletes volumes for external-provisioner.
#[derive(Clone)]
pub struct ControllerService {
    provisioner: Provisioner,
    metrics: ControllerMetrics,
}

impl ControllerService {
    /// The service of `provisioner`.
    pub fn new(provisioner: Provisioner, metrics: ControllerMetrics) -> Self {
        Self { provisioner, metrics }
    }

    /// Counts the call, and says on our own side why it failed.
    async fn counted<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, ControllerError>>,
    ) -> Result<Response<T>, Status> {
        let started = Instant::now();
        let result = work.await;
        self.metrics.request(method, label(&result), started.elapsed());
        if let Err(error) = &result {
            tracing::info!(method, code = ?error.code(), message = %error, "call answered with an error");
        }
        Ok(Response::new(result?))
    }
}

/// The calls that do something, and an honest "no" with its reason to all the others.
macro_rules! controller {
    ($($call:ident: $asked:ident => $answer:ident, $why:literal;)*) => {
        #[tonic::async_trait]
        impl Controller for ControllerService {
            async fn create_volume(
                &self,
                request: Request<CreateVolumeRequest>,
            ) -> Result<Response<CreateVolumeResponse>, Status> {
                let work = async {
                    let volume = self.provisioner.create(request.into_inner()).await?;
                    Ok(CreateVolumeResponse { volume: Some(volume) })
                };
                self.counted("create_volume", work).await
            }

            async fn delete_volume(
                &self,
                request: Request<DeleteVolumeRequest>,
            ) -> Result<Response<DeleteVolumeResponse>, Status> {
                let work = async {
                    self.provisioner.delete(request.into_inner()).await?;
                    Ok(DeleteVolumeResponse {})
                };
                self.counted("delete_volume", work).await
            }

            async fn validate_volume_capabilities(
                &self,
                request: Request<ValidateVolumeCapabilitiesRequest>,
            ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
                let work = self.provisioner.validate(request.into_inner());
                self.counted("validate_volume_capabilities", work).await
            }

            async fn controller_get_capabilities(
                &self,
                _request: Request<ControllerGetCapabilitiesRequest>,
            ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
                let create = Rpc { r#type: rpc::Type::CreateDeleteVolume.into() };
                let capability = ControllerServiceCapability { r#type: Some(Type::Rpc(create)) };
                Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities: vec![capability] }))
            }

            $(async fn $call(&self, _request: Request<$asked>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented($why))
            })*
        }
    };
}

controller! {
    controller_publish_volume: ControllerPublishVolumeRequest => ControllerPublishVolumeResponse,
        "volumes are not attached; nodes publish them directly";
    controller_unpublish_volume: ControllerUnpublishVolumeRequest => ControllerUnpublishVolumeResponse,
        "volumes are not attached; nodes unpublish them directly";
    list_volumes: ListVolumesRequest => ListVolumesResponse,
        "volumes are not listed; they are the cluster's PersistentVolumes";
    controller_list_volume_health: ControllerListVolumeHealthRequest => ControllerListVolumeHealthResponse,
        "the health of a volume is known by its node";
    controller_get_volume_health: ControllerGetVolumeHealthRequest => ControllerGetVolumeHealthResponse,
        "the health of a volume is known by its node";
    get_capacity: GetCapacityRequest => GetCapacityResponse,
        "registries do not say their capacity";
    create_snapshot: CreateSnapshotRequest => CreateSnapshotResponse,
        "an artifact is never written, so it has no snapshots";
    delete_snapshot: DeleteSnapshotRequest => DeleteSnapshotResponse,
        "an artifact is never written, so it has no snapshots";
    list_snapshots: ListSnapshotsRequest => ListSnapshotsResponse,
        "an artifact is never written, so it has no snapshots";
    get_snapshot: GetSnapshotRequest => GetSnapshotResponse,
        "an artifact is never written, so it has no snapshots";
    controller_expand_volume: ControllerExpandVolumeRequest => ControllerExpandVolumeResponse,
        "artifacts have one size; a volume cannot be expanded";
    controller_get_volume: ControllerGetVolumeRequest => ControllerGetVolumeResponse,
        "volumes are not listed; they are the cluster's PersistentVolumes";
    controller_modify_volume: ControllerModifyVolumeRequest => ControllerModifyVolumeResponse,
        "a volume keeps what it was made of; make a new claim";
}
