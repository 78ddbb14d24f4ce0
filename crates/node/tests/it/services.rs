//! Identity and Node while the store is not open yet.

use std::time::Duration;

use stowage_csi_proto::csi::v1::identity_server::Identity as _;
use stowage_csi_proto::csi::v1::node_server::Node as _;
use stowage_csi_proto::csi::v1::volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode};
use stowage_csi_proto::csi::v1::{
    GetPluginInfoRequest, NodeGetInfoRequest, NodePublishVolumeRequest, NodeUnpublishVolumeRequest,
    ProbeRequest, VolumeCapability,
};
use stowage_node::{
    CredentialSettings, Credentials, DRIVER_NAME, IdentityService, NodeOptions, NodeService, Plugin,
};
use stowage_registry::{Registry, RegistryOptions};
use stowage_telemetry::{Health, Metrics};
use tonic::{Code, Request};

fn plugin() -> (Plugin, Metrics, Health) {
    let (metrics, health) = (Metrics::new(), Health::new());
    let options = NodeOptions {
        driver_name: DRIVER_NAME.to_owned(),
        node_id: "node-1".to_owned(),
        publish_wait: Duration::from_secs(1),
        credentials: Credentials::new(
            Registry::new(RegistryOptions::default()).unwrap(),
            CredentialSettings::default(),
            metrics.clone(),
        ),
    };
    (Plugin::new(options, metrics.clone(), health.clone()), metrics, health)
}

fn publish() -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: "csi-1".to_owned(),
        target_path: "/k/pods/u/mount".to_owned(),
        volume_capability: Some(VolumeCapability {
            access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            access_type: Some(AccessType::Mount(MountVolume::default())),
        }),
        volume_context: [("reference".to_owned(), "r.example/a:v1".to_owned())].into(),
        ..NodePublishVolumeRequest::default()
    }
}

#[tokio::test]
async fn a_closed_store_is_said_by_probe_and_readyz_and_calls_are_to_be_repeated() {
    let (plugin, metrics, health) = plugin();
    let (identity, node) = (IdentityService::new(plugin.clone()), NodeService::new(plugin));
    let probe = identity.probe(Request::new(ProbeRequest {})).await.unwrap().into_inner();
    assert_eq!(probe.ready, Some(false));
    assert!(health.readiness().unwrap_err().starts_with("store:"));

    let info = node.node_get_info(Request::new(NodeGetInfoRequest {})).await.unwrap().into_inner();
    assert_eq!(info.node_id, "node-1");
    let status = node.node_publish_volume(Request::new(publish())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let unpublish = NodeUnpublishVolumeRequest {
        volume_id: "csi-1".to_owned(),
        target_path: "/k/pods/u/mount".to_owned(),
    };
    let status = node.node_unpublish_volume(Request::new(unpublish)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let text = metrics.render().unwrap();
    assert!(text.contains("stowage_publishes_total{result=\"unavailable\"} 1"), "{text}");
}

/// Fields are checked before the store is asked for anything.
#[tokio::test]
async fn missing_fields_come_first() {
    let (plugin, _, _) = plugin();
    let node = NodeService::new(plugin);
    for request in [
        NodePublishVolumeRequest { volume_id: String::new(), ..publish() },
        NodePublishVolumeRequest { target_path: String::new(), ..publish() },
        NodePublishVolumeRequest { volume_capability: None, ..publish() },
    ] {
        let status = node.node_publish_volume(Request::new(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    }
}

#[tokio::test]
async fn the_plugin_names_itself() {
    let (plugin, _, _) = plugin();
    let identity = IdentityService::new(plugin);
    let info = identity.get_plugin_info(Request::new(GetPluginInfoRequest {})).await.unwrap().into_inner();
    assert_eq!((info.name.as_str(), info.vendor_version.as_str()), (DRIVER_NAME, env!("CARGO_PKG_VERSION")));
}
