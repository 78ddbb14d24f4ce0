//! The CSI project's own suite, `csi-sanity`, against the real node.
//!
//! The node socket has no controller, and some specs of the node want one to make them a volume. The harness serves a
//! small controller of its own for them, on a second socket; it is no part of Stowage, so its own specs are left out.
//! Two specs run only where the node's socket announces a controller: for these the second socket also hands every
//! call of the Node service on to the real node.

mod controller;
mod report;

use std::path::Path;

use stowage_testkit::tools::Tool;
use stowage_testkit::{BlobData, artifacts};

use self::report::{Report, State};
use crate::harness::{Node, Scene, scene};

/// Specs that must pass against the node socket itself: every one that applies to a node without a controller.
const PASSED: [&str; 19] = [
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
const SKIPPED: [(&str, &str); 15] = [
    ("Controller Service [Controller Server]", NO_CONTROLLER),
    ("ListSnapshots [Controller Server]", NO_CONTROLLER),
    ("GetSnapshot [Controller Server]", NO_CONTROLLER),
    ("DeleteSnapshot [Controller Server]", NO_CONTROLLER),
    ("CreateSnapshot [Controller Server]", NO_CONTROLLER),
    ("ExpandVolume [Controller Server]", NO_CONTROLLER),
    ("ModifyVolume [Controller Server]", NO_CONTROLLER),
    ("ControllerGetVolumeHealth [Controller Server]", NO_CONTROLLER),
    ("ControllerListVolumeHealth [Controller Server]", NO_CONTROLLER),
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

const NO_CONTROLLER: &str = "the node socket serves no controller; the one beside it is the harness's own";
const NOT_STAGED: &str = "volumes are published directly: STAGE_UNSTAGE_VOLUME is not advertised";

#[test]
fn every_spec_that_applies_to_a_node_passes() {
    let Some(suite) = crate::interop::tool("csi-sanity", "csi-sanity") else { return };
    scene(async move |scene| {
        let registry = scene.registry().await;
        let artifact =
            artifacts::oras_files([("model.bin", BlobData::generated(1, 1 << 20))]).build().unwrap();
        registry.push("team/model", Some("v1"), &artifact);
        let node = scene.node().registry(&registry).start().await;
        let beside = scene.root().join("harness.sock");
        let volumes = controller::serve(&beside, &node.socket(), &registry.reference("team/model", "v1"));

        let alone =
            run(&suite, &scene, "alone", &node.socket(), &beside, &["--ginkgo.skip=Controller Server"]).await;
        let focus = ["--ginkgo.focus=Node Service should (work|be idempotent)"];
        let with_controller = run(&suite, &scene, "front", &beside, &beside, &focus).await;

        check(&alone, &with_controller);
        assert!(volumes.made() >= 5, "only {} volumes came from the harness's controller", volumes.made());
        assert_eq!(volumes.left(), Vec::<String>::new(), "the suite deletes what it creates");
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
fn check(alone: &Report, with_controller: &Report) {
    let whole_life = with_controller.names(State::Passed);
    assert_eq!(whole_life, [IDEMPOTENT, WORKS], "with a controller announced");
    let mut passed = alone.names(State::Passed);
    passed.extend(whole_life);
    passed.sort_unstable();
    let mut expected = PASSED.to_vec();
    expected.sort_unstable();
    assert_eq!(passed, expected);

    let skipped: Vec<&str> =
        alone.names(State::Skipped).into_iter().filter(|name| ![WORKS, IDEMPOTENT].contains(name)).collect();
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
