//! Documents about other artifacts: attestations and bundles.

use serde_json::json;

use super::{ArtifactBuilder, Layer, OCI_EMPTY};

/// In-toto statements as `BuildKit` stores them, one for each predicate (moby/buildkit
/// docs/attestations/attestation-storage.md).
pub fn attestations<'a>(predicates: impl IntoIterator<Item = &'a str>) -> ArtifactBuilder {
    let config = json!({
        "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let builder =
        ArtifactBuilder::new().config("application/vnd.oci.image.config.v1+json", config.to_string());
    predicates.into_iter().fold(builder, |builder, predicate| {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "subject": [], "predicate": {},
        });
        let layer = Layer::new("application/vnd.in-toto+json", statement.to_string());
        builder.layer(layer.annotation("in-toto.io/predicate-type", predicate))
    })
}

/// A Sigstore bundle as `cosign attest` attaches one (sigstore/cosign pkg/oci/remote/write.go, `BundlePredicateType`).
pub fn sigstore_bundle(predicate: &str) -> ArtifactBuilder {
    let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let bundle = json!({ "mediaType": media_type, "verificationMaterial": {}, "dsseEnvelope": {} });
    ArtifactBuilder::new()
        .artifact_type(media_type)
        .config(OCI_EMPTY, "{}")
        .annotation("dev.sigstore.bundle.content", "dsse-envelope")
        .annotation("dev.sigstore.bundle.predicateType", predicate)
        .layer(Layer::new(media_type, bundle.to_string()))
}
