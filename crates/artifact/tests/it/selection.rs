//! Which manifest of an index is taken.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stowage_artifact::{
    Document, Index, Platform, SelectError, VariantChoice, VolumeAttributes, media_types,
};

use crate::fixture::{digest, layer};

fn entry(name: &str, platform: Option<&str>, annotations: &[(&str, &str)]) -> Value {
    let mut entry = layer(media_types::OCI_MANIFEST, name, annotations);
    if let Some(platform) = platform {
        let parts: Vec<&str> = platform.split('/').collect();
        entry["platform"] = json!({"os": parts[0], "architecture": parts[1]});
        if let Some(variant) = parts.get(2) {
            entry["platform"]["variant"] = json!(variant);
        }
    }
    entry
}

fn index(entries: &[Value]) -> Index {
    let json = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    match Document::parse(json.as_bytes(), None).unwrap() {
        Document::Index(index) => index,
        Document::Manifest(_) => panic!("read as a manifest"),
    }
}

fn select(entries: &[Value], platform: Option<&str>, variant: Option<&str>) -> Result<String, SelectError> {
    let mut map = BTreeMap::from([("reference".to_owned(), "a/b".to_owned())]);
    map.extend(platform.map(|platform| ("platform".to_owned(), platform.to_owned())));
    map.extend(variant.map(|variant| ("variant".to_owned(), variant.to_owned())));
    let wanted = VolumeAttributes::parse(&map).unwrap();
    let node: Platform = "linux/amd64".parse().unwrap();
    let index = index(entries);
    let chosen = index.select(wanted.platform.as_ref(), wanted.variant.as_ref(), &node)?;
    let names = ["a", "b", "c", "d"];
    Ok(names.into_iter().find(|name| digest(name) == chosen.digest).unwrap().to_owned())
}

#[test]
fn the_platform_asked_for_is_taken_else_the_nodes_else_the_only_one() {
    let two = [entry("a", Some("linux/arm64"), &[]), entry("b", Some("linux/amd64"), &[])];
    assert_eq!(select(&two, None, None).unwrap(), "b");
    assert_eq!(select(&two, Some("linux/arm64"), None).unwrap(), "a");
    assert_eq!(select(&two, Some("linux/arm64/v8"), None).unwrap(), "a");
    assert_eq!(select(&[entry("a", Some("linux/s390x"), &[])], None, None).unwrap(), "a");
    assert_eq!(select(&[entry("a", None, &[])], None, None).unwrap(), "a");
    assert_eq!(
        select(&[entry("a", None, &[]), entry("b", Some("linux/amd64"), &[])], None, None).unwrap(),
        "b"
    );
    assert_eq!(select(&[entry("a", None, &[]), entry("a", None, &[])], None, None).unwrap(), "a");
}

#[test]
fn the_best_level_of_the_architecture_is_taken() {
    let levels = [
        entry("a", Some("linux/amd64/v3"), &[]),
        entry("b", Some("linux/amd64"), &[]),
        entry("c", Some("linux/amd64/v2"), &[]),
    ];
    assert_eq!(select(&levels, None, None).unwrap(), "b");
    assert_eq!(select(&levels, Some("linux/amd64/v2"), None).unwrap(), "c");
    assert_eq!(select(&levels, Some("linux/amd64/v4"), None).unwrap(), "a");
}

#[test]
fn a_variant_is_an_annotation_or_an_artifact_type() {
    let mut typed = entry("c", None, &[]);
    typed["artifactType"] = json!("application/vnd.acme.onnx");
    let entries = [
        entry("a", None, &[("org.acme.quant", "q4")]),
        entry("b", None, &[("org.acme.quant", "q8"), ("org.acme.note", "k=v")]),
        typed,
    ];
    assert_eq!(select(&entries, None, Some("org.acme.quant=q8")).unwrap(), "b");
    assert_eq!(select(&entries, None, Some("org.acme.note=k=v")).unwrap(), "b");
    assert_eq!(select(&entries, None, Some("artifactType=application/vnd.acme.onnx")).unwrap(), "c");
}

#[test]
fn a_variant_built_for_several_platforms_is_taken_for_the_nodes() {
    let q4 = [("org.acme.quant", "q4")];
    let entries = [
        entry("a", Some("linux/arm64"), &q4),
        entry("b", Some("linux/amd64"), &q4),
        entry("c", Some("linux/amd64"), &[]),
    ];
    assert_eq!(select(&entries, None, Some("org.acme.quant=q4")).unwrap(), "b");
    assert_eq!(select(&entries, Some("linux/arm64"), Some("org.acme.quant=q4")).unwrap(), "a");
    assert_eq!(select(&entries[..1], None, Some("org.acme.quant=q4")).unwrap(), "a");
}

#[test]
fn attestations_and_unknown_platforms_are_never_taken() {
    let entries = [
        entry("a", Some("unknown/unknown"), &[]),
        entry("b", Some("linux/amd64"), &[("vnd.docker.reference.type", "attestation-manifest")]),
        entry("c", Some("linux/arm64"), &[]),
    ];
    assert_eq!(select(&entries, None, None).unwrap(), "c");
    assert_eq!(select(&entries[..2], None, None).unwrap_err(), SelectError::NoCandidates);
    assert_eq!(select(&[], None, None).unwrap_err(), SelectError::NoCandidates);
}

#[test]
fn an_error_lists_the_choices() {
    let two =
        [entry("a", Some("linux/arm64"), &[]), entry("b", Some("linux/s390x"), &[("org.acme.quant", "q8")])];
    let error = select(&two, None, None).unwrap_err();
    assert!(matches!(error, SelectError::NoMatch { .. }));
    let text = error.to_string();
    for part in ["linux/amd64", "linux/arm64", "linux/s390x", "org.acme.quant=q8"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(matches!(select(&two, Some("windows/amd64"), None), Err(SelectError::NoMatch { .. })));
    assert!(matches!(select(&two[..1], Some("linux/amd64"), None), Err(SelectError::NoMatch { .. })));
    assert!(matches!(select(&two, None, Some("org.acme.quant=q2")), Err(SelectError::NoMatch { .. })));

    let same =
        [entry("a", Some("linux/amd64"), &[("q", "4")]), entry("b", Some("linux/amd64"), &[("q", "8")])];
    let error = select(&same, None, None).unwrap_err();
    assert!(matches!(&error, SelectError::Ambiguous { choices, .. } if choices.len() == 2), "{error}");
    let many: Vec<Value> = (0..500).map(|n| entry(&n.to_string(), None, &[("n", &n.to_string())])).collect();
    let text = select(&many, None, None).unwrap_err().to_string();
    assert!(text.contains("and 480 more") && text.len() < 4000, "{text}");
}

#[test]
fn an_annotation_called_like_the_type_still_counts() {
    let choice = VariantChoice { key: "artifactType".to_owned(), value: "x".to_owned() };
    let index = index(&[entry("a", None, &[("artifactType", "x")]), entry("b", None, &[])]);
    let node = Platform::current();
    assert_eq!(index.select(None, Some(&choice), &node).unwrap().digest, digest("a"));
}
