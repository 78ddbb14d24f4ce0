//! The manifests in the guides are what Kubernetes and Stowage read: every YAML block is parsed, so that none can rot.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Secret};
use k8s_openapi::api::storage::v1::StorageClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stowage_artifact::VolumeAttributes;

const DRIVER: &str = "csi.stowage.dev";
/// The fields of a `CachedArtifact`'s spec.
const CACHED_ARTIFACT: [&str; 7] = [
    "volumeAttributes",
    "pullSecretRef",
    "resolveInterval",
    "nodeSelector",
    "tolerations",
    "resources",
    "maxConcurrentNodes",
];
/// The parameters of a StorageClass that are no volume attributes.
const CLASS_ONLY: [&str; 1] = ["allowedReferences"];

/// The sections of a node's or the controller's configuration.
const CONFIGURATION: [&str; 8] =
    ["registries", "mirrors", "credentials", "limits", "store", "tars", "policy", "telemetry"];

/// A block of a page, and where it is.
struct Block {
    place: String,
    language: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The keys at the top of the chart's values.
fn values() -> BTreeSet<String> {
    let schema = std::fs::read_to_string(root().join("charts/stowage/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

/// Every page whose manifests people copy.
fn pages() -> Vec<PathBuf> {
    let guides = root().join("docs/guides");
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(guides).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|end| end == "md"));
    pages.extend(["README.md", "docs/reference/attributes.md"].map(|page| root().join(page)));
    pages.sort();
    pages
}

/// The fenced blocks of a page.
fn blocks(page: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(page).unwrap();
    let name = page.file_name().unwrap().to_str().unwrap();
    let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (index, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(language), None) => {
                let place = format!("{name}:{}", index + 1);
                open = Some(Block { place, language: language.trim().to_owned(), text: String::new() });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{name} has a block without an end");
    blocks
}

fn of_language(language: &str) -> Vec<Block> {
    let all = pages().into_iter().flat_map(|page| blocks(&page));
    all.filter(|block| block.language == language).collect()
}

/// Reads a document as a type of Kubernetes, which must know every field of it.
fn known<T: DeserializeOwned + Serialize>(document: &Value) -> Result<(), String> {
    let typed: T = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    unknown(document, &serde_json::to_value(typed).unwrap(), "")
}

/// Fails with the first field that was written and not understood.
fn unknown(written: &Value, understood: &Value, path: &str) -> Result<(), String> {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                let below = format!("{path}.{key}");
                match understood.get(key) {
                    Some(other) => unknown(value, other, &below)?,
                    // Empty lists and objects are left out when they are written.
                    None if is_empty(value) => {}
                    None => return Err(format!("Kubernetes has no field {below}")),
                }
            }
            Ok(())
        }
        (Value::Array(written), Value::Array(understood)) => {
            let mut pairs = written.iter().zip(understood).enumerate();
            pairs.try_for_each(|(index, (one, other))| unknown(one, other, &format!("{path}[{index}]")))
        }
        _ => Ok(()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn attributes(value: &Value) -> Result<(), String> {
    let attributes: BTreeMap<String, String> =
        serde_json::from_value(value.clone()).map_err(|error| format!("attributes are strings: {error}"))?;
    VolumeAttributes::parse(&attributes).map(drop).map_err(|error| error.to_string())
}

/// Checks every volume of ours beneath a value, wherever it is.
fn our_volumes(value: &Value) -> Result<(), String> {
    match value {
        Value::Object(fields) => {
            if fields.get("driver").is_some_and(|driver| driver == DRIVER) {
                attributes(&value["volumeAttributes"])?;
                if value["readOnly"] != true {
                    return Err("an example without `readOnly: true`".to_owned());
                }
            }
            fields.values().try_for_each(our_volumes)
        }
        Value::Array(items) => items.iter().try_for_each(our_volumes),
        _ => Ok(()),
    }
}

fn cached_artifact(document: &Value) -> Result<(), String> {
    let spec = document["spec"].as_object().ok_or("no spec")?;
    if let Some(stranger) = spec.keys().find(|key| !CACHED_ARTIFACT.contains(&key.as_str())) {
        return Err(format!("a CachedArtifact has no field {stranger}"));
    }
    // What is as in a pod is checked as in a pod.
    let scheduling = json!({
        "containers": [],
        "nodeSelector": document["spec"]["nodeSelector"],
        "tolerations": document["spec"]["tolerations"],
    });
    known::<PodSpec>(&scheduling)?;
    attributes(&document["spec"]["volumeAttributes"])
}

fn storage_class(document: &Value) -> Result<(), String> {
    known::<StorageClass>(document)?;
    if document["provisioner"] != DRIVER {
        return Ok(());
    }
    let mut parameters = document["parameters"].clone();
    if let Some(fields) = parameters.as_object_mut() {
        fields
            .retain(|key, _| !CLASS_ONLY.contains(&key.as_str()) && !key.starts_with("csi.storage.k8s.io/"));
        // What the controller fills in stands for a word of a reference.
        for value in
            fields.values_mut().filter(|value| value.as_str().is_some_and(|text| text.contains("${")))
        {
            *value = json!("registry.example.com/filled/in:v1");
        }
    }
    attributes(&parameters)
}

/// A piece of a manifest, as it stands in running text.
fn fragment(document: &Value) -> Result<(), String> {
    let Some(fields) = document.as_object() else { return Err("no object".to_owned()) };
    let only = |keys: &[&str]| fields.keys().all(|key| keys.contains(&key.as_str()));
    if only(&["volumes"]) {
        return known::<PodSpec>(&json!({ "containers": [], "volumes": document["volumes"] }));
    }
    if only(&["volumeAttributes"]) {
        return attributes(&document["volumeAttributes"]);
    }
    // Attributes by themselves, which need a reference to be read.
    if fields.keys().all(|key| VolumeAttributes::KEYS.contains(&key.as_str())) {
        let mut whole = document.clone();
        whole["reference"] = json!("registry.example.com/a:v1");
        return attributes(&whole);
    }
    // Values of the chart and sections of a configuration, which their own schemas check.
    let values = values();
    if fields.keys().all(|key| values.contains(key)) || only(&CONFIGURATION) {
        return Ok(());
    }
    Err("neither a manifest nor a piece of one that this test knows: teach it".to_owned())
}

fn check(document: &Value) -> Result<(), String> {
    our_volumes(document)?;
    match document["kind"].as_str() {
        Some("Pod") => known::<Pod>(document),
        Some("Deployment") => known::<Deployment>(document),
        Some("PersistentVolume") => known::<PersistentVolume>(document),
        Some("PersistentVolumeClaim") => known::<PersistentVolumeClaim>(document),
        Some("Secret") => known::<Secret>(document),
        Some("StorageClass") => storage_class(document),
        Some("CachedArtifact") => cached_artifact(document),
        // Not ours to describe here; that it is YAML is known by now.
        Some(_) => Ok(()),
        None => fragment(document),
    }
}

#[test]
fn every_manifest_in_the_guides_is_understood_field_by_field() {
    let mut wrong = Vec::new();
    let blocks = of_language("yaml");
    for block in &blocks {
        let documents: Vec<Value> = match serde_saphyr::from_multiple(&block.text) {
            Ok(documents) => documents,
            Err(error) => {
                wrong.push(format!("{}: no YAML: {error}", block.place));
                continue;
            }
        };
        assert!(!documents.is_empty(), "{}: nothing in it", block.place);
        let errors = documents.iter().filter_map(|document| check(document).err());
        wrong.extend(errors.map(|error| format!("{}: {error}", block.place)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(blocks.len() > 15, "only {} blocks were found", blocks.len());
}

#[test]
fn every_hosts_file_in_the_guides_is_toml() {
    let blocks = of_language("toml");
    for block in &blocks {
        if let Err(error) = toml::de::DeTable::parse(&block.text) {
            panic!("{}: {error}", block.place);
        }
    }
    assert!(blocks.len() > 3, "only {} blocks were found", blocks.len());
}

#[test]
fn a_misspelt_field_a_wrong_attribute_and_a_writable_example_are_found() {
    let pod = |volume: Value| {
        json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "a" },
            "spec": { "containers": [], "volumes": [{ "name": "v", "csi": volume }] },
        })
    };
    let fine =
        json!({ "driver": DRIVER, "readOnly": true, "volumeAttributes": { "reference": "a.io/b:v1" } });
    assert_eq!(check(&pod(fine.clone())), Ok(()));
    let with = |key: &str, value: Value| {
        let mut changed = fine.clone();
        changed[key] = value;
        check(&pod(changed)).unwrap_err()
    };
    assert!(with("readonly", json!(true)).contains("no field .spec.volumes[0].csi.readonly"));
    assert!(with("readOnly", json!(false)).contains("readOnly: true"));
    assert!(with("volumeAttributes", json!({ "reference": "a.io/b", "includes": "*" })).contains("includes"));
    let cart = json!({ "kind": "CachedArtifact", "spec": { "volumeAttributes": {}, "interval": "1m" } });
    assert!(check(&cart).unwrap_err().contains("no field interval"));
}
