//! The harness's own controller, which is no part of Stowage: it makes volumes that name one artifact.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use stowage_csi_proto::csi::v1::controller_server::{Controller, ControllerServer};
use stowage_csi_proto::csi::v1::controller_service_capability::{Rpc, Type as Kind, rpc};
use stowage_csi_proto::csi::v1::identity_server::{Identity, IdentityServer};
use stowage_csi_proto::csi::v1::plugin_capability::{Service as Offer, Type as Offered, service};
use stowage_csi_proto::csi::v1::validate_volume_capabilities_response::Confirmed;
use stowage_csi_proto::csi::v1::*;
use tokio::net::{UnixListener, UnixStream};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status};
use tower::ServiceExt as _;

/// The volumes of the harness's controller.
#[derive(Clone, Debug, Default)]
pub(super) struct Volumes(Arc<Mutex<BTreeMap<String, bool>>>);

impl Volumes {
    /// How many were ever made.
    pub(super) fn made(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Those that were never deleted.
    pub(super) fn left(&self) -> Vec<String> {
        let volumes = self.0.lock().unwrap();
        volumes.iter().filter(|(_, there)| **there).map(|(name, _)| name.clone()).collect()
    }
}

/// Serves the harness's Identity and Controller at `socket`, and hands the Node service on to the real `node`.
pub(super) fn serve(socket: &Path, node: &Path, reference: &str) -> Volumes {
    let listener = UnixListener::bind(socket).unwrap();
    let incoming = futures::stream::try_unfold(listener, async |listener| {
        let (stream, _) = listener.accept().await?;
        Ok::<_, io::Error>(Some((stream, listener)))
    });
    let volumes = Volumes::default();
    let harness = Harness { reference: reference.to_owned(), volumes: volumes.clone() };
    let server = Server::builder()
        .add_service(IdentityServer::new(harness.clone()))
        .add_service(ControllerServer::new(harness))
        .add_service(RealNode::at(node))
        .serve_with_incoming(Box::pin(incoming));
    tokio::spawn(server);
    volumes
}

/// The real node, whose calls and answers pass through unread.
#[derive(Clone)]
struct RealNode(Channel);

impl RealNode {
    fn at(socket: &Path) -> Self {
        let socket: PathBuf = socket.into();
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        Self(Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect))
    }
}

impl NamedService for RealNode {
    const NAME: &'static str = "csi.v1.Node";
}

impl Service<http::Request<Body>> for RealNode {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let channel = self.0.clone();
        Box::pin(async move {
            let answer = channel.oneshot(request).await;
            Ok(answer.unwrap_or_else(|error| Status::unavailable(error.to_string()).into_http()))
        })
    }
}

#[derive(Clone)]
struct Harness {
    reference: String,
    volumes: Volumes,
}

#[tonic::async_trait]
impl Identity for Harness {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        let name = "harness.stowage.test".to_owned();
        Ok(Response::new(GetPluginInfoResponse { name, ..Default::default() }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let controller = Offer { r#type: service::Type::ControllerService.into() };
        let capability = PluginCapability { r#type: Some(Offered::Service(controller)) };
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities: vec![capability] }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}

/// The calls that make and delete volumes, and an honest "no" to all the others.
macro_rules! controller {
    ($($call:ident: $asked:ident => $answer:ident;)*) => {
        #[tonic::async_trait]
        impl Controller for Harness {
            async fn create_volume(
                &self,
                request: Request<CreateVolumeRequest>,
            ) -> Result<Response<CreateVolumeResponse>, Status> {
                let request = request.into_inner();
                if request.name.is_empty() || request.volume_capabilities.is_empty() {
                    return Err(Status::invalid_argument("a volume needs a name and a capability"));
                }
                self.volumes.0.lock().unwrap().insert(request.name.clone(), true);
                let range = request.capacity_range.unwrap_or_default();
                let volume = Volume {
                    volume_id: request.name,
                    capacity_bytes: range.required_bytes,
                    volume_context: [("reference".to_owned(), self.reference.clone())].into(),
                    ..Default::default()
                };
                Ok(Response::new(CreateVolumeResponse { volume: Some(volume) }))
            }

            async fn delete_volume(
                &self,
                request: Request<DeleteVolumeRequest>,
            ) -> Result<Response<DeleteVolumeResponse>, Status> {
                self.volumes.0.lock().unwrap().entry(request.into_inner().volume_id).and_modify(|there| *there = false);
                Ok(Response::new(DeleteVolumeResponse::default()))
            }

            async fn validate_volume_capabilities(
                &self,
                request: Request<ValidateVolumeCapabilitiesRequest>,
            ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
                let volume_capabilities = request.into_inner().volume_capabilities;
                let confirmed = Some(Confirmed { volume_capabilities, ..Default::default() });
                Ok(Response::new(ValidateVolumeCapabilitiesResponse { confirmed, ..Default::default() }))
            }

            async fn controller_get_capabilities(
                &self,
                _: Request<ControllerGetCapabilitiesRequest>,
            ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
                let create = Rpc { r#type: rpc::Type::CreateDeleteVolume.into() };
                let capability = ControllerServiceCapability { r#type: Some(Kind::Rpc(create)) };
                Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities: vec![capability] }))
            }

            $(async fn $call(&self, _: Request<$asked>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented("the harness's controller makes and deletes volumes, no more"))
            })*
        }
    };
}

controller! {
    controller_publish_volume: ControllerPublishVolumeRequest => ControllerPublishVolumeResponse;
    controller_unpublish_volume: ControllerUnpublishVolumeRequest => ControllerUnpublishVolumeResponse;
    list_volumes: ListVolumesRequest => ListVolumesResponse;
    controller_list_volume_health: ControllerListVolumeHealthRequest => ControllerListVolumeHealthResponse;
    controller_get_volume_health: ControllerGetVolumeHealthRequest => ControllerGetVolumeHealthResponse;
    get_capacity: GetCapacityRequest => GetCapacityResponse;
    create_snapshot: CreateSnapshotRequest => CreateSnapshotResponse;
    delete_snapshot: DeleteSnapshotRequest => DeleteSnapshotResponse;
    list_snapshots: ListSnapshotsRequest => ListSnapshotsResponse;
    get_snapshot: GetSnapshotRequest => GetSnapshotResponse;
    controller_expand_volume: ControllerExpandVolumeRequest => ControllerExpandVolumeResponse;
    controller_get_volume: ControllerGetVolumeRequest => ControllerGetVolumeResponse;
    controller_modify_volume: ControllerModifyVolumeRequest => ControllerModifyVolumeResponse;
}
