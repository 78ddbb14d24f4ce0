use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stowage_csi_proto::csi::v1::identity_server::{Identity, IdentityServer};
use stowage_csi_proto::csi::v1::node_server::{Node, NodeServer};
use stowage_csi_proto::csi::v1::volume_capability::access_mode::Mode;
use stowage_csi_proto::csi::v1::*;
use stowage_csi_proto::pluginregistration::registration_server::{Registration, RegistrationServer};
use stowage_csi_proto::pluginregistration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use stowage_testkit::FakeKubelet;
use stowage_testkit::kubelet::{Pod, RegistrationError, RetryPolicy};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

const DRIVER: &str = "csi.example.dev";
const LIMIT: Duration = Duration::from_secs(20);

/// A driver that writes down what it is called with.
#[derive(Clone, Default)]
struct Driver {
    info: PluginInfo,
    node_id: String,
    calls: Arc<Mutex<Vec<String>>>,
    published: Arc<Mutex<Vec<NodePublishVolumeRequest>>>,
    /// Codes that publishes answer, one after the other, before they succeed.
    failures: Arc<Mutex<Vec<Code>>>,
}

impl Driver {
    fn called(&self, what: impl Into<String>) {
        self.calls.lock().unwrap().push(what.into());
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn new(endpoint: &Path) -> Self {
        let info = PluginInfo {
            r#type: "CSIPlugin".into(),
            name: DRIVER.into(),
            endpoint: endpoint.display().to_string(),
            supported_versions: vec!["1.0.0".into()],
        };
        Self { info, node_id: "node-1".into(), ..Self::default() }
    }
}

fn unsupported() -> Status {
    Status::unimplemented("not of this driver")
}

#[tonic::async_trait]
impl Registration for Driver {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        self.called("GetInfo");
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        self.called(format!("Notify {}", request.get_ref().plugin_registered));
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse { name: DRIVER.into(), ..Default::default() }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Err(unsupported())
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        assert!(request.metadata().contains_key("grpc-timeout"));
        let request = request.into_inner();
        let target = Path::new(&request.target_path);
        assert!(target.parent().unwrap().is_dir() && !target.exists(), "kubelet makes the parent only");
        let failure = self.failures.lock().unwrap().pop();
        if let Some(code) = failure {
            return Err(Status::new(code, "told to fail"));
        }
        std::fs::create_dir(target).unwrap();
        self.published.lock().unwrap().push(request);
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        self.called(format!("Unpublish {}", request.get_ref().volume_id));
        std::fs::remove_dir(&request.get_ref().target_path).unwrap();
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        assert!(request.get_ref().volume_path.ends_with("/mount"));
        let usage = VolumeUsage { total: 7, ..Default::default() };
        Ok(Response::new(NodeGetVolumeStatsResponse { usage: vec![usage] }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        self.called("NodeGetInfo");
        Ok(Response::new(NodeGetInfoResponse { node_id: self.node_id.clone(), ..Default::default() }))
    }

    async fn node_stage_volume(
        &self,
        _: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        Err(unsupported())
    }

    async fn node_unstage_volume(
        &self,
        _: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        Err(unsupported())
    }

    async fn node_get_volume_health(
        &self,
        _: Request<NodeGetVolumeHealthRequest>,
    ) -> Result<Response<NodeGetVolumeHealthResponse>, Status> {
        Err(unsupported())
    }

    async fn node_get_storage_health(
        &self,
        _: Request<NodeGetStorageHealthRequest>,
    ) -> Result<Response<NodeGetStorageHealthResponse>, Status> {
        Err(unsupported())
    }

    async fn node_expand_volume(
        &self,
        _: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        Err(unsupported())
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        Err(unsupported())
    }
}

/// Serves the driver at both sockets.
fn serve(kubelet: &FakeKubelet, driver: &Driver) {
    let plugin = kubelet.plugin_dir(DRIVER);
    std::fs::create_dir_all(&plugin).unwrap();
    let incoming = |path: &Path| {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        futures::stream::unfold(listener, |listener| async move {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        })
    };
    let csi = Server::builder()
        .add_service(IdentityServer::new(driver.clone()))
        .add_service(NodeServer::new(driver.clone()))
        .serve_with_incoming(incoming(&plugin.join("csi.sock")));
    let registration = Server::builder()
        .add_service(RegistrationServer::new(driver.clone()))
        .serve_with_incoming(incoming(&kubelet.registration_socket(DRIVER)));
    tokio::spawn(csi);
    tokio::spawn(registration);
}

struct Setup {
    _root: tempfile::TempDir,
    kubelet: FakeKubelet,
    driver: Driver,
}

fn setup(change: impl FnOnce(&mut Driver)) -> Setup {
    let root = tempfile::tempdir().unwrap();
    let kubelet = FakeKubelet::new(root.path()).unwrap();
    let mut driver = Driver::new(&kubelet.plugin_dir(DRIVER).join("csi.sock"));
    change(&mut driver);
    serve(&kubelet, &driver);
    Setup { _root: root, kubelet, driver }
}

#[tokio::test]
async fn registration_asks_the_node_before_it_says_yes() {
    let setup = setup(|_| {});
    let plugin = setup.kubelet.register(DRIVER, LIMIT).await.unwrap();
    assert_eq!(plugin.info().node_id, "node-1");
    assert_eq!(setup.driver.calls(), ["GetInfo", "NodeGetInfo", "Notify true"]);
}

#[tokio::test]
async fn a_plugin_that_kubelet_would_refuse_is_refused_and_told() {
    type Change = fn(&mut Driver);
    let cases: [(Change, &str); 5] = [
        (|driver| driver.info.r#type = "DevicePlugin".into(), "type"),
        (|driver| driver.info.name = "other".into(), "name"),
        (|driver| driver.info.supported_versions = vec!["0.3.0".into()], "versions"),
        (|driver| driver.info.endpoint = "csi.sock".into(), "endpoint"),
        (|driver| driver.node_id.clear(), "node_id"),
    ];
    for (change, wrong) in cases {
        let setup = setup(change);
        let error = setup.kubelet.register(DRIVER, LIMIT).await.unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
        assert_eq!(setup.driver.calls().last().unwrap(), "Notify false");
    }
}

#[tokio::test]
async fn a_plugin_that_never_comes_is_named() {
    let root = tempfile::tempdir().unwrap();
    let kubelet = FakeKubelet::new(root.path()).unwrap();
    let error = kubelet.register(DRIVER, Duration::from_millis(30)).await.unwrap_err();
    assert!(matches!(error, RegistrationError::NoSocket { .. }), "{error}");
}

#[tokio::test]
async fn an_inline_volume_comes_with_kubelets_keys_paths_and_defaults() {
    let setup = setup(|_| {});
    let plugin = setup.kubelet.register(DRIVER, LIMIT).await.unwrap();
    let pod = Pod::new("team", "trainer");
    let forged = [("reference", "r/a:v1"), ("csi.storage.k8s.io/pod.name", "somebody-else")];
    let publication =
        plugin.publish_inline(&pod, "model", &forged, &[("password", "s")], false).await.unwrap();
    let request = setup.driver.published.lock().unwrap()[0].clone();
    assert_eq!(request.volume_id, pod.inline_volume_id("model"));
    let expected =
        setup.kubelet.root().join(format!("pods/{}/volumes/kubernetes.io~csi/model/mount", pod.uid));
    assert_eq!(Path::new(&request.target_path), expected);
    let key = |name: &str| request.volume_context[&format!("csi.storage.k8s.io/{name}")].clone();
    assert_eq!(
        (key("pod.name"), key("pod.namespace"), key("pod.uid")),
        ("trainer".into(), "team".into(), pod.uid.clone())
    );
    assert_eq!((key("serviceAccount.name"), key("ephemeral")), ("default".into(), "true".into()));
    assert_eq!(request.volume_context["reference"], "r/a:v1");
    assert_eq!(request.secrets["password"], "s");
    assert!(!request.readonly && request.staging_target_path.is_empty());
    let mode = request.volume_capability.unwrap().access_mode.unwrap().mode();
    assert_eq!(mode, Mode::SingleNodeWriter);
    assert_eq!(plugin.stats(&publication).await.unwrap().usage[0].total, 7);
    plugin.unpublish(&publication).await.unwrap();
    assert!(!expected.parent().unwrap().exists());
}

#[tokio::test]
async fn a_persistent_volume_keeps_its_handle_and_is_not_ephemeral() {
    let setup = setup(|_| {});
    let plugin = setup.kubelet.register(DRIVER, LIMIT).await.unwrap();
    let pod = Pod::new("team", "trainer");
    plugin.publish_pv(&pod, "pv-1", "handle", &[], true).await.unwrap();
    let request = setup.driver.published.lock().unwrap()[0].clone();
    assert_eq!((request.volume_id.as_str(), request.readonly), ("handle", true));
    assert!(request.target_path.ends_with("/kubernetes.io~csi/pv-1/mount"));
    assert_eq!(request.volume_context["csi.storage.k8s.io/ephemeral"], "false");
    assert_eq!(request.volume_capability.unwrap().access_mode.unwrap().mode(), Mode::MultiNodeReaderOnly);
}

#[tokio::test]
async fn kubelet_tries_again_after_uncertain_codes_only() {
    let setup = setup(|_| {});
    let plugin = setup.kubelet.register(DRIVER, LIMIT).await.unwrap();
    let pod = Pod::new("team", "trainer");
    let request = plugin.inline(&pod, "model", &[]);
    let policy = RetryPolicy::quick(LIMIT);
    *setup.driver.failures.lock().unwrap() = vec![Code::Unavailable, Code::Aborted, Code::DeadlineExceeded];
    let publication = plugin.publish_until(&request, policy).await.unwrap();
    assert_eq!(publication.failed, [Code::DeadlineExceeded, Code::Aborted, Code::Unavailable]);
    plugin.unpublish(&publication).await.unwrap();

    *setup.driver.failures.lock().unwrap() = vec![Code::NotFound, Code::ResourceExhausted];
    let failure = plugin.publish_until(&request, policy).await.unwrap_err();
    assert_eq!(failure.codes, [Code::ResourceExhausted, Code::NotFound]);
    assert!(!request.target.parent().unwrap().exists(), "kubelet cleans up after a final code");

    *setup.driver.failures.lock().unwrap() = vec![Code::Aborted];
    plugin.publish(&request).await.unwrap_err();
    assert!(request.target.parent().unwrap().exists(), "and leaves everything after an uncertain one");
}
