//! A tenant whose own registry lists a stranger's layer and hardly sends it is no brake for the stranger.

use stowage_testkit::artifacts::{Layer, oras_files};
use stowage_testkit::registry::Registry;
use stowage_testkit::{BlobData, Fault, Target};

use super::{ADA, BOB, MIB, PRIVATE, private_registry};
use crate::harness::{LIMIT, digest_of, scene};
use crate::mounts::{Model, in_background};

/// Bytes a second of a registry that wants to be in the way.
const CRAWL: u32 = 1000;

#[test]
fn a_registry_that_crawls_does_not_hold_up_a_shared_download() {
    for size in [MIB / 8, 24 * MIB] {
        scene(async |scene| {
            let honest = private_registry().await;
            let evil = Registry::builder().start().await.unwrap();
            let node = scene.node().registry(&honest).registry(&evil).start().await;
            let model = Model::push(&honest, PRIVATE, "v1", 1, size);
            let copy = Model::push(&evil, "bob/own", "v1", 1, size);
            evil.faults().always(Target::Digest(copy.file.clone()), Fault::Drip(CRAWL.into()));
            let bobs = BOB.request(&node, &evil, &copy.attributes());
            let bob = in_background(&node.plugin(), &bobs);
            assert!(evil.traffic().until(LIMIT, |traffic| traffic.bytes_served(&copy.file) > 0).await);

            let ada = in_background(&node.plugin(), &ADA.request(&node, &honest, &model.attributes()));
            let volume = tokio::time::timeout(LIMIT, ada).await.expect("his registry holds hers up");
            let volume = volume.unwrap().unwrap_or_else(|status| panic!("{status}\n{}", node.log()));
            assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
            bob.abort();
        });
    }
}

#[test]
fn a_lie_about_the_size_does_not_hold_up_the_truth() {
    scene(async |scene| {
        let honest = private_registry().await;
        let evil = Registry::builder().start().await.unwrap();
        let node = scene.node().registry(&honest).registry(&evil).start().await;
        let size = 2 * MIB;
        let model = Model::push(&honest, PRIVATE, "v1", 1, size);
        let longer = BlobData::generated(66, size + 1);
        let layer = Layer::titled("model.bin", longer).declare_digest(model.file.clone());
        let artifact = oras_files::<&str, &str>([]).layer(layer).build().unwrap();
        evil.push("bob/own", Some("v1"), &artifact);
        evil.faults().always(Target::Digest(model.file.clone()), Fault::Drip(CRAWL.into()));
        let reference = evil.reference("bob/own", "v1");
        let bob = in_background(&node.plugin(), &BOB.request(&node, &evil, &[("reference", &reference)]));
        assert!(evil.traffic().until(LIMIT, |traffic| traffic.bytes_served(&model.file) > 0).await);

        let ada = in_background(&node.plugin(), &ADA.request(&node, &honest, &model.attributes()));
        let volume = tokio::time::timeout(LIMIT, ada).await.expect("his lie holds her up");
        let volume = volume.unwrap().unwrap_or_else(|status| panic!("{status}\n{}", node.log()));
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
        bob.abort();
    });
}
