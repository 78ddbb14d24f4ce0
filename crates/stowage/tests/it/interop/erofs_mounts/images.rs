//! Container images: layers by GNU tar, the image by `crane append`, copies by `skopeo`.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::Value;
use stowage_artifact::Digest;
use stowage_testkit::BlobData;

use super::super::trees::{Seed, date, plant, shown, tree};
use super::super::{MIB, Shop, shop, walk};
use super::read_only;
use crate::harness::digest_of;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// The root filesystem that the two layers come to.
struct RootFilesystem {
    layers: [PathBuf; 2],
    merged: PathBuf,
}

impl RootFilesystem {
    async fn build(shop: &Shop) -> Self {
        let [below, above, merged] = ["below", "above", "merged"].map(|name| shop.home.join(name));
        let library = BlobData::generated(41, 3 * MIB + 5);
        let kept = || {
            vec![
                ("bin/busybox", Seed::File(0o4755, "\x7fELF")),
                ("bin/sh", Seed::Symlink("/bin/busybox")),
                ("etc/mtab", Seed::Symlink("../proc/mounts")),
                ("etc/shadow", Seed::File(0o600, "root:*\n")),
                ("root", Seed::Directory(0o700)),
                ("tmp", Seed::Directory(0o1777)),
                ("usr/lib/large.so", Seed::Data(0o755, &library)),
            ]
        };
        plant(&below, &kept());
        plant(
            &below,
            &[
                ("etc/replaced", Seed::File(0o644, "below")),
                ("etc/gone", Seed::File(0o644, "below")),
                ("etc/gone.d/a/b", Seed::File(0o644, "below")),
                ("opt/opaque/old", Seed::File(0o644, "below")),
                ("opt/opaque/both", Seed::File(0o644, "below")),
                ("opt/opaque/deep/old", Seed::File(0o644, "below")),
                ("srv/becomes-a-link", Seed::File(0o644, "below")),
                ("var/lock", Seed::File(0o644, "a file below, a directory above")),
            ],
        );
        // Containers make their own of these.
        let permissions = Mode::from_bits_truncate(0o644);
        mknod(&below.join("tmp/pipe"), SFlag::S_IFIFO, permissions, 0).unwrap();
        mknod(&below.join("tmp/null"), SFlag::S_IFCHR, permissions, makedev(1, 3)).unwrap();
        let changed = || {
            vec![
                ("etc/replaced", Seed::File(0o640, "above")),
                ("opt/opaque/both", Seed::File(0o644, "above")),
                ("opt/opaque/new/file", Seed::File(0o755, "above")),
                ("srv", Seed::Symlink("opt")),
                ("var/lock/held", Seed::File(0o644, "above")),
            ]
        };
        plant(&above, &changed());
        plant(
            &above,
            &[
                ("etc/.wh.gone", Seed::File(0o644, "")),
                ("etc/.wh.gone.d", Seed::File(0o644, "")),
                ("opt/opaque/.wh..wh..opq", Seed::File(0o644, "")),
            ],
        );
        plant(&merged, &kept());
        plant(&merged, &changed());
        for root in [&below, &merged] {
            std::fs::hard_link(root.join("usr/lib/large.so"), root.join("usr/lib/large.so.1")).unwrap();
            chown(root.join("etc/shadow"), Some(0), Some(42)).unwrap();
            chown(root.join("root"), Some(1000), Some(70_000)).unwrap();
            date(root);
        }
        let layers = [(&below, "below.tar.gz", "-czf"), (&above, "above.tar", "-cf")];
        for (root, file, how) in layers {
            let (file, root) = (shop.home.join(file), root.to_str().unwrap());
            let arguments = ["--numeric-owner", "--sort=name", how, file.to_str().unwrap(), "-C", root, "."];
            shop.tools["tar"].run(&arguments).await.unwrap();
        }
        Self { layers: layers.map(|(_, file, _)| shop.home.join(file)), merged }
    }

    /// The image of both layers, in Docker's format or in OCI's.
    async fn append(&self, shop: &Shop, repository: &str, more: &[&str]) -> String {
        let reference = shop.registry.reference(repository, "v1");
        let mut arguments = vec!["append", "--new_tag", &reference];
        for layer in &self.layers {
            arguments.extend(["--new_layer", layer.to_str().unwrap()]);
        }
        arguments.extend(more);
        shop.crane().run(&arguments).await.unwrap();
        reference
    }

    /// Mounts the image and compares all of it.
    async fn mounted(&self, shop: &Shop, reference: &str) {
        let volume = shop.publish_with(reference, &[]).await;
        assert_eq!(tree(&volume.target), shown(tree(&self.merged)), "{reference}");
        let library = |name: &str| std::fs::metadata(volume.target.join("usr/lib").join(name)).unwrap();
        assert_eq!(library("large.so").ino(), library("large.so.1").ino(), "{reference}");
        assert_eq!(library("large.so").nlink(), 2, "{reference}");
        read_only(&volume.target);
        shop.unpublish(&volume).await;
    }
}

/// The type of a manifest, and of its layers.
fn types(manifest: &Value) -> (&str, Vec<&str>) {
    let layers =
        manifest["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].as_str().unwrap());
    (manifest["mediaType"].as_str().unwrap(), layers.collect())
}

#[test]
fn an_image_by_crane_and_its_copies_by_skopeo_are_the_merged_root_filesystem() {
    shop(async |shop| {
        let image = RootFilesystem::build(shop).await;
        let docker = image.append(shop, "team/docker", &[]).await;
        assert_eq!(types(&shop.manifest(&docker).await), (DOCKER, vec![DOCKER_GZIP; 2]));
        image.mounted(shop, &docker).await;
        // By way of a directory that skopeo has not seen: it would rather have a registry take the layers as they are.
        let directory = shop.home.join("copy");
        shop.crane().run(&["pull", "--format=oci", &docker, directory.to_str().unwrap()]).await.unwrap();
        let directory = format!("oci:{}", directory.display());
        let copies = [
            ("team/zstd", ["--format=oci", "--dest-compress-format=zstd"], (OCI, vec![OCI_ZSTD; 2])),
            ("team/v2s2", ["--format=v2s2", "--dest-compress-format=gzip"], (DOCKER, vec![DOCKER_GZIP; 2])),
        ];
        for (repository, how, expected) in copies {
            let reference = shop.registry.reference(repository, "v1");
            shop.skopeo_copy(&how, &directory, &format!("docker://{reference}")).await;
            assert_eq!(types(&shop.manifest(&reference).await), expected);
            image.mounted(shop, &reference).await;
        }
    });
}

/// The digest of every blob in an OCI layout, read from its file.
fn blobs(layout: &Path) -> BTreeMap<String, Digest> {
    let directory = layout.join("blobs/sha256");
    let name = |path: &Path| path.strip_prefix(&directory).unwrap().to_str().unwrap().to_owned();
    walk(&directory).iter().map(|path| (name(path), digest_of(path))).collect()
}

#[test]
fn an_image_as_a_layout_holds_what_skopeo_copies() {
    shop(async |shop| {
        let image = RootFilesystem::build(shop).await;
        let oci = image.append(shop, "team/oci", &["--oci-empty-base"]).await;
        // Its layers are wanted in the other form meanwhile.
        let tree_too = shop.publish_with(&oci, &[]).await;
        let volume = shop.publish_with(&oci, &[("layout", "oci")]).await;
        let by_skopeo = shop.home.join("by-skopeo");
        let destination = format!("oci:{}:v1", by_skopeo.display());
        shop.skopeo_copy(&["--preserve-digests"], &format!("docker://{oci}"), &destination).await;
        let found = blobs(&volume.target);
        assert_eq!(found, blobs(&by_skopeo));
        assert_eq!(found.len(), 4, "a manifest, a config and two layers");
        assert!(found.iter().all(|(name, digest)| name == digest.hex()), "{found:?}");
        let index = std::fs::read(volume.target.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let digest = shop.crane().run(&["digest", &oci]).await.unwrap();
        assert_eq!(index["manifests"][0]["digest"], digest.trim());
        // And another client pushes the volume as it is.
        let again = shop.registry.reference("team/again", "v1");
        shop.crane().run(&["push", volume.target.to_str().unwrap(), &again]).await.unwrap();
        assert_eq!(shop.crane().run(&["digest", &again]).await.unwrap(), digest);
        shop.unpublish(&volume).await;
        shop.unpublish(&tree_too).await;
    });
}
