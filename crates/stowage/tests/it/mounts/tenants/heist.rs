//! Registries and repositories of a tenant's own that list what is a stranger's.

use serde_json::json;
use stowage_artifact::Digest;
use stowage_testkit::artifacts::{Layer, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, oras_files};
use stowage_testkit::registry::{At, Registry};
use stowage_testkit::{BlobData, Fault, Target};
use tonic::{Code, Status};

use super::{ADA, BOB, MIB, PRIVATE, manifest, private_registry, refused, served};
use crate::harness::{Node, scene};
use crate::mounts::{Model, publish};

/// A registry of Bob's own, and the file of Ada's that he is after.
struct Heist<'a> {
    node: &'a Node,
    evil: &'a Registry,
    file: &'a Digest,
    size: u64,
}

impl Heist<'_> {
    /// Publishes a manifest of Bob's that lists the file with this size.
    async fn attempt(&self, size: u64) -> Status {
        let layer =
            Layer::titled("model.bin", "").declare_digest(self.file.clone()).declare_size(size).absent();
        let artifact = oras_files::<&str, &str>([]).layer(layer).build().unwrap();
        let reference = self.evil.pinned("bob/own", &self.evil.push("bob/own", None, &artifact));
        let request = BOB.request(self.node, self.evil, &[("reference", &reference)]);
        refused(self.node, &request).await
    }

    /// What he tries must not work, and must not make the honest question work afterwards.
    async fn fails(&self, name: &str, size: u64) {
        let status = self.attempt(size).await;
        if size == self.size {
            assert_eq!(status.code(), Code::PermissionDenied, "{name}: {status}");
            assert!(status.message().contains(self.file.hex()), "{name}: {status}");
        }
        self.evil.faults().clear();
        self.evil.delete_blob("bob/own", self.file);
        self.evil.faults().always(Target::Digest(self.file.clone()), Fault::YesToHead(self.size));
        let status = self.attempt(self.size).await;
        assert_eq!(status.code(), Code::PermissionDenied, "after {name}: {status}");
    }
}

#[test]
fn a_registry_of_the_tenants_own_gains_nothing_by_listing_a_strangers_blob() {
    scene(async |scene| {
        let honest = private_registry().await;
        let evil = Registry::builder().start().await.unwrap();
        let node = scene.node().registry(&honest).registry(&evil).start().await;
        // Read whole as a proof, and sampled.
        for (tag, seed, size) in [("small", 1, MIB / 2), ("large", 2, 3 * MIB)] {
            let model = Model::push(&honest, PRIVATE, tag, seed, size);
            served(&node, &ADA.request(&node, &honest, &model.attributes()), &model).await;
            let heist = Heist { node: &node, evil: &evil, file: &model.file, size };
            let file = || Target::Digest(model.file.clone());

            evil.faults().always(file(), Fault::YesToHead(size));
            heist.fails("yes-to-head", size).await;
            assert_eq!(evil.bytes_served(&model.file), 0);

            // Other bytes under the digest, of the right size.
            evil.put_blob("bob/own", &model.file, BlobData::generated(99, size));
            heist.fails("other-bytes", size).await;
            // The right bytes, but for one.
            evil.put_blob("bob/own", &model.file, BlobData::generated(seed, size));
            evil.faults().clear();
            for at in (0..size).step_by(32 << 10) {
                evil.faults().always(file(), Fault::Corrupt(At::Blob(at)));
            }
            let status = heist.attempt(size).await;
            assert_eq!(status.code(), Code::PermissionDenied, "{status}");
            evil.delete_blob("bob/own", &model.file);
            evil.faults().clear();

            // Sizes that are lies: nothing, or next to nothing, is left to be shown.
            heist.fails("no-size", 0).await;
            let known = BlobData::generated(seed, size).read_range(0..4).unwrap();
            evil.put_blob("bob/own", &model.file, known.clone());
            heist.fails("a-known-beginning", known.len() as u64).await;
            heist.fails("larger", size + 1).await;
            // Pointed at the registry that has it: the node asks there without Ada's secret.
            let there = format!("{}/v2/{PRIVATE}/blobs/{}", honest.origin(), model.file);
            evil.faults().always(file(), Fault::Redirect(there));
            let asked = honest.traffic().requests().len();
            let status = heist.attempt(size).await;
            assert_ne!(status.code(), Code::Ok, "{status}");
            let later = honest.traffic().requests().split_off(asked);
            assert!(later.iter().all(|request| request.header("authorization").is_none()), "{later:?}");
            evil.faults().clear();
        }
        node.nothing_left().await;
    });
}

#[test]
fn a_repository_of_the_tenants_own_at_the_same_registry_gains_nothing_either() {
    scene(async |scene| {
        let registry = private_registry().await;
        let node = scene.node().registry(&registry).start().await;
        let model = Model::push(&registry, PRIVATE, "v1", 1, 2 * MIB);
        served(&node, &ADA.request(&node, &registry, &model.attributes()), &model).await;
        // The registry has delivered the bytes, so its word counts; and its word is that they are not in Bob's repository.
        let heist = Heist { node: &node, evil: &registry, file: &model.file, size: 2 * MIB };
        for _ in 0..2 {
            let status = heist.attempt(2 * MIB).await;
            assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        }
        node.nothing_left().await;
    });
}

#[test]
fn a_strangers_config_or_manifest_is_no_way_in_either() {
    scene(async |scene| {
        let honest = private_registry().await;
        let evil = Registry::builder().start().await.unwrap();
        let node = scene.node().registry(&honest).registry(&evil).start().await;
        let model = Model::push(&honest, PRIVATE, "v1", 1, MIB);
        served(&node, &ADA.request(&node, &honest, &model.attributes()), &model).await;

        // By the manifest's digest at a host of one's own, which does not have it.
        let pinned = evil.pinned("bob/own", &manifest(&honest));
        for policy in ["IfNotPresent", "Never"] {
            let request = BOB.request(&node, &evil, &[("reference", &pinned), ("pullPolicy", policy)]);
            let status = refused(&node, &request).await;
            assert!(matches!(status.code(), Code::NotFound | Code::PermissionDenied), "{policy}: {status}");
        }
        // Ada's manifest in an index of Bob's.
        let index = json!({
            "schemaVersion": 2, "mediaType": OCI_INDEX,
            "manifests": [{ "mediaType": OCI_MANIFEST, "size": 100,
                "digest": manifest(&honest).to_string() }],
        });
        evil.put_manifest("bob/own", Some("index"), OCI_INDEX, index.to_string().into());
        let reference = evil.reference("bob/own", "index");
        let status = refused(&node, &BOB.request(&node, &evil, &[("reference", &reference)])).await;
        assert_eq!(status.code(), Code::NotFound, "{status}");
        // Ada's file as the config of a manifest of Bob's, beside a layer that he has.
        let artifact = oras_files([("own", "bob's")]).edit({
            let file = model.file.to_string();
            move |manifest| {
                manifest["config"] = json!({ "mediaType": OCI_EMPTY, "digest": file, "size": MIB });
            }
        });
        evil.push("bob/own", Some("config"), &artifact.build().unwrap());
        let reference = evil.reference("bob/own", "config");
        let volume = publish(&node, &BOB.request(&node, &evil, &[("reference", &reference)])).await;
        let names: Vec<_> =
            std::fs::read_dir(&volume.target).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["own"]);
        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;
    });
}
