//! `layout: oci`.

use serde_json::{Value, json};
use stowage_artifact::{
    Algorithm, Descriptor, Digest, LayoutMode, PlanOptions, media_types, needs_config, plan,
};

use crate::fixture::{
    DOCKER_CONFIG, EMPTY, IMAGE_CONFIG, ORAS_CONFIG, digest, layer, manifest_json, options, parse, paths,
    plan_with,
};

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

#[test]
fn every_family_has_the_same_image_layout() {
    let families: [(&str, &str, &[&str]); 7] = [
        (IMAGE_CONFIG, "image", &["application/vnd.oci.image.layer.v1.tar+gzip"]),
        (
            "application/vnd.cncf.helm.config.v1+json",
            "helm",
            &["application/vnd.cncf.helm.chart.content.v1.tar+gzip"],
        ),
        (
            "application/vnd.kitops.modelkit.config.v1+json",
            "kitops",
            &["application/vnd.kitops.modelkit.model.v1.tar"],
        ),
        (
            DOCKER_CONFIG,
            "ollama",
            &["application/vnd.ollama.image.model", "application/vnd.ollama.image.license"],
        ),
        (
            "application/vnd.cncf.model.config.v1+json",
            "modelpack",
            &["application/vnd.cncf.model.weight.v1.tar"],
        ),
        (ORAS_CONFIG, "attestation", &["application/vnd.in-toto+json"]),
        (ORAS_CONFIG, "oras", &["application/vnd.erofs.layer.v1", "a/b+zstd"]),
    ];
    for (config, family, types) in families {
        let layers: Vec<Value> = types.iter().map(|media_type| layer(media_type, media_type, &[])).collect();
        let manifest = parse(&manifest_json(None, config, &layers));
        let attributes = [("layout", "oci"), ("tar", "reject")];
        assert!(!needs_config(&manifest, &options(&attributes)), "{family}");
        let plan = plan_with(&manifest, &attributes).unwrap();
        assert_eq!(plan.family.as_str(), family);
        // The manifest, the config, each layer as it is; `index.json` and `oci-layout`.
        assert_eq!(plan.layout.entries().len(), types.len() + 4, "{family}");
        assert!(plan.layout.is_plain() && plan.notes.is_empty() && plan.excluded.is_empty());
        for media_type in types {
            let path = format!("blobs/sha256/{}", digest(media_type).hex());
            assert!(plan.layout.entries().contains_key(&path.parse().unwrap()), "{family}");
        }
    }
}

#[test]
fn a_manifest_from_an_index_keeps_what_the_index_said_of_it() {
    let manifest = parse(&manifest_json(None, ORAS_CONFIG, &[layer("a/b", "x", &[])]));
    let sha512 = Digest::of(Algorithm::Sha512, manifest.raw());
    let mut entry = Descriptor::new(media_types::OCI_MANIFEST, sha512.clone(), manifest.raw().len() as u64);
    entry.platform = Some("linux/arm/v6".parse().unwrap());
    entry.annotations.insert("org.acme.quant".to_owned(), "q4".to_owned());
    let options = PlanOptions { layout: LayoutMode::Oci, index_entry: Some(entry), ..PlanOptions::default() };
    let layout = plan(&manifest, None, &options).unwrap().layout;
    assert!(paths(&layout).contains(&format!("blobs/sha512/{}", sha512.hex())));
    let index = &layout.entries()[&"index.json".parse().unwrap()];
    let index: Value = serde_json::from_slice(&layout.inline()[index.source.blob()]).unwrap();
    assert_eq!(
        index["manifests"],
        json!([{
            "mediaType": media_types::OCI_MANIFEST, "digest": sha512.to_string(), "size": manifest.raw().len(),
            "annotations": {"org.acme.quant": "q4"},
            "platform": {"architecture": "arm", "os": "linux", "variant": "v6"},
        }])
    );
}
