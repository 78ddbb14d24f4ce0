//! Manifests and indexes: what is read and what is refused.

use serde_json::{Value, json};
use stowage_artifact::{
    Algorithm, Digest, DigestError, Document, Index, MAX_LAYERS, MAX_MANIFEST_BYTES, Manifest, ManifestError,
    media_types,
};

use crate::fixture::{EMPTY, ORAS_CONFIG, digest, layer, manifest_json, parse};

fn refused(json: &Value, content_type: Option<&str>) -> ManifestError {
    Document::parse(json.to_string().as_bytes(), content_type).unwrap_err()
}

fn index_json(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": media_types::OCI_INDEX, "manifests": entries})
}

fn read_manifest(json: &Value, content_type: Option<&str>) -> Manifest {
    match Document::parse(json.to_string().as_bytes(), content_type).unwrap() {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => panic!("read as an index"),
    }
}

fn read_index(json: &Value, content_type: Option<&str>) -> Index {
    match Document::parse(json.to_string().as_bytes(), content_type).unwrap() {
        Document::Index(index) => index,
        Document::Manifest(_) => panic!("read as a manifest"),
    }
}

#[test]
fn an_oci_manifest_is_read_whole() {
    let mut json = manifest_json(
        Some("application/vnd.acme.thing"),
        ORAS_CONFIG,
        &[layer("text/plain", "hello", &[("k", "v")])],
    );
    json["annotations"] = json!({"org.opencontainers.image.created": "2026-01-01T00:00:00Z"});
    json["subject"] = layer(media_types::OCI_MANIFEST, "subject", &[]);
    json["somethingNew"] = json!({"deep": [1, 2, {"x": null}]});
    let manifest = read_manifest(&json, Some(media_types::OCI_MANIFEST));
    assert_eq!(manifest.kind(), "application/vnd.acme.thing");
    assert_eq!(manifest.config.digest.to_string(), EMPTY);
    assert_eq!(manifest.layers[0].annotation("k"), Some("v"));
    assert_eq!(manifest.layers[0].size, 5);
    assert_eq!(manifest.subject.as_ref().unwrap().digest, digest("subject"));
    assert_eq!(manifest.raw(), json.to_string().as_bytes());
    assert_eq!(manifest.descriptor(Algorithm::Sha256).digest, digest(&json.to_string()));
    assert_eq!(manifest.layer_bytes(), 5);
}

#[test]
fn docker_documents_and_documents_without_a_media_type_are_read_too() {
    let mut docker = manifest_json(None, "application/vnd.docker.container.image.v1+json", &[]);
    docker["mediaType"] = json!(media_types::DOCKER_MANIFEST);
    assert_eq!(
        read_manifest(&docker, Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"))
            .kind(),
        "application/vnd.docker.container.image.v1+json"
    );
    let mut list = index_json(&[layer(media_types::DOCKER_MANIFEST, "m", &[])]);
    list["mediaType"] = json!(media_types::DOCKER_LIST);
    assert_eq!(read_index(&list, Some(media_types::DOCKER_LIST)).manifests.len(), 1);

    let mut bare = manifest_json(None, ORAS_CONFIG, &[]);
    bare.as_object_mut().unwrap().remove("mediaType");
    assert_eq!(read_manifest(&bare, None).media_type, None);
    for generic in ["application/json", "application/octet-stream", "text/plain; charset=utf-8", ""] {
        assert_eq!(read_manifest(&bare, Some(generic)).media_type, None, "{generic}");
    }
    assert_eq!(
        read_manifest(&bare, Some(media_types::OCI_MANIFEST)).media_type.as_deref(),
        Some(media_types::OCI_MANIFEST)
    );
    let mut null_layers = bare.clone();
    null_layers["layers"] = Value::Null;
    assert!(read_manifest(&null_layers, None).layers.is_empty());
}

#[test]
fn platforms_of_an_index_are_read_in_one_spelling() {
    let mut entry = layer(media_types::OCI_MANIFEST, "m", &[]);
    entry["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1"});
    entry["artifactType"] = json!("application/vnd.acme.thing");
    let mut without = layer(media_types::OCI_MANIFEST, "n", &[]);
    without["platform"] = json!({});
    let index = read_index(&index_json(&[entry, without]), Some(media_types::OCI_INDEX));
    assert_eq!(index.manifests[0].platform.as_ref().unwrap().to_string(), "linux/arm64");
    assert_eq!(index.manifests[0].artifact_type.as_deref(), Some("application/vnd.acme.thing"));
    assert_eq!(index.manifests[1].platform, None);
}

#[test]
fn a_document_that_lies_about_its_kind_is_refused() {
    let manifest = manifest_json(None, ORAS_CONFIG, &[]);
    let index = index_json(&[]);
    assert!(matches!(refused(&manifest, Some(media_types::OCI_INDEX)), ManifestError::LyingMediaType { .. }));
    assert!(matches!(
        refused(&manifest, Some(media_types::DOCKER_MANIFEST)),
        ManifestError::LyingMediaType { .. }
    ));

    let mut both = manifest.clone();
    both["manifests"] = json!([]);
    assert_eq!(refused(&both, None), ManifestError::BothKinds);
    let mut index_with_config = index.clone();
    index_with_config["config"] = manifest["config"].clone();
    assert_eq!(refused(&index_with_config, None), ManifestError::BothKinds);

    let mut manifest_type = index.clone();
    manifest_type["mediaType"] = json!(media_types::OCI_MANIFEST);
    assert!(matches!(refused(&manifest_type, None), ManifestError::Shape { .. }));
    let mut index_type = manifest.clone();
    index_type["mediaType"] = json!(media_types::OCI_INDEX);
    assert!(matches!(refused(&index_type, None), ManifestError::Shape { .. }));
    let mut untyped = manifest;
    untyped.as_object_mut().unwrap().remove("mediaType");
    assert!(matches!(refused(&untyped, Some(media_types::DOCKER_LIST)), ManifestError::Shape { .. }));
}

#[test]
fn docker_schema_one_is_refused_by_its_name() {
    let v1 = json!({"schemaVersion": 1, "name": "library/x", "tag": "latest", "architecture": "amd64",
        "fsLayers": [{"blobSum": EMPTY}], "history": [{"v1Compatibility": "{}"}], "signatures": []});
    assert_eq!(
        refused(&v1, Some("application/vnd.docker.distribution.manifest.v1+prettyjws")),
        ManifestError::DockerSchemaOne
    );
    assert_eq!(refused(&v1, None), ManifestError::DockerSchemaOne);
    assert!(refused(&v1, None).to_string().contains("schema 1"));
}

#[test]
fn other_documents_are_refused() {
    let parse = |bytes: &[u8]| Document::parse(bytes, None).unwrap_err();
    for text in ["", "{", "[]", "null", "\"x\"", "{}{}", "{\"schemaVersion\":2,\"layers\":7}"] {
        assert!(matches!(parse(text.as_bytes()), ManifestError::Json { .. }), "{text}");
    }
    assert!(matches!(parse(b"\xff\xfe"), ManifestError::Json { .. }));
    let nested = "[".repeat(100_000);
    assert!(matches!(parse(nested.as_bytes()), ManifestError::Json { .. }));
    let twice = r#"{"schemaVersion":2,"layers":[],"layers":[]}"#;
    assert!(matches!(parse(twice.as_bytes()), ManifestError::Json { .. }));

    assert!(matches!(refused(&json!({}), None), ManifestError::SchemaVersion { .. }));
    assert!(matches!(refused(&json!({"schemaVersion": 2.5}), None), ManifestError::SchemaVersion { .. }));
    assert!(matches!(refused(&json!({"schemaVersion": "2"}), None), ManifestError::Json { .. }));
    assert_eq!(refused(&json!({"schemaVersion": 2}), None), ManifestError::NeitherKind);
    assert_eq!(refused(&json!({"schemaVersion": 2, "layers": []}), None), ManifestError::NoConfig);
    let artifact = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []});
    assert!(matches!(refused(&artifact, None), ManifestError::MediaType { .. }));
    assert!(matches!(
        refused(&json!({"schemaVersion": 2}), Some("text/html")),
        ManifestError::MediaType { .. }
    ));
}

#[test]
fn limits_hold_to_the_byte_and_to_the_layer() {
    let json = manifest_json(None, ORAS_CONFIG, &[]).to_string();
    let padded = |length: u64| format!("{json}{}", " ".repeat(length as usize - json.len()));
    assert!(Document::parse(padded(MAX_MANIFEST_BYTES).as_bytes(), None).is_ok());
    let error = Document::parse(padded(MAX_MANIFEST_BYTES + 1).as_bytes(), None).unwrap_err();
    assert_eq!(error, ManifestError::Large { bytes: MAX_MANIFEST_BYTES + 1 });

    let tiny = json!({"mediaType": "a/b", "digest": EMPTY, "size": 2});
    let most = vec![tiny.clone(); MAX_LAYERS];
    assert_eq!(parse(&manifest_json(None, ORAS_CONFIG, &most)).layers.len(), MAX_LAYERS);
    let many = vec![tiny; MAX_LAYERS + 1];
    let expected = ManifestError::Many { field: "layers", count: MAX_LAYERS + 1 };
    assert_eq!(refused(&manifest_json(None, ORAS_CONFIG, &many), None), expected);
    let expected = ManifestError::Many { field: "manifests", count: MAX_LAYERS + 1 };
    assert_eq!(refused(&index_json(&many), None), expected);
}

#[test]
fn sizes_are_whole_numbers_that_add_up() {
    let with_size = |size: &str| {
        let text = manifest_json(None, ORAS_CONFIG, &[layer("a/b", "x", &[])]).to_string();
        Document::parse(text.replace("\"size\":1", &format!("\"size\":{size}")).as_bytes(), None)
    };
    assert!(with_size("0").is_ok());
    assert!(with_size("9223372036854775805").is_ok());
    for bad in ["-1", "1.5", "1e3", "null", "18446744073709551616", "9223372036854775808"] {
        let error = with_size(bad).unwrap_err();
        assert!(
            matches!(&error, ManifestError::Size { field, .. } if field == "layers[0]"),
            "{bad}: {error:?}"
        );
    }
    assert_eq!(with_size("9223372036854775806").unwrap_err(), ManifestError::SizeOverflow);
    let mut missing = manifest_json(None, ORAS_CONFIG, &[layer("a/b", "x", &[])]);
    missing["layers"][0].as_object_mut().unwrap().remove("size");
    assert!(matches!(refused(&missing, None), ManifestError::Size { .. }));
    let mut huge = layer("a/b", "x", &[]);
    huge["size"] = json!(i64::MAX);
    assert_eq!(
        refused(&manifest_json(None, ORAS_CONFIG, &[huge.clone(), huge]), None),
        ManifestError::SizeOverflow
    );
}

#[test]
fn digests_and_media_types_of_descriptors_are_checked() {
    let with = |key: &str, value: &str| {
        let mut bad = layer("a/b", "x", &[]);
        bad[key] = json!(value);
        refused(&manifest_json(None, ORAS_CONFIG, &[bad]), None)
    };
    assert!(matches!(
        with("digest", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ManifestError::Digest { source: DigestError::UnsupportedAlgorithm { .. }, .. }
    ));
    assert!(matches!(with("digest", "sha256:../../x"), ManifestError::Digest { .. }));
    for media_type in ["", "a/b\n", &"x".repeat(256)] {
        assert!(matches!(with("mediaType", media_type), ManifestError::DescriptorType { .. }));
    }
    let mut sha512 = layer("a/b", "x", &[]);
    sha512["digest"] = json!(Digest::of(Algorithm::Sha512, b"x").to_string());
    let manifest = parse(&manifest_json(None, ORAS_CONFIG, &[sha512]));
    assert_eq!(manifest.layers[0].digest.algorithm(), Algorithm::Sha512);
}

#[test]
fn data_is_kept_only_when_it_is_the_blob() {
    let with_data = |data: &str| {
        let mut carried = layer("a/b", "hello", &[]);
        carried["data"] = json!(data);
        carried["urls"] = json!(["https://elsewhere.example/blob"]);
        parse(&manifest_json(None, ORAS_CONFIG, &[carried])).layers.remove(0).data
    };
    assert_eq!(with_data("aGVsbG8=").as_deref(), Some(b"hello".as_slice()));
    for lie in ["aGVsbG9v", "SGVsbG8=", "", "not base64", "aGVsbG8"] {
        assert_eq!(with_data(lie), None, "{lie}");
    }
}
