//! SIGKILL at any moment: nothing is fetched twice, no reader notices, nothing leaks.

mod tars;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use stowage_artifact::Digest;
use stowage_testkit::kubelet::{Pod, PublishRequest};

use super::stalls::{go_on, nobody_reads, stall_at};
use super::{Model, in_background, publication, publish};
use crate::harness::{LIMIT, Node, digest_of, scene, until};

const MIB: u64 = 1 << 20;
/// Big enough for every connection that one blob gets: they fetch parts of 16 MiB each.
const SIZE: u64 = 64 * MIB;
const PART: u64 = 16 * MIB;
const CONNECTIONS: u64 = 4;

#[test]
fn a_killed_download_loses_at_most_one_mebibyte_a_connection() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, SIZE);
        // One for each part: another one would help those that stall, and fetch more than is counted here.
        let connections = CONNECTIONS.to_string();
        let node = scene.node().registry(&registry).arg("--connections-per-blob", connections);
        let mut node = node.start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        // Every connection stops in the middle of its part, half a mebibyte after the last full one.
        for part in 0..CONNECTIONS {
            stall_at(&registry, &model.file, part * PART + 4 * MIB + MIB / 2);
        }
        let call = in_background(&node.plugin(), &request);
        assert!(registry.faults().until_stalled(CONNECTIONS as usize, LIMIT).await);
        node.fetched(CONNECTIONS * 4 * MIB).await;
        node.kill9();
        assert!(call.await.unwrap().is_err());
        assert_eq!(registry.bytes_served(&model.file), CONNECTIONS * (4 * MIB + MIB / 2));

        nobody_reads(&registry).await;
        go_on(&registry);
        node.start().await;
        publish(&node, &request).await;
        let served = registry.bytes_served(&model.file);
        println!("fetched again after a kill: {} KiB", (served - SIZE) >> 10);
        assert!(served <= SIZE + CONNECTIONS * MIB, "{served} bytes were served of {SIZE}");
        assert_eq!(digest_of(&request.target.join("model.bin")), model.file);
        node.plugin().unpublish(&publication(&request)).await.unwrap();
        node.nothing_left().await;
    });
}

#[test]
fn a_download_that_is_killed_again_and_again_goes_on_each_time() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, SIZE);
        let mut node = scene.node().registry(&registry).start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        registry.set_rate(Some(10 * MIB));
        // Before the first full mebibyte, in the first parts, in later ones, shortly before the end.
        let mut interrupted = 0;
        for served in [MIB / 2, 9 * MIB, 30 * MIB, 50 * MIB, 58 * MIB] {
            let call = in_background(&node.plugin(), &request);
            let reached =
                registry.traffic().until(LIMIT, |traffic| traffic.bytes_served(&model.file) >= served).await;
            assert!(reached, "{}", node.log());
            node.kill9();
            interrupted += usize::from(call.await.unwrap().is_err());
            node.start().await;
        }
        // The last one may come too late on a slow machine.
        assert!(interrupted >= 4, "{interrupted} kills hit the download");
        registry.set_rate(None);
        publish(&node, &request).await;
        // Of five kills; each may cost a mebibyte a connection and what was on its way.
        let served = registry.bytes_served(&model.file);
        println!("fetched again after 5 kills: {} KiB", (served - SIZE) >> 10);
        assert!(served <= SIZE + 64 * MIB, "{served} bytes were served of {SIZE}");
        assert_eq!(digest_of(&request.target.join("model.bin")), model.file);
        node.plugin().unpublish(&publication(&request)).await.unwrap();
        node.nothing_left().await;
    });
}

/// A container that reads its file again and again.
struct Reader {
    passes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn start(file: PathBuf, digest: Digest) -> Self {
        let (passes, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, stopped) = (Arc::clone(&passes), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                assert_eq!(digest_of(&file), digest);
                counted.fetch_add(1, Ordering::AcqRel);
            }
        });
        Self { passes, stop, thread }
    }

    /// Waits for two more passes, of which the second has begun after this call.
    async fn goes_on(&self) {
        let passes = self.passes.load(Ordering::Acquire);
        until("the reader reads on", || {
            assert!(!self.thread.is_finished(), "the reader has noticed something");
            self.passes.load(Ordering::Acquire) >= passes + 2
        })
        .await;
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
    }
}

#[test]
fn readers_notice_nothing_of_a_killed_plugin() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, 2 * MIB);
        let mut node = scene.node().registry(&registry).start().await;
        let mut volumes = Vec::new();
        for (name, readonly) in [("web-0", false), ("web-1", true)] {
            let request = node.plugin().inline(&Pod::new("team", name), "model", &model.attributes());
            let request = PublishRequest { readonly, ..request };
            publish(&node, &request).await;
            let reader = Reader::start(request.target.join("model.bin"), model.file.clone());
            volumes.push((request, reader));
        }
        let mounts = node.mounts();
        for (_, reader) in &volumes {
            reader.goes_on().await;
        }
        node.kill9();
        for (_, reader) in &volumes {
            reader.goes_on().await;
        }
        node.start().await;
        for (request, reader) in &volumes {
            reader.goes_on().await;
            // Kubelet, restarted too, asks again; the mount stays the same.
            publish(&node, request).await;
            reader.goes_on().await;
        }
        assert_eq!(node.mounts(), mounts);
        for (request, reader) in volumes {
            reader.stop();
            node.plugin().unpublish(&publication(&request)).await.unwrap();
        }
        node.nothing_left().await;
    });
}

/// Changes the one record in a store that nobody has open.
fn edit_record(node: &Node, edit: impl FnOnce(&mut Value)) {
    let [name] = &node.entries("volumes")[..] else { panic!("{:?}", node.entries("volumes")) };
    let path = node.store().join("volumes").join(name);
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut record);
    std::fs::write(&path, record.to_string()).unwrap();
}

/// The state on the disk is that of a process that died after `move_mount` and before it wrote so.
#[test]
fn a_mount_whose_record_was_never_written_is_taken_down_and_made_again() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let mut node = scene.node().registry(&registry).start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        publish(&node, &request).await;
        node.kill9();
        edit_record(&node, |record| {
            assert_eq!(record["state"], "mounted");
            record["state"] = json!("pending");
            record["devIno"] = Value::Null;
        });
        assert_eq!(node.mounts().len(), 1);
        node.start().await;
        assert!(node.mounts().is_empty(), "{:?}", node.mounts());
        publish(&node, &request).await;
        assert_eq!(node.mounts().len(), 1);
        assert_eq!(digest_of(&request.target.join("model.bin")), model.file);
        node.plugin().unpublish(&publication(&request)).await.unwrap();
        node.nothing_left().await;
    });
}

#[test]
fn a_mount_without_any_record_never_gets_a_second_one_on_top() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let mut node = scene.node().registry(&registry).start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        for again in [true, false] {
            publish(&node, &request).await;
            node.kill9();
            let [name] = &node.entries("volumes")[..] else { panic!("{:?}", node.entries("volumes")) };
            std::fs::remove_file(node.store().join("volumes").join(name)).unwrap();
            node.start().await;
            if again {
                publish(&node, &request).await;
                assert_eq!(node.mounts().len(), 1);
                assert_eq!(digest_of(&request.target.join("model.bin")), model.file);
            }
            node.plugin().unpublish(&publication(&request)).await.unwrap();
            node.nothing_left().await;
        }
    });
}

#[test]
fn one_start_repairs_what_a_kill_at_any_moment_leaves() {
    const VOLUMES: usize = 12;
    scene(async |scene| {
        let registry = scene.registry().await;
        let mut node = scene.node().registry(&registry).start().await;
        for (round, mounted) in [0, 1, 3, 6, 9, 12].into_iter().enumerate() {
            // Cold, so that the kill may also hit the download, the commit and the building of the view.
            let model = Model::push(&registry, "team/model", &format!("v{round}"), round as u64, 2 * MIB);
            let requests: Vec<_> = (0..VOLUMES)
                .map(|number| {
                    let pod = Pod::new("team", &format!("web-{number}"));
                    let request = node.plugin().inline(&pod, "model", &model.attributes());
                    PublishRequest { readonly: number % 2 == 1, ..request }
                })
                .collect();
            let calls: Vec<_> =
                requests.iter().map(|request| in_background(&node.plugin(), request)).collect();
            until("some volumes are mounted", || node.mounts().len() >= mounted).await;
            kill_and_repair(&mut node).await;
            for call in calls {
                // Whatever it was answered: kubelet asks again.
                let _ = call.await.unwrap();
            }
            for request in &requests {
                publish(&node, request).await;
                assert_eq!(digest_of(&request.target.join("model.bin")), model.file);
            }
            assert_eq!(node.mounts().len(), VOLUMES);

            let plugin = node.plugin();
            let calls: Vec<_> = requests
                .iter()
                .map(|request| {
                    let (plugin, volume) = (plugin.clone(), publication(request));
                    tokio::spawn(async move { plugin.unpublish(&volume).await })
                })
                .collect();
            until("some volumes are unmounted", || node.mounts().len() <= mounted).await;
            kill_and_repair(&mut node).await;
            for call in calls {
                let _ = call.await.unwrap();
            }
            for request in &requests {
                node.plugin().unpublish(&publication(request)).await.unwrap();
            }
            node.nothing_left().await;
        }
    });
}

/// Kills the plugin, starts it, and looks for what its repair has overlooked.
async fn kill_and_repair(node: &mut Node) {
    node.kill9();
    node.start().await;
    let mounts = node.mounts();
    let mut points: Vec<_> = mounts.iter().map(|mount| &mount.mount_point).collect();
    points.sort();
    points.dedup();
    assert_eq!(points.len(), mounts.len(), "mounts are stacked: {mounts:#?}");
    let records: Vec<Value> = node
        .entries("volumes")
        .iter()
        .map(|name| serde_json::from_slice(&std::fs::read(node.store().join("volumes").join(name)).unwrap()))
        .collect::<Result<_, _>>()
        .unwrap();
    for point in points {
        let recorded = records.iter().any(|record| {
            record["state"] == "mounted" && record["target"].as_str() == Some(&point.to_string_lossy())
        });
        assert!(recorded, "no record tells of the mount at {}: {records:#?}", point.display());
    }
    // The trash is emptied beside the first calls.
    until("no temporary file is left", || {
        let left = node.leftovers();
        !left.iter().any(|left| left.starts_with("temporary") || left.contains("trash/"))
    })
    .await;
}
