//! What is mounted is the store's own bytes, and no container can change them.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::process::Command;

use stowage_testkit::BlobData;
use stowage_testkit::artifacts::oras_files;
use stowage_testkit::kubelet::{Pod, PublishRequest};
use stowage_testkit::namespace::attack_as_runtime;

use super::{Model, publish};
use crate::harness::{Node, digest_of, scene};

const MIB: u64 = 1 << 20;

/// The blob is what it was: bytes, mode and owner.
fn assert_untouched(node: &Node, model: &Model) {
    let blob = node.blob(&model.file);
    assert_eq!(digest_of(&blob), model.file);
    let metadata = std::fs::metadata(&blob).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o444, 0));
}

#[test]
fn root_in_a_container_cannot_change_a_volume_whose_flag_the_runtime_has_cleared() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let node = scene.node().registry(&registry).start().await;
        // The first volume of a view has a superblock made for it, the second one a clone.
        for name in ["web-0", "web-1"] {
            let request = node.plugin().inline(&Pod::new("team", name), "model", &model.attributes());
            publish(&node, &request).await;
            let point = stowage_sys::inspect(&request.target).unwrap().unwrap();
            assert!(point.readonly && point.superblock_readonly, "{point:?}");
            let attempts = attack_as_runtime(&request.target, Path::new("model.bin"));
            assert!(attempts.len() >= 8);
            for attempt in attempts {
                assert!(attempt.refused_as_read_only(), "{attempt:?}");
            }
            assert_eq!(digest_of(&request.target.join("model.bin")), model.file);
            assert_untouched(&node, &model);
        }
    });
}

/// What a container's root can try on a mount whose flag the runtime keeps, because the pod said `readOnly: true`.
fn attempts(volume: &Path) -> BTreeMap<&'static str, io::Result<()>> {
    let (file, new) = (volume.join("model.bin"), volume.join("new"));
    let write = || OpenOptions::new().append(true).open(&file)?.write_all(b"x");
    BTreeMap::from([
        ("write", write()),
        ("truncate", OpenOptions::new().write(true).truncate(true).open(&file).map(drop)),
        ("chmod", std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666))),
        ("chown", std::os::unix::fs::chown(&file, Some(12345), None)),
        ("create", std::fs::File::create(&new).map(drop)),
        ("make directory", std::fs::create_dir(&new)),
        ("link", std::fs::hard_link(&file, &new)),
        ("rename", std::fs::rename(&file, &new)),
        ("unlink", std::fs::remove_file(&file)),
    ])
}

#[test]
fn a_volume_that_the_pod_wants_read_only_is_a_read_only_bind() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let node = scene.node().registry(&registry).start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        let request = PublishRequest { readonly: true, ..request };
        publish(&node, &request).await;
        let point = stowage_sys::inspect(&request.target).unwrap().unwrap();
        assert!(point.readonly, "{point:?}");
        assert_ne!(point.fs_type, "overlay", "an overlay cannot be idmapped for hostUsers: false");
        for (what, outcome) in attempts(&request.target) {
            let refused = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem);
            assert!(refused, "{what}: {outcome:?}");
        }
        // A pod with hostUsers: false: the flag is locked for whoever is root only in there.
        let script = "mount -o remount,bind,rw \"$0\" || echo x >> \"$0/model.bin\"";
        let inside = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .arg(&request.target)
            .output()
            .unwrap();
        assert!(!inside.status.success(), "{inside:?}");
        assert_untouched(&node, &model);
    });
}

#[test]
fn a_file_of_a_volume_is_the_blob_itself() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let node = scene.node().registry(&registry).start().await;
        for (name, readonly) in [("web-0", false), ("web-1", false), ("web-2", true)] {
            let request = node.plugin().inline(&Pod::new("team", name), "model", &model.attributes());
            let request = PublishRequest { readonly, ..request };
            publish(&node, &request).await;
            let mounted = std::fs::metadata(request.target.join("model.bin")).unwrap();
            let blob = std::fs::metadata(node.blob(&model.file)).unwrap();
            assert_eq!(mounted.ino(), blob.ino());
            assert_eq!(mounted.mode() & 0o7777, 0o444);
            if readonly {
                assert_eq!(mounted.dev(), blob.dev());
            }
        }
    });
}

#[test]
fn an_artifact_takes_its_own_size_on_the_disk() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let sizes = [MIB, 5 * MIB + 1, 40 * MIB, 64 * MIB + 123];
        let files = sizes.into_iter().zip(1..);
        let files = files.map(|(size, seed)| (format!("part-{seed}.bin"), BlobData::generated(seed, size)));
        let artifact = oras_files(files).build().unwrap();
        registry.push("team/model", Some("v1"), &artifact);
        let node = scene.node().registry(&registry).start().await;
        let before = disk_use(node.store());
        let reference = registry.reference("team/model", "v1");
        for name in ["web-0", "web-1"] {
            let pod = Pod::new("team", name);
            let request = node.plugin().inline(&pod, "model", &[("reference", &reference)]);
            publish(&node, &request).await;
        }
        let (used, size) = (disk_use(node.store()) - before, sizes.iter().sum::<u64>());
        println!("{used} bytes on the disk for {size}: {:.5}", used as f64 / size as f64);
        assert!(used * 1000 <= size * 1001, "{used} bytes on the disk for {size}");
    });
}

/// Bytes that a directory with all that is beneath it takes, each inode once.
fn disk_use(directory: &Path) -> u64 {
    fn add(path: &Path, inodes: &mut BTreeMap<u64, u64>) {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        inodes.insert(metadata.ino(), metadata.blocks() * 512);
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                add(&entry.unwrap().path(), inodes);
            }
        }
    }
    let mut inodes = BTreeMap::new();
    add(directory, &mut inodes);
    inodes.values().sum()
}
