//! How tars are mounted: through files or loop devices, shared, repaired, and refused where the kernel cannot.

use std::collections::BTreeSet;
use std::path::Path;

use stowage_erofs::{Layer, Rules, Selection, TarIndexer, merge, write_image};
use stowage_sys::{ErofsBackingChoice, mounts_beneath};
use stowage_testkit::artifacts::{Artifact, BlobData, Packed, Tar, filesystem_image, image};
use stowage_testkit::namespace::loop_devices_beneath;
use stowage_testkit::registry::{At, Fault, Target};
use stowage_volumes::{Meaning, VolumesOptions};

use super::families::{shown, with};
use crate::bench::{Bench, registry, scene, store_options, until};

fn bench(root: &Path, erofs: ErofsBackingChoice) -> Bench {
    Bench::with(root, store_options(), VolumesOptions { erofs, ..VolumesOptions::default() })
}

fn rootfs() -> Artifact {
    let tar = Tar::of([("etc/hosts", "localhost"), ("usr/lib/large", &"x".repeat(3 << 20))]);
    image([Packed::gzip(&tar.bytes()).unwrap()]).build().unwrap()
}

/// Bytes that no codec makes smaller.
fn noise(seed: u64, size: u64) -> Vec<u8> {
    BlobData::generated(seed, size).read_range(0..size).unwrap().to_vec()
}

#[test]
fn files_and_loop_devices_show_the_same_and_leave_nothing() {
    for choice in [ErofsBackingChoice::File, ErofsBackingChoice::Loop] {
        scene(async |root| {
            let registry = registry().await;
            registry.push("image", Some("v1"), &rootfs());
            let bench = bench(root, choice);
            let reference = registry.reference("image", "v1");
            bench.volumes.publish(bench.request("v", &reference)).await.unwrap();
            let files = shown(&bench.target("v"));
            assert_eq!(files["etc/hosts"], "localhost");
            assert_eq!(files["usr/lib/large"].len(), 3 << 20);
            let devices = if choice == ErofsBackingChoice::Loop { 2 } else { 0 };
            assert_eq!(loop_devices_beneath(root), devices, "the image and its tar");
            bench.unpublish("v").await;
            until("the loop devices are gone", || loop_devices_beneath(root) == 0).await;
            assert_eq!(mounts_beneath(root).unwrap(), []);
        });
    }
}

#[test]
fn volumes_of_one_view_share_a_superblock_whatever_readonly_says() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("image", Some("v1"), &rootfs());
        let bench = bench(root, ErofsBackingChoice::Auto);
        let reference = registry.reference("image", "v1");
        let mut devices = BTreeSet::new();
        for (name, readonly) in [("a", false), ("b", true), ("c", false)] {
            let mut request = bench.request(name, &reference);
            request.readonly = readonly;
            bench.volumes.publish(request).await.unwrap();
            devices.insert(stowage_sys::inspect(&bench.target(name)).unwrap().unwrap().dev);
        }
        assert_eq!(devices.len(), 1);
        // The first that was mounted may go first.
        bench.unpublish("a").await;
        assert_eq!(shown(&bench.target("c"))["etc/hosts"], "localhost");
        bench.unpublish("b").await;
        bench.unpublish("c").await;
    });
}

#[test]
fn after_a_reboot_the_volume_is_mounted_anew_and_nothing_is_fetched() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("image", Some("v1"), &rootfs());
        let reference = registry.reference("image", "v1");
        {
            let bench = bench(root, ErofsBackingChoice::Auto);
            bench.volumes.publish(bench.request("v", &reference)).await.unwrap();
            bench.volumes.shutdown().await;
        }
        // Mounts gone, records there.
        stowage_sys::unmount(&root.join("pods/v")).unwrap();
        let served = registry.traffic().total_bytes_served();
        let bench = bench(root, ErofsBackingChoice::Auto);
        assert_eq!(bench.volumes.recover().await.unwrap().waiting, 1);
        bench.volumes.publish(bench.request("v", &reference)).await.unwrap();
        assert_eq!(shown(&bench.target("v"))["etc/hosts"], "localhost");
        assert_eq!(registry.traffic().total_bytes_served(), served);
        bench.unpublish("v").await;
    });
}

#[test]
fn a_compressed_layer_is_fetched_once_for_everybody_and_after_a_restart() {
    scene(async |root| {
        let registry = registry().await;
        let plain = noise(1, 12 << 20);
        let tar = Tar::new().file("data", &plain, 0o644).bytes();
        let layer = Packed::zstd(&tar).unwrap();
        let digest = layer.digest();
        let artifact = image([layer]).build().unwrap();
        let size = artifact.blobs().iter().find(|(blob, _)| *blob == digest).unwrap().1.size();
        registry.push("image", Some("v1"), &artifact);
        let reference = registry.reference("image", "v1");
        registry.faults().next(1, Target::Digest(digest.clone()), Fault::Stall(At::Blob(size / 2)));
        {
            let bench = bench(root, ErofsBackingChoice::Auto);
            let request = bench.request("first", &reference);
            let progress = request.progress.clone();
            let waiting = tokio::spawn({
                let volumes = bench.volumes.clone();
                async move { volumes.publish(request).await }
            });
            until("half of it is here", || progress.read().done > size / 2 - (1 << 20)).await;
            bench.volumes.shutdown().await;
            waiting.await.unwrap().unwrap_err();
        }
        registry.faults().release();
        let bench = bench(root, ErofsBackingChoice::Auto);
        let names = ["first", "second", "third"];
        let publishes = names.map(|name| bench.volumes.publish(bench.request(name, &reference)));
        for published in futures::future::join_all(publishes).await {
            published.unwrap();
        }
        let served = registry.bytes_served(&digest);
        assert!(served < size * 3 / 2, "one download, resumed: {served} of {size}");
        for name in names {
            assert_eq!(std::fs::read(bench.target(name).join("data")).unwrap(), plain);
            bench.unpublish(name).await;
        }
        assert!(bench.store.blob_size(&digest).is_none(), "only the plain bytes stay");
    });
}

#[test]
fn without_erofs_a_tar_is_refused_before_a_byte_and_can_be_a_file() {
    scene(async |root| {
        let registry = registry().await;
        let artifact = rootfs();
        registry.push("image", Some("v1"), &artifact);
        let bench = bench(root, ErofsBackingChoice::None);
        let reference = registry.reference("image", "v1");
        let error = bench.volumes.publish(bench.request("v", &reference)).await.unwrap_err();
        assert_eq!(error.meaning(), Meaning::Unsupported);
        let said = error.to_string();
        assert!(
            said.contains("is a tar, whose files need EROFS, and EROFS is turned off by the configuration"),
            "{said}"
        );
        assert!(said.ends_with("set `tar: file` to mount the tar itself"), "{said}");
        let layer = &artifact.blobs().iter().find(|(_, data)| data.size() > 1000).unwrap().0;
        assert_eq!(registry.bytes_served(layer), 0);
        let request = with(bench.request("v", &reference), &[("tar", "file")]);
        bench.volumes.publish(request).await.unwrap();
        assert_eq!(shown(&bench.target("v")).len(), 1);
        bench.unpublish("v").await;
    });
}

#[test]
fn a_tenant_shows_access_to_a_layer_that_is_here_decoded_only() {
    scene(async |root| {
        let registry = stowage_testkit::Registry::builder().start().await.unwrap();
        let tar = Tar::new().file("secret", noise(2, 6 << 20), 0o644);
        let layer = Packed::gzip(&tar.bytes()).unwrap();
        let (digest, diff_id) = (layer.digest(), layer.diff_id());
        let artifact = image([layer]).build().unwrap();
        registry.push("owner/image", Some("v1"), &artifact);
        let bench = bench(root, ErofsBackingChoice::Auto);
        bench
            .volumes
            .publish(bench.request("owner", &registry.reference("owner/image", "v1")))
            .await
            .unwrap();
        assert!(bench.store.blob_size(&digest).is_none());

        // The thief's own registry lists the layer, and serves other bytes of the same length.
        let thief = stowage_testkit::Registry::builder().start().await.unwrap();
        let size = artifact.blobs().iter().find(|(blob, _)| *blob == digest).unwrap().1.size();
        let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#);
        let listed = stowage_testkit::artifacts::ArtifactBuilder::new()
            .config("application/vnd.oci.image.config.v1+json", config)
            .layer(
                stowage_testkit::artifacts::Layer::new(
                    "application/vnd.oci.image.layer.v1.tar+gzip",
                    vec![0_u8; size as usize],
                )
                .declare_digest(digest.clone()),
            )
            .build()
            .unwrap();
        thief.push("thief/image", Some("v1"), &listed);
        let mut request = bench.request("thief", &thief.reference("thief/image", "v1"));
        request.namespace = "thieves".to_owned();
        let error = bench.volumes.publish(request).await.unwrap_err();
        assert_eq!(error.meaning(), Meaning::Denied, "{error}");
        assert!(!bench.is_mounted("thief"));

        // A registry that has it is believed by the ranges that it serves, without a second download.
        let copy = stowage_testkit::Registry::builder().start().await.unwrap();
        copy.push("copy/image", Some("v1"), &artifact);
        bench.volumes.publish(bench.request("copy", &copy.reference("copy/image", "v1"))).await.unwrap();
        assert_eq!(copy.bytes_served(&digest), 8 * (64 << 10));
        for name in ["owner", "copy"] {
            bench.unpublish(name).await;
        }
    });
}

/// An EROFS image of its own, which holds nothing but names and a symlink.
fn foreign_image(link: &str, target: &str) -> Vec<u8> {
    let mut indexer = TarIndexer::new();
    indexer.push(&Tar::new().directory("etc").symlink(link, target).bytes()).unwrap();
    let index = indexer.finish().unwrap();
    let layers = [Layer { name: "layer", blob: "none", index: &index }];
    let tree = merge(&layers, Rules::RootFilesystem, Selection::default()).unwrap();
    let mut image = Vec::new();
    write_image(&tree, &mut image).unwrap();
    image
}

#[test]
fn images_from_a_registry_are_mounted_only_where_the_administrator_says_so() {
    scene(async |root| {
        let registry = registry().await;
        let layers = [foreign_image("etc/a", "below"), foreign_image("etc/b", "above")].map(Packed::plain);
        let artifact = filesystem_image("application/vnd.erofs.layer.v1", layers).build().unwrap();
        registry.push("image", Some("v1"), &artifact);
        let reference = registry.reference("image", "v1");
        {
            let careful = Bench::new(root);
            let error = careful.volumes.publish(careful.request("v", &reference)).await.unwrap_err();
            assert_eq!(error.meaning(), Meaning::Invalid, "{error}");
            careful.volumes.shutdown().await;
        }
        let options = VolumesOptions { allow_filesystem_layers: true, ..VolumesOptions::default() };
        let trusting = Bench::with(root, store_options(), options);
        for name in ["v", "w"] {
            trusting.volumes.publish(trusting.request(name, &reference)).await.unwrap();
        }
        let expected = [("etc/a", "-> below"), ("etc/b", "-> above")];
        assert!(shown(&trusting.target("v")).iter().map(|(p, c)| (p.as_str(), c.as_str())).eq(expected));
        let device = |name: &str| stowage_sys::inspect(&trusting.target(name)).unwrap().unwrap().dev;
        assert_eq!(device("v"), device("w"), "one superblock");
        for name in ["v", "w"] {
            trusting.unpublish(name).await;
        }
        until("the loop devices are gone", || loop_devices_beneath(root) == 0).await;
    });
}
