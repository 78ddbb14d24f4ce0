//! The same for what comes out of tars: the kernel alone serves it, through files or loop devices.

use std::path::PathBuf;

use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::{BlobData, Packed, Tar, image};
use stowage_testkit::kubelet::{Pod, PublishRequest};
use stowage_testkit::namespace::loop_devices_beneath;
use stowage_testkit::registry::Registry;

use super::super::stalls::{go_on, nobody_reads, stall_at};
use super::super::{in_background, publication, publish};
use super::{MIB, Reader, SIZE, kill_and_repair};
use crate::harness::{LIMIT, digest_of, scene, until};

/// An image whose upper layer, compressed, has `large`, and whose lower one has not changed since it was pushed.
struct Rootfs {
    reference: String,
    /// The upper layer as the registry has it, and its size.
    layer: (Digest, u64),
    /// Of the file `large`.
    large: Digest,
}

impl Rootfs {
    /// Pushes one with a file of `size` bytes that no codec makes smaller.
    fn push(registry: &Registry, tag: &str, seed: u64, size: u64) -> Self {
        let large = BlobData::generated(seed, size).read_range(0..size).unwrap();
        let lower = Tar::of([("etc/hosts", "localhost"), ("large", "the lower one")]);
        let upper = Packed::zstd(&Tar::new().file("large", &large, 0o644).bytes()).unwrap();
        let digest = upper.digest();
        let artifact = image([Packed::plain(lower.bytes()), upper]).build().unwrap();
        let size = artifact.blobs().iter().find(|(blob, _)| *blob == digest).unwrap().1.size();
        registry.push("team/rootfs", Some(tag), &artifact);
        Self {
            reference: registry.reference("team/rootfs", tag),
            layer: (digest, size),
            large: Digest::of(Algorithm::Sha256, &large),
        }
    }

    fn attributes(&self) -> [(&str, &str); 1] {
        [("reference", &self.reference)]
    }

    fn large_in(request: &PublishRequest) -> PathBuf {
        request.target.join("large")
    }
}

#[test]
fn a_killed_download_of_a_compressed_layer_goes_on_and_is_decoded_from_its_beginning() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let rootfs = Rootfs::push(&registry, "v1", 1, SIZE);
        let (layer, size) = rootfs.layer.clone();
        // One connection: where decoding is slow, another would be asked to help and fetch some bytes twice.
        let mut node = scene.node().registry(&registry).one_connection().start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "rootfs", &rootfs.attributes());
        stall_at(&registry, &layer, SIZE / 2 + MIB / 2);
        let call = in_background(&node.plugin(), &request);
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        node.fetched(SIZE / 2).await;
        node.kill9();
        assert!(call.await.unwrap().is_err());

        nobody_reads(&registry).await;
        go_on(&registry);
        node.start().await;
        publish(&node, &request).await;
        let served = registry.bytes_served(&layer);
        println!("fetched again after a kill: {} KiB", (served - size) >> 10);
        // A mebibyte of which nothing was written down yet, and the half that was on its way.
        assert!(served <= size + MIB + MIB / 2, "{served} bytes were served of {size}");
        assert_eq!(digest_of(&Rootfs::large_in(&request)), rootfs.large);
        assert!(!node.blob(&layer).exists(), "only the plain bytes stay");
        node.plugin().unpublish(&publication(&request)).await.unwrap();
        node.nothing_left().await;
    });
}

#[test]
fn readers_of_a_tar_notice_nothing_of_a_killed_plugin() {
    for (backing, devices) in [("file", 0), ("loop", 3)] {
        scene(async |scene| {
            let registry = scene.registry().await;
            let rootfs = Rootfs::push(&registry, "v1", 1, 2 * MIB);
            let mut node = scene.node().registry(&registry).arg("--erofs", backing).start().await;
            let mut volumes = Vec::new();
            for (name, readonly) in [("web-0", false), ("web-1", true)] {
                let request = node.plugin().inline(&Pod::new("team", name), "rootfs", &rootfs.attributes());
                let request = PublishRequest { readonly, ..request };
                publish(&node, &request).await;
                let reader = Reader::start(Rootfs::large_in(&request), rootfs.large.clone());
                volumes.push((request, reader));
            }
            let mounts = node.mounts();
            assert_eq!(loop_devices_beneath(node.store()), devices, "the image and two tars");
            node.kill9();
            for (_, reader) in &volumes {
                reader.goes_on().await;
            }
            node.start().await;
            for (request, reader) in &volumes {
                publish(&node, request).await;
                reader.goes_on().await;
            }
            assert_eq!(node.mounts(), mounts);
            assert_eq!(loop_devices_beneath(node.store()), devices);
            for (request, reader) in volumes {
                reader.stop();
                node.plugin().unpublish(&publication(&request)).await.unwrap();
            }
            node.nothing_left().await;
            until("the loop devices are gone", || loop_devices_beneath(node.store()) == 0).await;
        });
    }
}

#[test]
fn one_start_repairs_what_a_kill_leaves_of_volumes_out_of_tars() {
    const VOLUMES: usize = 6;
    scene(async |scene| {
        let registry = scene.registry().await;
        let mut node = scene.node().registry(&registry).arg("--erofs", "loop").start().await;
        for (round, mounted) in [0, 1, 3, 6].into_iter().enumerate() {
            // Cold, so that the kill may also hit the decoding, the image, and a loop device that nothing uses yet.
            let rootfs = Rootfs::push(&registry, &format!("v{round}"), round as u64, 2 * MIB);
            let requests: Vec<_> = (0..VOLUMES)
                .map(|number| {
                    let pod = Pod::new("team", &format!("web-{number}"));
                    node.plugin().inline(&pod, "rootfs", &rootfs.attributes())
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
                assert_eq!(digest_of(&Rootfs::large_in(request)), rootfs.large);
            }
            assert_eq!(node.mounts().len(), VOLUMES);
            for request in &requests {
                node.plugin().unpublish(&publication(request)).await.unwrap();
            }
            node.nothing_left().await;
            until("the loop devices are gone", || loop_devices_beneath(node.store()) == 0).await;
        }
    });
}
