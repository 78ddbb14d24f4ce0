//! Many pods with one artifact at one moment.

use std::collections::BTreeSet;
use std::time::Instant;

use stowage_testkit::kubelet::{Pod, PublishRequest};
use stowage_testkit::registry::{At, Fault, Target};

use super::{Model, in_background, publication};
use crate::harness::{LIMIT, Node, digest_of, scene, until};

const MIB: u64 = 1 << 20;
/// The most pods that kubelet runs on a node by default.
const PODS: usize = 110;

fn requests(node: &Node, model: &Model, name: &str, readonly: bool) -> Vec<PublishRequest> {
    let pods = (0..PODS).map(|number| Pod::new("team", &format!("{name}-{number}")));
    pods.map(|pod| PublishRequest { readonly, ..node.plugin().inline(&pod, "model", &model.attributes()) })
        .collect()
}

/// Publishes all at once; every call must be answered well at the first try.
async fn publish_all(node: &Node, requests: &[PublishRequest]) {
    let plugin = node.plugin();
    let calls: Vec<_> = requests.iter().map(|request| in_background(&plugin, request)).collect();
    for call in calls {
        call.await.unwrap().unwrap_or_else(|status| panic!("{status}\n{}", node.log()));
    }
}

async fn unpublish_all(node: &Node, requests: &[PublishRequest]) {
    let plugin = node.plugin();
    let calls: Vec<_> = requests
        .iter()
        .map(|request| {
            let (plugin, volume) = (plugin.clone(), publication(request));
            tokio::spawn(async move { plugin.unpublish(&volume).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[test]
fn a_crowd_of_pods_with_one_cold_artifact_is_one_download_and_leaves_nothing() {
    const SIZE: u64 = 40 * MIB;
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, SIZE);
        let node = scene.node().registry(&registry).one_connection().start().await;

        let cold = requests(&node, &model, "cold", false);
        // Until each of the pods waits for the bytes.
        registry.faults().next(1, Target::Digest(model.file.clone()), Fault::Stall(At::Blob(MIB)));
        let started = Instant::now();
        tokio::join!(publish_all(&node, &cold), async {
            until("every volume has a record", || node.entries("volumes").len() == PODS).await;
            assert!(registry.faults().until_stalled(1, LIMIT).await);
            registry.faults().release();
        });
        println!("{PODS} cold publishes: {:?}", started.elapsed());
        assert_eq!(registry.bytes_served(&model.file), SIZE);
        let mounts = node.mounts();
        assert_eq!((mounts.len(), node.entries("volumes").len()), (PODS, PODS));
        let points: BTreeSet<_> = mounts.iter().map(|mount| &mount.mount_point).collect();
        assert_eq!(points, cold.iter().map(|request| &request.target).collect());
        // One superblock for all of them, so that they share its page cache.
        let devices: BTreeSet<_> = mounts.iter().map(|mount| mount.device).collect();
        assert_eq!(devices.len(), 1, "{devices:?}");
        for request in &cold {
            let file = request.target.join("model.bin");
            assert_eq!(std::fs::metadata(&file).unwrap().len(), SIZE, "{}", file.display());
        }
        assert_eq!(digest_of(&cold[PODS - 1].target.join("model.bin")), model.file);

        // A second crowd beside the first one, from the cache, with the registry gone.
        registry.go_offline().await;
        let warm = requests(&node, &model, "warm", true);
        let started = Instant::now();
        publish_all(&node, &warm).await;
        println!("{PODS} warm publishes: {:?}", started.elapsed());
        assert_eq!((node.mounts().len(), node.entries("volumes").len()), (2 * PODS, 2 * PODS));
        assert_eq!(digest_of(&warm[0].target.join("model.bin")), model.file);
        assert_eq!(node.count("stowage_fetched_bytes_total").await, SIZE);
        assert_eq!(node.count("stowage_publishes_total{result=\"ok\"}").await, 2 * PODS as u64);

        let started = Instant::now();
        unpublish_all(&node, &cold).await;
        unpublish_all(&node, &warm).await;
        println!("{} unpublishes: {:?}", 2 * PODS, started.elapsed());
        node.nothing_left().await;
        assert_eq!(node.count("stowage_volumes").await, 0);
    });
}
