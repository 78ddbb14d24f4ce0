//! `layout: oci`.

use serde_json::{Value, json};
use stowage_artifact::{Algorithm, Digest, LayoutMode, PlanOptions, media_types, plan};

use crate::fixture::{EMPTY, ORAS_CONFIG, digest, layer, manifest_json, parse, paths};

#[test]
fn an_artifact_becomes_an_image_layout_directory() {
    let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
    let layers =
        [layer(tar, "tar", &[]), layer("a/b+zstd", "zstd", &[("org.opencontainers.image.title", "../x")])];
    let json = manifest_json(Some("application/vnd.acme.thing"), ORAS_CONFIG, &layers);
    let manifest = parse(&json);
    let options = PlanOptions { layout: LayoutMode::Oci, ..PlanOptions::default() };
    let layout = plan(&manifest, None, &options).unwrap().layout;

    let own = digest(&json.to_string());
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let empty: Digest = EMPTY.parse().unwrap();
    let mut expected = vec![blob(&own), blob(&empty), blob(&digest("tar")), blob(&digest("zstd"))];
    expected.sort();
    expected.extend(["index.json".to_owned(), "oci-layout".to_owned()]);
    assert_eq!(paths(&layout), expected);

    for (digest, bytes) in layout.inline() {
        assert_eq!(Digest::of(Algorithm::Sha256, bytes), *digest);
        assert_eq!(layout.blobs()[digest], bytes.len() as u64);
    }
    let fetched: Vec<_> =
        layout.blobs().into_keys().filter(|digest| !layout.inline().contains_key(digest)).collect();
    let mut layers = vec![digest("tar"), digest("zstd")];
    layers.sort();
    assert_eq!(fetched, layers);

    let texts: Vec<Value> =
        layout.inline().values().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect();
    assert!(texts.contains(&json!({"imageLayoutVersion": "1.0.0"})));
    assert!(texts.contains(&json) && texts.contains(&json!({})));
    let index = texts.iter().find(|text| text["manifests"].is_array()).unwrap();
    assert_eq!(
        *index,
        json!({"schemaVersion": 2, "mediaType": media_types::OCI_INDEX, "manifests": [{
            "mediaType": media_types::OCI_MANIFEST, "digest": own.to_string(), "size": json.to_string().len(),
            "artifactType": "application/vnd.acme.thing",
        }]})
    );
}

#[test]
fn a_sha512_layer_has_its_own_directory_and_a_repeated_layer_stands_once() {
    let mut long = layer("a/b", "x", &[]);
    let digest = Digest::of(Algorithm::Sha512, b"x");
    long["digest"] = json!(digest.to_string());
    let manifest = parse(&manifest_json(None, ORAS_CONFIG, &[long.clone(), long]));
    let options = PlanOptions { layout: LayoutMode::Oci, ..PlanOptions::default() };
    let found = paths(&plan(&manifest, None, &options).unwrap().layout);
    assert_eq!(found.iter().filter(|path| **path == format!("blobs/sha512/{}", digest.hex())).count(), 1);
}
