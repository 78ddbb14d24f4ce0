//! Manifests in the JSON that producers write, and plans as text.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};
use stowage_artifact::{
    Algorithm, Codec, Digest, Document, Layout, LayoutError, Manifest, Plan, PlanOptions, Source,
    SpecialPolicy, SymlinkPolicy, TarLayer, VolumeAttributes, plan,
};

pub(crate) const ORAS_CONFIG: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
pub(crate) const FILEPATH: &str = "org.cncf.model.filepath";
pub(crate) const UNPACK: &str = "io.deis.oras.content.unpack";
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// An annotation or an attribute.
pub(crate) type Pair<'a> = (&'a str, &'a str);

/// What the digests of this process stand for.
static CONTENTS: Mutex<BTreeMap<Digest, String>> = Mutex::new(BTreeMap::new());

/// The digest of a text, which stands for a blob.
pub(crate) fn digest(content: &str) -> Digest {
    let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
    CONTENTS.lock().unwrap().insert(digest.clone(), content.to_owned());
    digest
}

/// The text that a digest stands for.
fn content(digest: &Digest) -> String {
    CONTENTS.lock().unwrap().get(digest).cloned().unwrap_or_else(|| format!("an unknown blob {digest}"))
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
    layer("application/octet-stream", title, &[(TITLE, title)])
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

/// An artifact of these layers whose config is `{}`.
pub(crate) fn artifact(artifact_type: Option<&str>, config_type: &str, layers: &[Value]) -> Manifest {
    parse(&manifest_json(artifact_type, config_type, layers))
}

/// The same with another config blob.
pub(crate) fn artifact_with(
    artifact_type: Option<&str>,
    config_type: &str,
    config: &str,
    layers: &[Value],
) -> Manifest {
    let mut json = manifest_json(artifact_type, config_type, layers);
    json["config"]["digest"] = json!(digest(config).to_string());
    json["config"]["size"] = json!(config.len());
    parse(&json)
}

/// An ORAS artifact of these layers.
pub(crate) fn oras(layers: &[Value]) -> Manifest {
    artifact(Some("application/vnd.acme.thing"), ORAS_CONFIG, layers)
}

pub(crate) fn options(pairs: &[Pair<'_>]) -> PlanOptions {
    let mut map = BTreeMap::from([("reference".to_owned(), "a/b".to_owned())]);
    map.extend(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    PlanOptions::from(&VolumeAttributes::parse(&map).unwrap())
}

pub(crate) fn plan_default(manifest: &Manifest) -> Result<Plan, LayoutError> {
    plan(manifest, None, &PlanOptions::default())
}

pub(crate) fn plan_with(manifest: &Manifest, pairs: &[Pair<'_>]) -> Result<Plan, LayoutError> {
    plan(manifest, None, &options(pairs))
}

/// The plan of an artifact whose config blob is at hand.
pub(crate) fn plan_config(
    manifest: &Manifest,
    config: &str,
    pairs: &[Pair<'_>],
) -> Result<Plan, LayoutError> {
    plan(manifest, Some(config.as_bytes()), &options(pairs))
}

/// The files of a layout that are blobs as they are: one `path mode content` a line.
pub(crate) fn show(layout: &Layout) -> Vec<String> {
    let entries = layout.entries().iter();
    entries
        .map(|(path, entry)| {
            let Source::Raw(found) = &entry.source else { panic!("{path} is decoded") };
            let content = content(found);
            assert_eq!(entry.size, content.len() as u64, "{path}");
            format!("{path} {:o} {content}", entry.mode)
        })
        .collect()
}

/// Everything that a plan says, one thing a line:
///
/// - `= family`
/// - `path mode kind content`, with `plain:` and `bytes:` where the artifact claims what a blob decodes to
/// - `tar content`, its codec, where its members go, and `files` or `image` for what they may be
/// - `mount content kind`, with its codec
/// - `- path` for what is left out
/// - `# note`
pub(crate) fn lines(plan: &Plan) -> Vec<String> {
    let Plan { family, layout, excluded, notes } = plan;
    let mut lines = vec![format!("= {family}")];
    for (path, entry) in layout.entries() {
        let mut line =
            format!("{path} {:o} {} {}", entry.mode, entry.source.kind(), content(entry.source.blob()));
        if let Source::Decoded(decoded) = &entry.source {
            line += &plain(decoded.plain.as_ref());
            line.extend(decoded.plain_size.map(|bytes| format!(" bytes:{bytes}")));
        }
        lines.push(line);
    }
    lines.extend(layout.tars().iter().map(tar_line));
    for layer in layout.filesystems() {
        let codec = suffix(layer.codec);
        let plain = plain(layer.plain.as_ref());
        lines.push(format!("mount {} {}{codec}{plain}", content(&layer.digest), layer.kind));
    }
    lines.extend(excluded.iter().map(|excluded| format!("- {}", excluded.path)));
    lines.extend(notes.iter().map(|note| format!("# {note}")));
    lines
}

fn tar_line(tar: &TarLayer) -> String {
    let mut line = format!("tar {}{}", content(&tar.digest), suffix(tar.codec));
    for (name, path) in [("at", &tar.at), ("within", &tar.within), ("fallback", &tar.fallback)] {
        if let Some(path) = path {
            line.extend([" ", name, ":", path.as_str()]);
        }
    }
    line += &plain(tar.plain.as_ref());
    line + match (tar.whiteouts, tar.symlinks, tar.specials) {
        (true, SymlinkPolicy::Verbatim, SpecialPolicy::Skip) => " image",
        (false, SymlinkPolicy::Inside, SpecialPolicy::Refuse) => " files",
        _ => " with odd policies",
    }
}

fn suffix(codec: Option<Codec>) -> String {
    codec.map_or(String::new(), |codec| format!("+{codec}"))
}

fn plain(digest: Option<&Digest>) -> String {
    digest.map_or(String::new(), |digest| format!(" plain:{}", content(digest)))
}

/// The paths of a layout.
pub(crate) fn paths(layout: &Layout) -> Vec<String> {
    layout.entries().keys().map(ToString::to_string).collect()
}

/// Asserts everything that a plan says; see [`lines`].
#[track_caller]
pub(crate) fn assert_lines(plan: Result<Plan, LayoutError>, expected: &[&str]) {
    match plan {
        Ok(plan) => assert_eq!(lines(&plan), expected),
        Err(error) => panic!("{error}"),
    }
}

/// Asserts the sentence of an error.
#[track_caller]
pub(crate) fn assert_refused(plan: Result<Plan, LayoutError>, expected: &str) {
    match plan {
        Ok(plan) => panic!("{:#?}", lines(&plan)),
        Err(error) => assert_eq!(error.to_string(), expected),
    }
}
