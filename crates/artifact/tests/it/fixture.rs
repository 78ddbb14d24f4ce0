//! Manifests in the JSON that producers write.

use serde_json::{Value, json};
use stowage_artifact::{
    Algorithm, Digest, Document, Layout, LayoutError, Manifest, Plan, PlanOptions, Source, plan,
};

pub(crate) const ORAS_CONFIG: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// The digest of a text, which stands for a blob.
pub(crate) fn digest(content: &str) -> Digest {
    Digest::of(Algorithm::Sha256, content.as_bytes())
}

/// A layer holding `content`.
pub(crate) fn layer(media_type: &str, content: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<String, Value> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({
        "mediaType": media_type,
        "digest": digest(content).to_string(),
        "size": content.len(),
        "annotations": annotations,
    })
}

/// A layer whose content and title are `title`.
pub(crate) fn titled(title: &str) -> Value {
    layer("application/octet-stream", title, &[("org.opencontainers.image.title", title)])
}

pub(crate) fn manifest_json(artifact_type: Option<&str>, config_type: &str, layers: &[Value]) -> Value {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": config_type, "digest": EMPTY, "size": 2},
        "layers": layers,
    });
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = json!(artifact_type);
    }
    manifest
}

pub(crate) fn parse(json: &Value) -> Manifest {
    match Document::parse(json.to_string().as_bytes(), None).unwrap() {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => panic!("an index where a manifest was written"),
    }
}

/// An ORAS artifact of these layers.
pub(crate) fn oras(layers: &[Value]) -> Manifest {
    parse(&manifest_json(Some("application/vnd.acme.thing"), ORAS_CONFIG, layers))
}

pub(crate) fn plan_default(manifest: &Manifest) -> Result<Plan, LayoutError> {
    plan(manifest, None, &PlanOptions::default())
}

/// A layout as text: one `path mode digest` a line, the digest as the content it belongs to.
pub(crate) fn show(layout: &Layout, contents: &[&str]) -> Vec<String> {
    let entries = layout.entries().iter();
    entries
        .map(|(path, entry)| {
            let Source::Raw(found) = &entry.source else { panic!("an unknown source") };
            let content = contents.iter().find(|content| digest(content) == *found).unwrap_or(&"?");
            assert_eq!(entry.size, content.len() as u64, "{path}");
            format!("{path} {:o} {content}", entry.mode)
        })
        .collect()
}

/// The paths of a layout.
pub(crate) fn paths(layout: &Layout) -> Vec<String> {
    layout.entries().keys().map(ToString::to_string).collect()
}
