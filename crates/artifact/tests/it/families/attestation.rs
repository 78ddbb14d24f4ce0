//! In-toto statements, SBOMs, signatures and Sigstore bundles.
//!
//! `BuildKit`: moby/buildkit docs/attestations/attestation-storage.md. Bundles: sigstore/cosign pkg/oci/remote
//! (`BundlePredicateType`), sigstore/sigstore-go pkg/bundle. Signatures: sigstore/cosign pkg/types/media.go and
//! notaryproject/specifications specs/signature-envelope-jws.md.

use stowage_artifact::{Family, LayoutError};

use crate::fixture::{
    IMAGE_CONFIG, ORAS_CONFIG, TITLE, artifact, assert_lines, layer, manifest_json, parse, paths,
    plan_default, plan_with,
};

const IN_TOTO: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "in-toto.io/predicate-type";

#[test]
fn statements_are_called_after_their_predicates() {
    let statement = |content: &str, predicate: &str| layer(IN_TOTO, content, &[(PREDICATE, predicate)]);
    // BuildKit gives them an image's config.
    let manifest = artifact(
        None,
        IMAGE_CONFIG,
        &[
            statement("p", "https://slsa.dev/provenance/v1"),
            statement("s1", "https://spdx.dev/Document"),
            statement("s2", "https://spdx.dev/Document"),
        ],
    );
    assert_lines(
        plan_default(&manifest),
        &[
            "= attestation",
            "slsa.dev-provenance-v1.json 444 raw p",
            "spdx.dev-Document-1.json 444 raw s1",
            "spdx.dev-Document-2.json 444 raw s2",
        ],
    );
    let one = plan_with(&manifest, &[("include", "slsa*")]).unwrap();
    assert_eq!((paths(&one.layout).len(), one.excluded.len()), (1, 2));
}

#[test]
fn a_bundle_is_called_after_the_predicate_of_its_manifest() {
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let mut json = manifest_json(Some(bundle), ORAS_CONFIG, &[layer(bundle, "b", &[])]);
    assert_lines(plan_default(&parse(&json)), &["= attestation", "bundle.sigstore.json 444 raw b"]);
    json["annotations"] = serde_json::json!({
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1",
    });
    let expected = ["= attestation", "slsa.dev-provenance-v1.sigstore.json 444 raw b"];
    assert_lines(plan_default(&parse(&json)), &expected);
}

#[test]
fn documents_without_a_predicate_are_called_by_their_kind() {
    for (media_type, name) in [
        (IN_TOTO, "statement.json"),
        ("application/vnd.in-toto.bundle", "statement.json"),
        ("application/vnd.dsse.envelope.v1+json", "envelope.json"),
        ("application/vnd.dev.cosign.simplesigning.v1+json", "signature.json"),
        ("application/vnd.cyclonedx+json", "sbom.cdx.json"),
        ("application/vnd.cyclonedx+xml", "sbom.cdx.xml"),
        ("application/vnd.syft+json", "sbom.syft.json"),
        ("application/spdx+json", "sbom.spdx.json"),
        ("text/spdx+json", "sbom.spdx.json"),
        ("text/spdx", "sbom.spdx"),
        ("application/jose+json", "signature.jws.json"),
    ] {
        let one = artifact(None, ORAS_CONFIG, &[layer(media_type, "d", &[])]);
        assert_lines(plan_default(&one), &["= attestation", &format!("{name} 444 raw d")]);
        let named = artifact(None, ORAS_CONFIG, &[layer(media_type, "d", &[(TITLE, "mine.json")])]);
        assert_lines(plan_default(&named), &["= attestation", "mine.json 444 raw d"]);
    }
}

#[test]
fn a_predicate_cannot_lead_out_of_the_volume() {
    for (predicate, name) in [
        ("https://../../../etc/passwd", "etc-passwd.json"),
        ("..", "statement.json"),
        ("/", "statement.json"),
        ("a\0b\nc", "a-b-c.json"),
        ("https://例.example/文", "example.json"),
    ] {
        let manifest = artifact(None, ORAS_CONFIG, &[layer(IN_TOTO, "x", &[(PREDICATE, predicate)])]);
        assert_eq!(paths(&plan_default(&manifest).unwrap().layout), [name], "{predicate:?}");
    }
    let title = artifact(None, ORAS_CONFIG, &[layer(IN_TOTO, "x", &[(TITLE, "../x")])]);
    assert!(matches!(plan_default(&title), Err(LayoutError::Path { .. })));
}

#[test]
fn documents_beside_other_layers_are_an_ordinary_artifact() {
    let layers = [layer(IN_TOTO, "d", &[]), layer("a/b", "x", &[(TITLE, "x")])];
    let plan = plan_default(&artifact(None, ORAS_CONFIG, &layers)).unwrap();
    assert_eq!((plan.family, paths(&plan.layout)), (Family::Oras, vec!["blob.json".into(), "x".into()]));
}
