//! Every reason why an artifact cannot become a volume, once, with the sentence that a person reads.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stowage_artifact::{Digest, LayoutError, LayoutMode, Manifest, Plan, PlanOptions, plan};

use crate::fixture::{
    DOCKER_CONFIG, IMAGE_CONFIG, ORAS_CONFIG, TAR, TAR_GZIP, TITLE, UNPACK, artifact, artifact_with, digest,
    layer, oras, plan_config, plan_default, plan_with, titled,
};

/// The name of a variant. A new one does not compile until it stands here, and then has to be shown below.
fn name_of(error: &LayoutError) -> &'static str {
    use LayoutError as E;
    match error {
        E::Path { .. } => "Path",
        E::Named { .. } => "Named",
        E::Name { .. } => "Name",
        E::SamePath { .. } => "SamePath",
        E::FileIsDirectory { .. } => "FileIsDirectory",
        E::SizesDiffer { .. } => "SizesDiffer",
        E::ManyCopies { .. } => "ManyCopies",
        E::TarRejected { .. } => "TarRejected",
        E::FilesystemLayer { .. } => "FilesystemLayer",
        E::MixedLayers { .. } => "MixedLayers",
        E::FilteredFilesystem { .. } => "FilteredFilesystem",
        E::Encrypted { .. } => "Encrypted",
        E::NotAFile { .. } => "NotAFile",
        E::NoFiles { .. } => "NoFiles",
        E::NothingLeft { .. } => "NothingLeft",
        E::Pattern { .. } => "Pattern",
        E::NoSubPath { .. } => "NoSubPath",
        E::SubPathIsFile { .. } => "SubPathIsFile",
        E::NoSuchLayer { .. } => "NoSuchLayer",
        E::ManySuchLayers { .. } => "ManySuchLayers",
        E::NoConfig => "NoConfig",
        E::LargeConfig { .. } => "LargeConfig",
        E::Config { .. } => "Config",
        E::NotInKitfile { .. } => "NotInKitfile",
        E::DiffIds { .. } => "DiffIds",
        E::NotOllama { .. } => "NotOllama",
        E::OllamaName { .. } => "OllamaName",
        E::OllamaDigest { .. } => "OllamaDigest",
        E::NoReference => "NoReference",
    }
}

const ALL: usize = 29;
const HELM: &str = "application/vnd.cncf.helm.config.v1+json";
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const KIT: &str = "application/vnd.kitops.modelkit.config.v1+json";
const EROFS: &str = "application/vnd.erofs.layer.v1";

fn x(title: &str) -> Value {
    layer("a/b", "x", &[(TITLE, title)])
}

fn y(title: &str) -> Value {
    layer("a/b", "y", &[(TITLE, title)])
}

fn mounting(manifest: &Manifest, include: &[&str]) -> Result<Plan, LayoutError> {
    let include = include.iter().map(ToString::to_string).collect();
    let options = PlanOptions { allow_filesystem_layers: true, include, ..PlanOptions::default() };
    plan(manifest, Some(b"{}"), &options)
}

fn ollama(digest: &Digest, reference: Option<&str>) -> Result<Plan, LayoutError> {
    let mut blob = layer("application/vnd.ollama.image.model", "m", &[]);
    blob["digest"] = json!(digest.to_string());
    let reference = reference.map(|text| text.parse().unwrap());
    let options = PlanOptions { layout: LayoutMode::Ollama, reference, ..PlanOptions::default() };
    plan(&artifact(None, DOCKER_CONFIG, &[blob]), None, &options)
}

/// Each case with the sentence expected; `$x` stands for the digest of the blob `x`.
fn cases() -> Vec<(Result<Plan, LayoutError>, &'static str)> {
    let mut cases = names();
    cases.extend(layers());
    cases.extend(choices());
    cases.extend(configs());
    cases
}

fn names() -> Vec<(Result<Plan, LayoutError>, &'static str)> {
    let mut small = x("b");
    small["size"] = json!(7);
    let copies: Vec<Value> = (0..1001).map(|n| x(&n.to_string())).collect();
    let long = layer(TAR, "x", &[(TITLE, &"n".repeat(250)), (UNPACK, "true")]);
    let helm = r#"{"name":"a\u0000","version":"1"}"#;
    vec![
        (
            plan_default(&oras(&[x("a//b")])),
            "layer 0 ($x, a/b) is named by the annotation `org.opencontainers.image.title`, which is refused: the path \
             `a//b` has an empty component: remove the doubled or trailing slash",
        ),
        (
            plan_config(&artifact_with(None, HELM, helm, &[layer(CHART, "x", &[])]), helm, &[]),
            "layer 0 ($x, application/vnd.cncf.helm.chart.content.v1.tar+gzip) is named by the name and the version of \
             the chart, which is refused: the path `a\\u{0}-1.tgz` has a control character, which no file name in a \
             volume may have",
        ),
        (
            plan_with(&oras(&[long]), &[("tar", "file")]),
            "layer 0 ($x, application/vnd.oci.image.layer.v1.tar) cannot be given a name: the path \
             `nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…` \
             has a component of 257 bytes, and a file name may have at most 255",
        ),
        (
            plan_default(&oras(&[x("a"), y("a")])),
            "the path `a` is claimed by layer 0 ($x, a/b) and by layer 1 ($y, a/b), which differ: exclude it or choose \
             with `files`",
        ),
        (
            plan_default(&oras(&[x("a"), y("a/b")])),
            "the path `a` of layer 0 ($x, a/b) would have to be a file and, for `a/b` of layer 1 ($y, a/b), a directory: \
             exclude one or choose with `files`",
        ),
        (
            plan_default(&oras(&[x("a"), small])),
            "the blob $x is said to have 1 bytes and 7 bytes: the manifest lies",
        ),
        (plan_default(&oras(&copies)), "the blob $x stands at 1001 paths, and at most 1000 are allowed"),
    ]
}

fn layers() -> Vec<(Result<Plan, LayoutError>, &'static str)> {
    let encrypted = layer("application/vnd.oci.image.layer.v1.tar+encrypted", "x", &[]);
    let link = layer(
        "application/vnd.cncf.model.doc.v1.raw",
        "x",
        &[(TITLE, "a"), ("org.cncf.model.file.metadata+json", r#"{"typeflag":54}"#)],
    );
    vec![
        (
            plan_with(&oras(&[layer(TAR, "x", &[])]), &[("tar", "reject")]),
            "layer 0 ($x, application/vnd.oci.image.layer.v1.tar) is a tar, and the attribute `tar: reject` allows none: \
             exclude it or use `tar: file`",
        ),
        (
            plan_default(&oras(&[layer(EROFS, "x", &[])])),
            "layer 0 ($x, application/vnd.erofs.layer.v1) is a filesystem image without a name, and this node mounts none \
             (`allowFilesystemLayers`): give it a path with the attribute `files`",
        ),
        (
            mounting(&oras(&[layer(EROFS, "x", &[]), layer(TAR, "y", &[])]), &[]),
            "layer 1 ($y, application/vnd.oci.image.layer.v1.tar) is a tar and layer 0 ($x, \
             application/vnd.erofs.layer.v1) a filesystem image, and the two cannot be stacked as one volume: choose with \
             `files`",
        ),
        (
            mounting(&oras(&[layer(EROFS, "x", &[])]), &["a"]),
            "layer 0 ($x, application/vnd.erofs.layer.v1) is a filesystem image, which is mounted as it is: the attribute \
             `include` cannot leave anything out of it",
        ),
        (
            plan_default(&artifact(None, IMAGE_CONFIG, &[encrypted])),
            "layer 0 ($x, application/vnd.oci.image.layer.v1.tar+encrypted) is encrypted, and there are no keys for \
             images on a node: mount an image that is not",
        ),
        (
            plan_default(&oras(&[link])),
            "layer 0 ($x, application/vnd.cncf.model.doc.v1.raw) holds a FIFO by its file metadata, and a volume made of \
             raw layers holds regular files only",
        ),
        (
            plan_default(&oras(&[])),
            "the artifact has no layer that could become a file: its type is `application/vnd.acme.thing`",
        ),
    ]
}

fn choices() -> Vec<(Result<Plan, LayoutError>, &'static str)> {
    let two = || oras(&[titled("a"), titled("b")]);
    let broken = PlanOptions { exclude: vec!["/a".to_owned()], ..PlanOptions::default() };
    vec![
        (
            plan_with(&two(), &[("include", "c")]),
            "`include` and `exclude` leave none of the artifact's 2 files: patterns are matched against full paths, so \
             `**/` may be missing in front",
        ),
        (
            plan(&two(), None, &broken),
            "the pattern `/a` can never fit: paths are relative, so leave the leading slash away",
        ),
        (
            plan_with(&two(), &[("subPath", "c")]),
            "the artifact has no directory `c`, which the attribute `subPath` names",
        ),
        (
            plan_with(&two(), &[("subPath", "a")]),
            "`a`, which the attribute `subPath` names, is a file of the artifact: name its directory, or choose it with \
             `include`",
        ),
        (
            plan_with(&two(), &[("files", "[{select: {title: c, mediaType: a/b}, path: p}]")]),
            "no layer has mediaType `a/b`, title `c`, which the attribute `files` selects for `p`",
        ),
        (
            plan_with(&two(), &[("files", "[{select: {mediaType: application/octet-stream}, path: p}]")]),
            "2 layers have mediaType `application/octet-stream`, which the attribute `files` selects for `p`: add a \
             digest or a title",
        ),
    ]
}

fn configs() -> Vec<(Result<Plan, LayoutError>, &'static str)> {
    let large = " ".repeat((4 << 20) + 1);
    let kit = [layer("application/vnd.kitops.modelkit.docs.v1.raw", "x", &[])];
    let two_ids = format!(r#"{{"rootfs":{{"diff_ids":["{0}","{0}"]}}}}"#, digest("x"));
    let long = Digest::of(stowage_artifact::Algorithm::Sha512, b"x");
    vec![
        (
            plan_default(&artifact(None, KIT, &kit)),
            "the names of this artifact's files stand in its config blob, which was not given",
        ),
        (
            plan_config(&artifact_with(None, KIT, &large, &kit), &large, &[]),
            "the config blob has 4194305 bytes, and at most 4194304 (4 MiB) are read",
        ),
        (
            plan_config(&artifact(None, HELM, &[layer(CHART, "x", &[])]), "{}", &[]),
            "the config blob of this helm cannot be used: missing field `name` at line 1 column 2",
        ),
        (
            plan_config(&artifact(None, KIT, &kit), "{}", &[]),
            "layer 0 ($x, application/vnd.kitops.modelkit.docs.v1.raw) has no entry in the Kitfile, so it has no path: \
             leave it out or give it one with the attribute `files`",
        ),
        (
            plan_config(
                &artifact_with(None, IMAGE_CONFIG, &two_ids, &[layer(TAR_GZIP, "x", &[])]),
                &two_ids,
                &[],
            ),
            "the manifest has 1 layers and the config blob 2 digests of decoded layers: one of them lies",
        ),
        (
            plan_with(&artifact(None, ORAS_CONFIG, &[titled("a")]), &[("layout", "ollama")]),
            "the attribute `layout: ollama` needs an Ollama model, and this artifact is of type \
             `application/vnd.oci.empty.v1+json`: leave the attribute away to get plain files",
        ),
        (
            ollama(&digest("m"), Some("ghcr.io/acme.org/m")),
            "Ollama would not read a model whose namespace is `acme.org`: it allows letters, digits, `_`, `-` and `.` (no \
             `.` in a namespace), at most 80 of them",
        ),
        (
            ollama(&long, Some("a/m")),
            "Ollama would not read the blob $512: it knows sha256 only, so leave `layout: ollama` away",
        ),
        (
            ollama(&digest("m"), None),
            "`layout: ollama` needs the reference of the model, which was not given",
        ),
    ]
}

#[test]
fn every_refusal_is_one_clear_sentence() {
    let long = Digest::of(stowage_artifact::Algorithm::Sha512, b"x");
    let digests = [("$512", long), ("$x", digest("x")), ("$y", digest("y"))];
    let mut seen = BTreeSet::new();
    for (result, expected) in cases() {
        let error = result.expect_err(expected);
        let expected = digests
            .iter()
            .fold(expected.to_owned(), |text, (short, digest)| text.replace(short, digest.as_str()));
        assert_eq!(error.to_string(), expected, "{error:?}");
        assert!(!expected.ends_with('.') && !expected.contains('\n'));
        assert!(seen.insert(name_of(&error)), "{error:?} twice");
    }
    assert_eq!(seen.len(), ALL, "{seen:?}");
}
