use serde_json::{Value, json};
use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::{self, IndexEntry, ModelFile, OCI_INDEX};
use stowage_testkit::{Artifact, ArtifactBuilder, Layer};

fn manifest(artifact: &Artifact) -> Value {
    serde_json::from_slice(artifact.manifest()).unwrap()
}

#[test]
fn an_oras_artifact_names_its_files_by_title() {
    let artifact = artifacts::oras_files([("a.txt", "one"), ("dir/b.txt", "two")]).build().unwrap();
    let manifest = manifest(&artifact);
    assert_eq!(manifest["layers"][1]["annotations"]["org.opencontainers.image.title"], "dir/b.txt");
    assert_eq!(manifest["layers"][0]["digest"], Digest::of(Algorithm::Sha256, b"one").to_string());
    assert_eq!(manifest["layers"][0]["size"], 3);
    assert_eq!(*artifact.digest(), Digest::of(Algorithm::Sha256, artifact.manifest()));
    assert_eq!(artifact.total_bytes(), "{}onetwo".len() as u64);
}

#[test]
fn a_modelpack_carries_paths_and_file_metadata() {
    let files = [
        ModelFile::new("weight", "w/model.gguf", "GGUF"),
        ModelFile::new("code", "run.sh", "#!/bin/sh").mode(0o755),
    ];
    let manifest = manifest(&artifacts::modelpack("tiny", files).build().unwrap());
    assert_eq!(manifest["artifactType"], "application/vnd.cncf.model.manifest.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.cncf.model.weight.v1.raw");
    assert_eq!(manifest["layers"][0]["annotations"], json!({ "org.cncf.model.filepath": "w/model.gguf" }));
    let metadata =
        manifest["layers"][1]["annotations"]["org.cncf.model.file.metadata+json"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(metadata).unwrap()["mode"], 0o755);
}

#[test]
fn an_index_lists_variants_and_platforms() {
    let one = artifacts::nameless("application/x-one", ["1"]).build().unwrap();
    let two = artifacts::raw_layer([("/a", "2")]).build().unwrap();
    let index = artifacts::index([
        IndexEntry::new(one.clone()).annotation("quantization", "q4"),
        IndexEntry::new(two).platform("linux/arm64/v8").artifact_type("application/x-two"),
    ]);
    let document = manifest(&index);
    assert_eq!(index.media_type(), OCI_INDEX);
    assert_eq!(document["manifests"][0]["digest"], one.digest().to_string());
    assert_eq!(document["manifests"][0]["annotations"]["quantization"], "q4");
    assert_eq!(
        document["manifests"][1]["platform"],
        json!({ "os": "linux", "architecture": "arm64", "variant": "v8" })
    );
    assert_eq!(index.children().len(), 2);
}

#[test]
fn a_hostile_artifact_lies_as_it_is_told() {
    let stranger = Digest::of(Algorithm::Sha512, b"stranger");
    let artifact = ArtifactBuilder::new()
        .layer(Layer::titled("../../etc/cron.d/x", "evil").declare_size(1).declare_digest(stranger.clone()))
        .layer(Layer::titled("gone", "gone").absent())
        .layer(Layer::titled("inline", "abc").inline())
        .edit(|manifest| manifest["manifests"] = json!([]))
        .build()
        .unwrap();
    let manifest = manifest(&artifact);
    assert_eq!(manifest["layers"][0]["size"], 1);
    assert_eq!(manifest["layers"][0]["digest"], stranger.to_string());
    assert_eq!(manifest["layers"][2]["data"], "YWJj");
    assert_eq!(manifest["manifests"], json!([]));
    assert_eq!(artifact.blobs().len(), 3);
}
