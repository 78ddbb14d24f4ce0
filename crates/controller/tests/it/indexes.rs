//! Sizes of indexes: how much of them is read, and whose entries count.

use stowage_artifact::MAX_INDEX_DEPTH;
use stowage_testkit::artifacts::{Artifact, IndexEntry, index, oras_files};
use stowage_testkit::{BlobData, Registry, Target};
use tonic::Code;

use crate::plugin::{Builder, request};

fn model(seed: u64, size: u64) -> Artifact {
    oras_files([("model.gguf", BlobData::generated(seed, size))]).build().unwrap()
}

/// The size that a volume of this artifact is given, or the code and the message.
async fn size(registry: &Registry, artifact: &Artifact) -> Result<i64, (Code, String)> {
    registry.push("models/llama", Some("v1"), artifact);
    let plugin = Builder::default().start().await;
    let reference = registry.reference("models/llama", "v1");
    plugin.create(request("pvc-1", &[("reference", &*reference)])).await.map(|made| made.capacity_bytes)
}

fn manifests(registry: &Registry) -> usize {
    registry.traffic().count(|request| request.method == "GET" && request.path.contains("/manifests/"))
}

#[tokio::test]
async fn an_index_within_three_others_is_sized_and_one_within_four_is_refused() {
    let registry = Registry::builder().start().await.unwrap();
    let mut artifact = model(1, 1000);
    for _ in 0..=MAX_INDEX_DEPTH {
        artifact = index([IndexEntry::new(artifact)]);
    }
    assert_eq!(size(&registry, &artifact).await, Ok(1000));
    let (code, message) = size(&registry, &index([IndexEntry::new(artifact)])).await.unwrap_err();
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("through 4 indexes to yet another"), "{message}");
}

/// An index of sixteen others, whose entries are all of one kind of platform that is not this machine's.
fn wide(children: impl Fn(u64) -> Artifact) -> Artifact {
    index((0..16).map(|number| IndexEntry::new(children(number)).platform("linux/s390x")))
}

#[tokio::test]
async fn a_document_is_read_once_however_often_it_is_named() {
    let registry = Registry::builder().start().await.unwrap();
    let inner = index([
        IndexEntry::new(model(1, 1000)).platform("linux/s390x"),
        IndexEntry::new(model(2, 2000)).platform("linux/s390x"),
    ]);
    let other = index([
        IndexEntry::new(model(1, 1000)).platform("linux/s390x"),
        IndexEntry::new(model(2, 2000)).platform("linux/riscv64"),
    ]);
    let twice = index([
        IndexEntry::new(inner).platform("linux/s390x"),
        IndexEntry::new(other).platform("linux/s390x"),
    ]);
    assert_eq!(size(&registry, &twice).await, Ok(2000));
    assert_eq!(manifests(&registry), 5, "two manifests, and three indexes");
}

#[tokio::test]
async fn one_reference_makes_a_bounded_number_of_requests() {
    let registry = Registry::builder().start().await.unwrap();
    let many = wide(|outer| wide(|inner| model(outer * 100 + inner, 1000 + outer * 100 + inner)));
    // The first of the inner indexes has sixteen manifests, the second twelve that are still read.
    assert_eq!(size(&registry, &many).await, Ok(1000 + 100 + 12));
    assert!(manifests(&registry) <= 33, "{}", manifests(&registry));
}

#[tokio::test]
async fn entries_that_the_registry_does_not_have_are_the_business_of_nodes_that_want_them() {
    let registry = Registry::builder().start().await.unwrap();
    let missing = model(1, 9000);
    let both = index([
        IndexEntry::new(missing.clone()).platform("linux/s390x"),
        IndexEntry::new(model(2, 5000)).platform("linux/riscv64"),
    ]);
    registry.push("models/llama", Some("v1"), &both);
    let digest = missing.digest().clone();
    registry.faults().always(Target::Digest(digest), stowage_testkit::Fault::status(404));
    assert_eq!(size(&registry, &both).await, Ok(5000));
}

#[tokio::test]
async fn what_is_ambiguous_for_this_machine_is_as_large_as_its_largest_manifest() {
    let registry = Registry::builder().start().await.unwrap();
    let platform = stowage_artifact::Platform::current().to_string();
    let both = index([
        IndexEntry::new(model(1, 1000)).platform(&platform).annotation("quant", "q4"),
        IndexEntry::new(model(2, 3000)).platform(&platform).annotation("quant", "q8"),
    ]);
    assert_eq!(size(&registry, &both).await, Ok(3000));
}

#[tokio::test]
async fn an_index_without_this_machines_platform_is_as_large_as_its_largest_manifest() {
    let registry = Registry::builder().start().await.unwrap();
    let both = index([
        IndexEntry::new(model(1, 1000)).platform("linux/s390x"),
        IndexEntry::new(model(2, 5000)).platform("linux/riscv64"),
    ]);
    let digest = registry.push("models/llama", Some("v1"), &both);
    let plugin = Builder::default().start().await;
    let reference = registry.reference("models/llama", "v1");
    let volume = plugin.create(request("pvc-1", &[("reference", &*reference)])).await.unwrap();
    assert_eq!(volume.capacity_bytes, 5000);
    assert_eq!(volume.volume_context["reference"], registry.pinned("models/llama", &digest));
    let chosen = [("reference", &*reference), ("platform", "linux/s390x")];
    assert_eq!(plugin.create(request("pvc-2", &chosen)).await.unwrap().capacity_bytes, 1000);
    let neither = [("reference", &*reference), ("platform", "linux/arm64")];
    assert_eq!(plugin.create(request("pvc-3", &neither)).await.unwrap_err().0, Code::InvalidArgument);
}
