//! A plugin that is stopped, or cannot go on, before it serves.

use std::time::{Duration, Instant};

use serde_json::json;
use stowage_artifact::{Algorithm, Digest};

use crate::harness::{Node, scene, until};

/// An end that waits for nothing, on a slow machine.
const AT_ONCE: Duration = Duration::from_secs(20);

#[test]
fn a_plugin_whose_socket_cannot_be_bound_ends_with_the_reason() {
    scene(async |scene| {
        let mut node = scene.node().build();
        // No socket can be put in the place of a directory with something in it.
        std::fs::create_dir_all(node.socket().join("in-the-way")).unwrap();
        let started = Instant::now();
        node.spawn();
        assert_eq!(node.ended().await.code(), Some(1), "{}", node.log());
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        let sentence = format!("stowage: cannot listen on {}", node.socket().display());
        assert!(node.log().contains(&sentence), "{sentence} not in:\n{}", node.log());
    });
}

#[test]
fn a_plugin_that_is_stopped_while_it_repairs_its_volumes_ends() {
    scene(async |scene| {
        let mut node = scene.node().build();
        node.spawn();
        assert!(node.registered().await);
        node.stop().await;
        for number in 0..RECORDS {
            write_record(&node, number);
        }
        let started = Instant::now();
        node.spawn();
        // It is there before the repair begins.
        until("the socket is bound", || node.socket().exists()).await;
        node.terminate();
        assert!(node.ended().await.success(), "{}", node.log());
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    });
}

/// So many that their repair takes longer than a signal.
const RECORDS: usize = 5000;

/// The record of a volume that was never mounted.
fn write_record(node: &Node, number: usize) {
    let (id, target) = (format!("csi-{number}"), node.store().join(format!("nowhere/{number}/mount")));
    let record = json!({
        "volumeId": id, "target": target, "state": "pending", "readonly": false, "attributes": {},
        "reference": "registry.example/team/model:v1", "manifestDigest": null, "view": null, "blobs": [],
        "devIno": null, "created": 0,
    });
    let key = format!("{id}\0{}", target.display());
    let name = format!("{}.json", Digest::of(Algorithm::Sha256, key.as_bytes()).hex());
    std::fs::write(node.store().join("volumes").join(name), record.to_string()).unwrap();
}
