//! One volume's life, as kubelet drives it.

use stowage_testkit::artifacts;
use stowage_testkit::kubelet::Pod;

use crate::harness::{digest_of, scene};

#[test]
fn a_volume_is_published_counted_and_taken_away() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let artifact = artifacts::oras_files([("model.bin", "weights")]).build().unwrap();
        registry.push("team/model", Some("v1"), &artifact);
        let node = scene.node().registry(&registry).start().await;
        let pod = Pod::new("team", "web-0");
        let reference = registry.reference("team/model", "v1");
        let volume = node
            .plugin()
            .publish_inline(&pod, "model", &[("reference", &reference)], &[], false)
            .await
            .unwrap();
        assert_eq!(digest_of(&volume.target.join("model.bin")), artifact.blobs()[1].0);
        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;
    });
}
