//! What the generated code must and must not offer.

use std::fmt::Debug;
use std::marker::PhantomData;

use stowage_csi_proto::csi::v1;
use stowage_csi_proto::pluginregistration::registration_server;

struct Probe<T>(PhantomData<T>);

/// Loses against the inherent constant wherever `T: Debug`.
trait WithoutDebug {
    const HAS_DEBUG: bool = false;
}
impl<T> WithoutDebug for Probe<T> {}
impl<T: Debug> Probe<T> {
    const HAS_DEBUG: bool = true;
}

#[test]
fn messages_with_secrets_cannot_be_printed() {
    let secretive = [
        Probe::<v1::CreateVolumeRequest>::HAS_DEBUG,
        Probe::<v1::DeleteVolumeRequest>::HAS_DEBUG,
        Probe::<v1::ControllerPublishVolumeRequest>::HAS_DEBUG,
        Probe::<v1::ControllerUnpublishVolumeRequest>::HAS_DEBUG,
        Probe::<v1::ValidateVolumeCapabilitiesRequest>::HAS_DEBUG,
        Probe::<v1::ControllerListVolumeHealthRequest>::HAS_DEBUG,
        Probe::<v1::ControllerGetVolumeHealthRequest>::HAS_DEBUG,
        Probe::<v1::ControllerModifyVolumeRequest>::HAS_DEBUG,
        Probe::<v1::CreateSnapshotRequest>::HAS_DEBUG,
        Probe::<v1::DeleteSnapshotRequest>::HAS_DEBUG,
        Probe::<v1::ListSnapshotsRequest>::HAS_DEBUG,
        Probe::<v1::GetSnapshotRequest>::HAS_DEBUG,
        Probe::<v1::ControllerExpandVolumeRequest>::HAS_DEBUG,
        Probe::<v1::NodeStageVolumeRequest>::HAS_DEBUG,
        Probe::<v1::NodePublishVolumeRequest>::HAS_DEBUG,
        Probe::<v1::NodeGetStorageHealthRequest>::HAS_DEBUG,
        Probe::<v1::NodeExpandVolumeRequest>::HAS_DEBUG,
    ];
    assert_eq!(secretive, [false; 17]);
    // The probe itself can tell the difference.
    assert_eq!([Probe::<v1::NodeUnpublishVolumeRequest>::HAS_DEBUG], [true]);
}

#[test]
fn services_have_the_names_that_kubelet_dials() {
    assert_eq!(registration_server::SERVICE_NAME, "pluginregistration.Registration");
    assert_eq!(v1::identity_server::SERVICE_NAME, "csi.v1.Identity");
    assert_eq!(v1::controller_server::SERVICE_NAME, "csi.v1.Controller");
    assert_eq!(v1::node_server::SERVICE_NAME, "csi.v1.Node");
}
