//! Indexes within indexes, up to the depth that `stowage_artifact` sets for the controller too.

use stowage_artifact::{MAX_INDEX_DEPTH, Platform, VolumeAttributes};
use stowage_registry::{PlainHttp, RegistryOptions};
use stowage_testkit::artifacts::{IndexEntry, index, oras_files};
use stowage_testkit::{BlobData, Registry};
use stowage_volumes::{Access, PublishError, inspect};

#[tokio::test]
async fn an_index_within_three_others_is_mounted_and_one_within_four_is_named() {
    let registry = Registry::builder().start().await.unwrap();
    let mut artifact = oras_files([("model.gguf", BlobData::generated(1, 1000))]).build().unwrap();
    let mut digests = Vec::new();
    for number in 0..MAX_INDEX_DEPTH + 2 {
        artifact = index([IndexEntry::new(artifact)]);
        digests.push(registry.push("models/llama", Some(&format!("v{number}")), &artifact));
    }
    let plain_http = PlainHttp { hosts: Vec::new(), loopback: true };
    let options = RegistryOptions { plain_http, ..RegistryOptions::default() };
    let client = stowage_registry::Registry::new(options).unwrap();
    let resolve = async |number: usize| {
        let reference = registry.reference("models/llama", &format!("v{number}")).parse().unwrap();
        inspect(&client, &VolumeAttributes::new(reference), &Access::of(None), &Platform::current()).await
    };
    assert_eq!(resolve(MAX_INDEX_DEPTH).await.unwrap().plan.layout.apparent_bytes(), 1000);
    let error = resolve(MAX_INDEX_DEPTH + 1).await.unwrap_err();
    let PublishError::NestedIndex { depth, digest, .. } = error else { panic!("{error}") };
    assert_eq!((depth, digest), (MAX_INDEX_DEPTH + 1, digests[0].clone()), "the innermost is not followed");
}
