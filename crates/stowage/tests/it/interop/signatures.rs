//! What `cosign` attaches: signatures by a key of one's own, without a transparency log.

use serde_json::Value;
use stowage_testkit::BlobData;
use stowage_testkit::tools::Tool;

use super::{Shop, shop, walk};
use crate::harness::digest_of;

/// `cosign` in the home directory, with an empty passphrase.
fn cosign(shop: &Shop) -> Tool {
    let cosign = shop.tools["cosign"].clone().current_dir(&shop.home);
    cosign.env("HOME", &shop.home).env("COSIGN_PASSWORD", "").env("DOCKER_CONFIG", &shop.home)
}

/// Makes a key, and says that there are neither logs nor authorities: `cosign` would ask the internet who they are.
async fn prepare(shop: &Shop) {
    let roots = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
    shop.file("trusted-root.json", &BlobData::from(roots));
    cosign(shop).run(&["generate-key-pair"]).await.unwrap();
    cosign(shop).run(&["signing-config", "create", "--out=signing-config.json"]).await.unwrap();
}

/// Signs or attests the artifact.
async fn attach(shop: &Shop, what: &[&str], subject: &str) {
    let authority = format!("--registry-cacert={}", shop.registry.ca_file().display());
    let offline = [
        "--key=cosign.key",
        "--signing-config=signing-config.json",
        "--trusted-root=trusted-root.json",
        "--yes",
    ];
    let arguments = [what, &offline, &[authority.as_str(), subject]].concat();
    cosign(shop).run(&arguments).await.unwrap();
}

/// Publishes an artifact of one layer; the volume must hold it as this file alone.
async fn holds(shop: &Shop, reference: &str, name: &str) -> Vec<u8> {
    let manifest = shop.manifest(reference).await;
    let (volume, _) = shop.publish(reference).await;
    assert_eq!(walk(&volume.target), [volume.target.join(name)]);
    let file = volume.target.join(name);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["digest"], digest_of(&file).to_string());
    let bytes = std::fs::read(file).unwrap();
    shop.unpublish(&volume).await;
    bytes
}

#[test]
fn signatures_and_attestations_by_cosign_are_files() {
    shop(async |shop| {
        shop.file("model.bin", &BlobData::from("weights"));
        shop.file("predicate.json", &BlobData::from(r#"{"builder":"ada"}"#));
        let reference = shop.oras("team/signed", &["model.bin"]).await;
        let digest = shop.crane().run(&["digest", &reference]).await.unwrap().trim().to_owned();
        let repository = reference.strip_suffix(":v1").unwrap();
        let subject = format!("{repository}@{digest}");
        prepare(shop).await;
        attach(shop, &["sign"], &subject).await;
        let custom = "--type=https://example.com/provenance/v1";
        attach(shop, &["attest", "--predicate=predicate.json", custom], &subject).await;
        // They refer to the artifact; this registry has them listed in an index.
        let index = shop.manifest(&format!("{repository}:{}", digest.replace(':', "-"))).await;
        let mut predicates = Vec::new();
        for bundle in index["manifests"].as_array().unwrap() {
            let reference = format!("{repository}@{}", bundle["digest"].as_str().unwrap());
            let manifest = shop.manifest(&reference).await;
            let predicate = manifest["annotations"]["dev.sigstore.bundle.predicateType"].as_str().unwrap();
            let stem = predicate.strip_prefix("https://").unwrap().replace('/', "-");
            let bytes = holds(shop, &reference, &format!("{stem}.sigstore.json")).await;
            let bundle: Value = serde_json::from_slice(&bytes).unwrap();
            assert!(bundle["dsseEnvelope"]["payload"].is_string(), "{bundle}");
            predicates.push(predicate.to_owned());
        }
        predicates.sort();
        assert_eq!(predicates, ["https://example.com/provenance/v1", "https://sigstore.dev/cosign/sign/v1"]);
    });
}
