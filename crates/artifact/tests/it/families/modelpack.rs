//! ModelPack, under its present and its former name.
//!
//! Types and annotations: modelpack/model-spec specs-go/v1/mediatype.go and annotations.go. The metadata and the list of
//! digests are as modelpack/modctl writes them (pkg/backend/build/builder.go).

use serde_json::{Value, json};
use stowage_artifact::{Family, LayoutError, Manifest, PlanOptions, needs_config};

use crate::fixture::{
    FILEPATH, TITLE, artifact, artifact_with, assert_lines, assert_refused, digest, layer, paths,
    plan_config, plan_default, plan_with,
};

const TYPE: &str = "application/vnd.cncf.model.manifest.v1+json";
const CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
const METADATA: &str = "org.cncf.model.file.metadata+json";

/// A layer of ModelPack at a path, with metadata where there is some.
fn model(kind: &str, content: &str, path: &str, metadata: &str) -> Value {
    let mut annotations = vec![(FILEPATH, path)];
    annotations.extend((!metadata.is_empty()).then_some((METADATA, metadata)));
    layer(&format!("application/vnd.cncf.model.{kind}"), content, &annotations)
}

fn modelpack(layers: &[Value]) -> Manifest {
    artifact(Some(TYPE), CONFIG, layers)
}

/// The config that modctl writes, with these digests of decoded layers.
fn config(diff_ids: &[&str]) -> String {
    let diff_ids: Vec<String> = diff_ids.iter().map(|plain| digest(plain).to_string()).collect();
    json!({
        "descriptor": {"createdAt": "2026-01-02T03:04:05Z", "name": "tiny"},
        "config": {"architecture": "transformer", "format": "gguf", "paramSize": "1b"},
        "modelfs": {"type": "layers", "diffIds": diff_ids},
    })
    .to_string()
}

#[test]
fn paths_and_modes_come_from_the_annotations() {
    let script = r#"{"name":"run.sh","mode":493,"uid":0,"gid":0,"size":3,"mtime":"2025-01-01T00:00:00Z","typeflag":48}"#;
    let ordinary = r#"{"name":"w","mode":420,"typeflag":0}"#;
    let two_names = layer(
        "application/vnd.cncf.model.weight.config.v1.raw",
        "c",
        &[(FILEPATH, "config.json"), (TITLE, "other-name")],
    );
    let manifest = modelpack(&[
        model("weight.v1.raw", "w", "weights/a.safetensors", ordinary),
        model("weight.v1.gguf", "g", "b.gguf", ""),
        model("weight.v1.safetensors", "s", "c.safetensors", ""),
        two_names,
        model("weight.code.v1.raw", "x", "run.sh", script),
        model("doc.v1.raw", "d", "README.md", ""),
        model("novelty.v7.raw", "n", "n", "{broken"),
    ]);
    assert_lines(
        plan_default(&manifest),
        &[
            "= modelpack",
            "README.md 444 raw d",
            "b.gguf 444 raw g",
            "c.safetensors 444 raw s",
            "config.json 444 raw c",
            "n 444 raw n",
            "run.sh 555 raw x",
            "weights/a.safetensors 444 raw w",
        ],
    );
    assert!(!needs_config(&manifest, &PlanOptions::default()));
}

#[test]
fn the_former_name_means_the_same() {
    let manifest = artifact(
        Some("application/vnd.cnai.model.manifest.v1+json"),
        "application/vnd.cnai.model.config.v1+json",
        &[
            layer(
                "application/vnd.cnai.model.code.v1.raw",
                "s",
                &[
                    ("org.cnai.model.filepath", "bin/run"),
                    ("org.cnai.model.file.metadata+json", r#"{"mode":365}"#),
                ],
            ),
            layer("application/vnd.cnai.model.weight.v1.tar", "t", &[("org.cnai.model.filepath", "w")]),
        ],
    );
    let expected = ["= modelpack-legacy", "bin/run 555 raw s", "tar t fallback:w files"];
    assert_lines(plan_default(&manifest), &expected);
}

#[test]
fn the_family_is_known_by_any_of_its_types() {
    let known = |artifact_type: Option<&str>, config: &str, layer_type: &str| {
        let manifest = artifact(artifact_type, config, &[layer(layer_type, "x", &[(TITLE, "x")])]);
        plan_default(&manifest).unwrap().family
    };
    let empty = "application/vnd.oci.empty.v1+json";
    assert_eq!(known(Some(TYPE), empty, "a/b"), Family::ModelPack);
    assert_eq!(known(None, CONFIG, "a/b"), Family::ModelPack);
    assert_eq!(known(None, empty, "application/vnd.cncf.model.weight.v1.raw"), Family::ModelPack);
    assert_eq!(known(None, empty, "application/vnd.cncf.models"), Family::Oras);
}

#[test]
fn tars_are_tars_even_with_a_path() {
    for (codec, expanded, name) in [
        ("tar", "tar t fallback:data/set files", "data/set.tar"),
        ("tar+gzip", "tar t+gzip fallback:data/set files", "data/set.tar.gz"),
        ("tar+zstd", "tar t+zstd fallback:data/set files", "data/set.tar.zst"),
    ] {
        // An old config says nothing of digests.
        let config = "{\"modelfs\":{\"type\":\"layers\"}}";
        let layers = [model(&format!("dataset.v1.{codec}"), "t", "data/set", "")];
        let manifest = artifact_with(Some(TYPE), CONFIG, config, &layers);
        let plan = |pairs: &[(&str, &str)]| plan_config(&manifest, config, pairs);
        assert_lines(plan(&[]), &["= modelpack", expanded]);
        assert_eq!(paths(&plan(&[("tar", "file")]).unwrap().layout), [name]);
        assert!(matches!(plan(&[("tar", "reject")]), Err(LayoutError::TarRejected { .. })));
        assert!(matches!(plan(&[("exclude", "data/set")]), Err(LayoutError::NothingLeft { files: 1 })));
    }
    let nameless = modelpack(&[layer("application/vnd.cncf.model.weight.v1.tar", "t", &[])]);
    assert_lines(plan_default(&nameless), &["= modelpack", "tar t files"]);
}

#[test]
fn the_config_says_what_packed_layers_decode_to() {
    let layers = [
        model("weight.v1.tar+gzip", "a", "weights", ""),
        model("doc.v1.raw", "b", "README.md", ""),
        model("weight.v1.raw+zstd", "c", "w.bin", r#"{"mode":420,"size":77}"#),
    ];
    let good = config(&["a plain", "b", "c plain"]);
    let manifest = artifact_with(Some(TYPE), CONFIG, &good, &layers);
    assert!(needs_config(&manifest, &PlanOptions::default()));
    assert_eq!(plan_default(&manifest).unwrap_err(), LayoutError::NoConfig);
    let readme = "README.md 444 raw b";
    assert_lines(
        plan_config(&manifest, &good, &[]),
        &[
            "= modelpack",
            readme,
            "w.bin 444 zstd c plain:c plain bytes:77",
            "tar a+gzip fallback:weights plain:a plain files",
        ],
    );
    let unchecked = ["= modelpack", readme, "w.bin 444 zstd c bytes:77", "tar a+gzip fallback:weights files"];
    // modctl lists the digests of the layers as they are pushed, and no blob decodes to itself.
    let own = config(&["a", "b", "c"]);
    let manifest = artifact_with(Some(TYPE), CONFIG, &own, &layers);
    assert_lines(plan_config(&manifest, &own, &[]), &unchecked);
    for nothing in [config(&[]), "{}".to_owned()] {
        assert_lines(plan_config(&manifest, &nothing, &[]), &unchecked);
    }
    let note = "# the config lists 2 digests of decoded layers for 3 layers, so they were not used";
    let few = config(&["a", "b"]);
    assert_lines(plan_config(&manifest, &few, &[]), &[&unchecked[..], &[note]].concat());
    let broken = plan_config(&manifest, r#"{"modelfs":{"diffIds":["a","b","c"]}}"#, &[]).unwrap_err();
    assert!(matches!(broken, LayoutError::Config { family: Family::ModelPack, .. }), "{broken}");
    assert!(matches!(plan_config(&manifest, "[", &[]), Err(LayoutError::Config { .. })));
    // Nothing is decoded, so nobody asks.
    assert!(!needs_config(&modelpack(&layers[1..2]), &PlanOptions::default()));
}

#[test]
fn a_kitfile_among_the_layers_has_its_own_name() {
    // kitops-ml/kitops pkg/lib/filesystem/unpack/core.go.
    let kitfile = layer("application/vnd.kitops.modelkit.config.v1+json", "kit", &[]);
    let manifest = modelpack(&[model("weight.v1.raw", "w", "w", ""), kitfile]);
    assert_lines(plan_default(&manifest), &["= modelpack", "Kitfile 444 raw kit", "w 444 raw w"]);
}

#[test]
fn metadata_of_what_is_no_file_is_refused() {
    let link = modelpack(&[model("code.v1.raw", "x", "x", r#"{"typeflag":50}"#)]);
    let expected = format!(
        "layer 0 ({}, application/vnd.cncf.model.code.v1.raw) holds a symbolic link by its file metadata, and a volume \
         made of raw layers holds regular files only",
        digest("x")
    );
    assert_refused(plan_default(&link), &expected);
    // A tar of a directory is what it says it is, and a file is one when the user says so.
    let directory = modelpack(&[model("code.v1.tar", "x", "x", r#"{"typeflag":53}"#)]);
    assert_lines(plan_default(&directory), &["= modelpack", "tar x fallback:x files"]);
    let chosen = plan_with(&link, &[("files", "[{select: {title: x}, path: y}]")]);
    assert_lines(chosen, &["= modelpack", "y 444 raw x"]);
}
