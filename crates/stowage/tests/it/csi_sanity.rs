//! The CSI project's own suite, `csi-sanity`, against the real node and the real controller.
//!
//! Both are processes with a socket each, as in a cluster; the controller has no API server here and remembers its volumes
//! in a file. Two specs run only where the node's socket announces a controller: for these one socket hands every call on
//! to the process that serves it.

mod controller;
mod front;
mod report;

use std::path::Path;

use stowage_testkit::tools::Tool;
use stowage_testkit::{BlobData, artifacts};

use self::controller::Controller;
use self::report::{Report, State};
use crate::harness::{Node, Scene, scene};

/// Specs of the node and the controller that must pass: every one that applies.
const PASSED: [&str; 34] = [
    "Controller Service [Controller Server] ControllerGetCapabilities should return appropriate capabilities",
    "Controller Service [Controller Server] CreateVolume should fail when no name is provided",
    "Controller Service [Controller Server] CreateVolume should fail when no volume capabilities are provided",
    "Controller Service [Controller Server] CreateVolume should fail when requesting to create a volume with already existing name and different capacity",
    "Controller Service [Controller Server] CreateVolume should not fail when creating volume with maximum-length name",
    "Controller Service [Controller Server] CreateVolume should not fail when requesting to create a volume with already existing name and same capacity",
    "Controller Service [Controller Server] CreateVolume should return appropriate values SingleNodeWriter NoCapacity",
    "Controller Service [Controller Server] CreateVolume should return appropriate values SingleNodeWriter WithCapacity 1Gi",
    "Controller Service [Controller Server] DeleteVolume should fail when no volume id is provided",
    "Controller Service [Controller Server] DeleteVolume should return appropriate values (no optional values added)",
    "Controller Service [Controller Server] DeleteVolume should succeed when an invalid volume id is used",
    "Controller Service [Controller Server] ValidateVolumeCapabilities should fail when no volume capabilities are provided",
    "Controller Service [Controller Server] ValidateVolumeCapabilities should fail when no volume id is provided",
    "Controller Service [Controller Server] ValidateVolumeCapabilities should fail when the requested volume does not exist",
    "Controller Service [Controller Server] ValidateVolumeCapabilities should return appropriate values (no optional values added)",
    "Identity Service GetPluginCapabilities should return appropriate capabilities",
    "Identity Service GetPluginInfo should return appropriate information",
    "Identity Service Probe should return appropriate information",
    "Node Service NodeGetCapabilities should return appropriate capabilities",
    "Node Service NodeGetInfo should return appropriate values",
    "Node Service NodeGetVolumeHealth should fail when no volume id is provided",
    "Node Service NodeGetVolumeHealth should return health for a valid volume",
    "Node Service NodeGetVolumeStats should fail when no volume id is provided",
    "Node Service NodeGetVolumeStats should fail when no volume path is provided",
    "Node Service NodeGetVolumeStats should fail when volume does not exist on the specified path",
    "Node Service NodeGetVolumeStats should fail when volume is not found",
    "Node Service NodePublishVolume should fail when no target path is provided",
    "Node Service NodePublishVolume should fail when no volume capability is provided",
    "Node Service NodePublishVolume should fail when no volume id is provided",
    "Node Service NodeUnpublishVolume should fail when no target path is provided",
    "Node Service NodeUnpublishVolume should fail when no volume id is provided",
    "Node Service NodeUnpublishVolume should remove target path",
    WORKS,
    IDEMPOTENT,
];

/// A volume's whole life; the suite runs it only where the node's socket announces a controller.
const WORKS: &str = "Node Service should work";
/// The same with every call ten times.
const IDEMPOTENT: &str = "Node Service should be idempotent";

/// What is skipped, by the beginning of its name, and why.
const SKIPPED: [(&str, &str); 23] = [
    (
        "Controller Service [Controller Server] GetCapacity",
        "registries do not say their capacity: GET_CAPACITY is not advertised",
    ),
    (
        "Controller Service [Controller Server] ListVolumes",
        "volumes are the cluster's PersistentVolumes: LIST_VOLUMES is not advertised",
    ),
    (
        "Controller Service [Controller Server] CreateVolume should create volume from an existing source",
        NO_SOURCE,
    ),
    ("Controller Service [Controller Server] CreateVolume should fail when the volume source", NO_SOURCE),
    (
        "Controller Service [Controller Server] CreateVolume should create volume with a volume attribute class",
        NOT_MODIFIED,
    ),
    (
        "Controller Service [Controller Server] CreateVolume should not create volume with an invalid volume attribute class",
        NOT_MODIFIED,
    ),
    ("Controller Service [Controller Server] ControllerPublishVolume", NOT_ATTACHED),
    ("Controller Service [Controller Server] ControllerUnpublishVolume", NOT_ATTACHED),
    ("Controller Service [Controller Server] volume lifecycle", NOT_ATTACHED),
    ("ListSnapshots [Controller Server]", NO_SOURCE),
    ("GetSnapshot [Controller Server]", NO_SOURCE),
    ("DeleteSnapshot [Controller Server]", NO_SOURCE),
    ("CreateSnapshot [Controller Server]", NO_SOURCE),
    ("ExpandVolume [Controller Server]", "an artifact has one size: EXPAND_VOLUME is not advertised"),
    ("ModifyVolume [Controller Server]", NOT_MODIFIED),
    ("ControllerGetVolumeHealth [Controller Server]", BY_NODE),
    ("ControllerListVolumeHealth [Controller Server]", BY_NODE),
    ("GroupController Service [GroupController", "snapshots of groups: an artifact is never written"),
    ("Node Service NodeStageVolume", NOT_STAGED),
    ("Node Service NodeUnstageVolume", NOT_STAGED),
    ("Node Service NodeExpandVolume", "an artifact has one size: EXPAND_VOLUME is not advertised"),
    (
        "Node Service NodeGetStorageHealth",
        "registries are watched by metrics: GET_STORAGE_HEALTH is not advertised",
    ),
    (
        "Node Service NodePublishVolume with single node multi writer capability",
        "nobody writes: SINGLE_NODE_MULTI_WRITER is not advertised",
    ),
];

const NO_SOURCE: &str = "an artifact is never written: neither snapshots nor clones are advertised";
const NOT_MODIFIED: &str = "a volume keeps what it was made of: MODIFY_VOLUME is not advertised";
const NOT_ATTACHED: &str = "volumes are not attached: PUBLISH_UNPUBLISH_VOLUME is not advertised";
const BY_NODE: &str = "the node knows the health of a volume: neither list nor get is advertised here";
const NOT_STAGED: &str = "volumes are published directly: STAGE_UNSTAGE_VOLUME is not advertised";

#[test]
fn every_spec_that_applies_to_node_and_controller_passes() {
    let Some(suite) = crate::interop::tool("csi-sanity", "csi-sanity") else { return };
    scene(async move |scene| {
        let registry = scene.registry().await;
        let artifact =
            artifacts::oras_files([("model.bin", BlobData::generated(1, 1 << 20))]).build().unwrap();
        registry.push("team/model", Some("v1"), &artifact);
        let node = scene.node().registry(&registry).start().await;
        let controller = Controller::start(&scene, &registry).await;
        let front = scene.root().join("front.sock");
        front::serve(&front, controller.socket(), &node.socket());
        // A StorageClass, as the provisioner hands it on.
        let class = scene.root().join("class.yaml");
        std::fs::write(&class, format!("reference: {}\n", registry.reference("team/model", "v1"))).unwrap();
        let class = format!("--csi.testvolumeparameters={}", class.display());

        let apart =
            run(&suite, &scene, "apart", &node.socket(), controller.socket(), &[class.as_str()]).await;
        let focus = ["--ginkgo.focus=Node Service should (work|be idempotent)", class.as_str()];
        let whole_life = run(&suite, &scene, "front", &front, &front, &focus).await;

        check(&apart, &whole_life);
        let memory = controller.memory();
        assert!(memory["next"].as_u64().unwrap() >= 5, "the real controller made volumes: {memory}");
        assert_eq!(memory["volumes"], serde_json::json!({}), "the suite deletes what it creates");
        controller.stop().await;
        untouched(&node).await;
    });
}

/// Runs the suite to its end.
async fn run(
    suite: &Tool,
    scene: &Scene,
    name: &str,
    endpoint: &Path,
    controller: &Path,
    more: &[&str],
) -> Report {
    let json = scene.root().join(format!("{name}.json"));
    let mut arguments = vec![
        format!("--csi.endpoint=unix://{}", endpoint.display()),
        format!("--csi.controllerendpoint=unix://{}", controller.display()),
        // The suite makes both directories, and targets must be beneath kubelet's.
        format!("--csi.mountdir={}", scene.kubelet().root().join("sanity-mount").display()),
        format!("--csi.stagingdir={}", scene.kubelet().root().join("sanity-staging").display()),
        "--ginkgo.no-color".to_owned(),
        "--ginkgo.v".to_owned(),
        "--ginkgo.timeout=5m".to_owned(),
        "--ginkgo.fail-on-empty".to_owned(),
        format!("--ginkgo.json-report={}", json.display()),
    ];
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    let ended = suite.run(&arguments).await;
    let report = Report::read(&json).unwrap_or_else(|error| panic!("{error}: csi-sanity: {ended:?}"));
    let failures = report.failures();
    assert!(failures.is_empty(), "csi-sanity, {name}: {failures:#?}");
    ended.unwrap_or_else(|error| panic!("{error}"));
    report
}

/// Compares what ran and what did not with the lists above, and prints it.
fn check(apart: &Report, whole_life: &Report) {
    let whole_life = whole_life.names(State::Passed);
    assert_eq!(whole_life, [IDEMPOTENT, WORKS], "with a controller announced");
    let mut passed = apart.names(State::Passed);
    passed.extend(whole_life);
    passed.sort_unstable();
    let mut expected = PASSED.to_vec();
    expected.sort_unstable();
    assert_eq!(passed, expected);

    let skipped: Vec<&str> =
        apart.names(State::Skipped).into_iter().filter(|name| ![WORKS, IDEMPOTENT].contains(name)).collect();
    println!("csi-sanity: {} passed, {} skipped:", passed.len(), skipped.len());
    let mut explained = 0;
    for (start, reason) in SKIPPED {
        let specs = skipped.iter().filter(|name| name.starts_with(start)).count();
        assert!(specs > 0, "nothing is skipped that begins with `{start}`: the list is out of date");
        println!("  {specs:3}  {start}: {reason}");
        explained += specs;
    }
    let unexplained: Vec<_> = skipped
        .iter()
        .filter(|name| SKIPPED.iter().filter(|(start, _)| name.starts_with(start)).count() != 1)
        .collect();
    assert!(unexplained.is_empty() && explained == skipped.len(), "skipped for no reason: {unexplained:#?}");
}

/// Nothing of the suite's volumes is left on the node.
async fn untouched(node: &Node) {
    node.nothing_left().await;
    assert!(node.metric("stowage_publishes_total{result=\"ok\"}").await >= 14.0, "the real node published");
}
