//! OCI image layout directories, written by hand.

use std::path::Path;

use stowage_testkit::{Artifact, artifacts};

/// Writes a layout with one artifact, named by a tag.
pub(crate) fn write(directory: &Path, artifact: &Artifact, tag: &str) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": artifacts::OCI_INDEX,
        "manifests": [{
            "mediaType": artifact.media_type(),
            "digest": artifact.digest().to_string(),
            "size": artifact.manifest().len(),
            "annotations": { "org.opencontainers.image.ref.name": tag },
        }],
    });
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    std::fs::write(blobs.join(artifact.digest().hex()), artifact.manifest()).unwrap();
    for (digest, data) in artifact.blobs() {
        std::fs::write(blobs.join(digest.hex()), data.read_range(0..data.size()).unwrap()).unwrap();
    }
}
