//! `ModelKits` of `KitOps`.
//!
//! Types: kitops-ml/kitops pkg/lib/constants/mediatype/kitops.go. The Kitfile is the config blob, with the digest and the
//! decoded digest of every layer since version 0.5 (pkg/artifact/kitfile.go, `LayerInfo`; packed in the order of
//! pkg/lib/kitfile/local-storage.go, `saveKitfileLayers`).

use serde_json::{Value, json};
use stowage_artifact::{Family, LayoutError, Manifest, Plan, PlanOptions, needs_config};

use crate::fixture::{
    TITLE, artifact_with, assert_lines, assert_refused, digest, layer, lines, paths, plan_config,
    plan_default,
};

const TYPE: &str = "application/vnd.kitops.modelkit.manifest.v1+json";
const CONFIG: &str = "application/vnd.kitops.modelkit.config.v1+json";

fn kit_layer(part: &str, content: &str) -> Value {
    layer(&format!("application/vnd.kitops.modelkit.{part}"), content, &[])
}

/// An entry of a Kitfile as `kit` completes it when it packs.
fn entry(path: &str, content: &str) -> Value {
    json!({
        "path": path,
        "digest": digest(content).to_string(),
        "diffId": digest(&format!("{content} plain")).to_string(),
    })
}

fn kit(kitfile: &str, layers: &[Value]) -> Manifest {
    artifact_with(Some(TYPE), CONFIG, kitfile, layers)
}

fn planned(kitfile: &Value, layers: &[Value], pairs: &[(&str, &str)]) -> Result<Plan, LayoutError> {
    let kitfile = kitfile.to_string();
    plan_config(&kit(&kitfile, layers), &kitfile, pairs)
}

fn full() -> (Value, Vec<Value>) {
    let mut prompt = kit_layer("code.v1.tar", "prompt");
    prompt["annotations"] = json!({"ml.kitops.modelkit.layer-subtype": "prompt"});
    let kitfile = json!({
        "manifestVersion": "1.0.0",
        "package": {"name": "kit", "version": "1.2.3", "authors": ["Ada"]},
        "model": {
            "name": "tiny", "path": "./model/tiny.gguf", "framework": "gguf", "parameters": {"a": [1, {"b": null}]},
            "digest": digest("model").to_string(), "diffId": digest("model plain").to_string(),
            "parts": [entry("adapters/lora", "part")],
        },
        "code": [entry("src/", "code")],
        "datasets": [entry("data/train.csv", "data"), {"name": "big", "path": "big", "remotePath": "s3://bucket/big"}],
        "docs": [entry("README.md", "docs")],
        "prompts": [entry("prompts/a.prompt.md", "prompt")],
    });
    let layers = vec![
        kit_layer("model.v1.tar+gzip", "model"),
        kit_layer("modelpart.v1.tar+zstd", "part"),
        kit_layer("code.v1.tar", "code"),
        kit_layer("dataset.v1.raw+gzip", "data"),
        kit_layer("docs.v1.raw", "docs"),
        prompt,
    ];
    (kitfile, layers)
}

#[test]
fn the_kitfile_names_the_layers_and_their_tars_hold_whole_paths() {
    let (kitfile, layers) = full();
    assert_lines(
        planned(&kitfile, &layers, &[]),
        &[
            "= kitops",
            "README.md 444 raw docs",
            "data/train.csv 444 gzip data plain:data plain",
            "tar model+gzip fallback:model/tiny.gguf plain:model plain files",
            "tar part+zstd fallback:adapters/lora plain:part plain files",
            "tar code fallback:src plain:code plain files",
            "tar prompt fallback:prompts/a.prompt.md plain:prompt plain files",
            "# the kit does not hold `s3://bucket/big` of its Kitfile: fetch or mount that by itself",
        ],
    );
    let files = planned(&kitfile, &layers, &[("tar", "file")]).unwrap();
    assert_eq!(
        paths(&files.layout),
        [
            "README.md",
            "adapters/lora.tar.zst",
            "data/train.csv",
            "model/tiny.gguf.tar.gz",
            "prompts/a.prompt.md.tar",
            "src.tar"
        ]
    );
    let docs = planned(&kitfile, &layers, &[("include", "*.md\ndata/**")]).unwrap();
    assert_eq!(
        lines(&docs)[1..7],
        [
            "README.md 444 raw docs",
            "data/train.csv 444 gzip data plain:data plain",
            "- model/tiny.gguf",
            "- adapters/lora",
            "- src",
            "- prompts/a.prompt.md"
        ]
    );
}

#[test]
fn the_config_is_needed_unless_the_user_names_the_files() {
    let (kitfile, layers) = full();
    let kitfile = kitfile.to_string();
    let manifest = kit(&kitfile, &layers);
    assert!(needs_config(&manifest, &PlanOptions::default()));
    assert_eq!(plan_default(&manifest).unwrap_err(), LayoutError::NoConfig);
    let choice = [("files", "[{select: {mediaType: application/vnd.kitops.modelkit.docs.v1.raw}, path: d}]")];
    assert!(!needs_config(&manifest, &crate::fixture::options(&choice)));
    let plan = crate::fixture::plan_with(&manifest, &choice).unwrap();
    assert_eq!((plan.family, paths(&plan.layout)), (Family::KitOps, vec!["d".to_owned()]));
}

#[test]
fn before_digests_layers_and_entries_were_matched_by_their_order() {
    // pkg/lib/filesystem/unpack/legacy.go: a tar holds names relative to the directory of its path.
    let kitfile = "manifestVersion: v1.0.0\nmodel:\n  path: models/tiny.gguf\ncode:\n- path: src/app\n- path: .\n\
                   datasets:\n- {path: far, remotePath: 's3://far'}\n- {path: data/train}\n";
    let layers = [
        kit_layer("dataset.v1.tar+gzip", "data"),
        kit_layer("model.v1.tar+gzip", "model"),
        kit_layer("code.v1.tar+gzip", "code"),
        kit_layer("code.v1.tar+gzip", "rest"),
    ];
    assert_lines(
        plan_config(&kit(kitfile, &layers), kitfile, &[]),
        &[
            "= kitops",
            "tar data+gzip at:data fallback:data/train files",
            "tar model+gzip at:models fallback:models/tiny.gguf files",
            "tar code+gzip at:src fallback:src/app files",
            "tar rest+gzip files",
            "# the kit does not hold `s3://far` of its Kitfile: fetch or mount that by itself",
        ],
    );
}

#[test]
fn one_blob_may_have_several_entries_and_stand_several_times() {
    let kitfile = json!({"docs": [entry("a.md", "same"), entry("b.md", "same")]});
    let twice = [kit_layer("docs.v1.raw", "same"), kit_layer("docs.v1.raw", "same")];
    for layers in [&twice[..1], &twice] {
        assert_lines(planned(&kitfile, layers, &[]), &["= kitops", "a.md 444 raw same", "b.md 444 raw same"]);
    }
}

#[test]
fn many_entries_for_many_layers_of_one_blob_are_a_clear_error_soon() {
    let entries: Vec<Value> = (0..20_000).map(|n| entry(&format!("f{n}"), "x")).collect();
    let layers: Vec<Value> = (0..10_000).map(|_| kit_layer("docs.v1.raw", "x")).collect();
    let error = planned(&json!({"docs": entries}), &layers, &[]).unwrap_err();
    assert!(matches!(error, LayoutError::ManyCopies { copies: 20_000, .. }), "{error}");
}

#[test]
fn thousands_of_missing_entries_are_a_few_notes() {
    let mut docs = vec![entry("a.md", "a")];
    docs.extend((0..5000).map(|n| json!({"path": format!("gone{n}"), "digest": "sha256:00"})));
    let plan = planned(&json!({"docs": docs}), &[kit_layer("docs.v1.raw", "a")], &[]).unwrap();
    assert_eq!(plan.notes.len(), 11);
    assert_eq!(plan.notes[10], "the kit does not hold 4990 more entries of its Kitfile");
}

#[test]
fn the_whole_directory_may_be_one_entry() {
    for path in [".", "./", "", ".//."] {
        let kitfile = json!({"code": [entry(path, "code")]});
        let expanded = planned(&kitfile, &[kit_layer("code.v1.tar", "code")], &[]);
        assert_lines(expanded, &["= kitops", "tar code plain:code plain files"]);
        let raw = planned(&kitfile, &[kit_layer("code.v1.raw", "code")], &[]).unwrap_err();
        assert!(matches!(raw, LayoutError::Named { by: "the Kitfile", .. }), "{raw}");
    }
}

#[test]
fn a_hostile_path_is_refused_with_its_layer() {
    let kitfile = json!({"docs": [entry("docs/../../etc/passwd", "d")]});
    let expected = format!(
        "layer 0 ({}, application/vnd.kitops.modelkit.docs.v1.raw) is named by the Kitfile, which is refused: the path \
         `docs/../../etc/passwd` has the component `..`, which could lead out of the volume",
        digest("d")
    );
    assert_refused(planned(&kitfile, &[kit_layer("docs.v1.raw", "d")], &[]), &expected);
    for path in ["/etc/passwd", "a\0b", "..", "a/..", "//x"] {
        let kitfile = json!({"docs": [entry(path, "d")]});
        for part in ["docs.v1.raw", "docs.v1.tar", "docs.v1.tar+gzip"] {
            let error = planned(&kitfile, &[kit_layer(part, "d")], &[]).unwrap_err();
            assert!(matches!(error, LayoutError::Named { by: "the Kitfile", .. }), "{path} {part}: {error}");
        }
    }
}

#[test]
fn a_layer_that_the_kitfile_does_not_know_is_refused() {
    let kitfile = json!({"model": {"path": "m", "digest": digest("other").to_string()}});
    let expected = format!(
        "layer 0 ({}, application/vnd.kitops.modelkit.model.v1.tar) has no entry in the Kitfile, so it has no path: \
         leave it out or give it one with the attribute `files`",
        digest("m")
    );
    assert_refused(planned(&kitfile, &[kit_layer("model.v1.tar", "m")], &[]), &expected);
    // A layer of somebody else follows the rules for any artifact.
    let foreign = [kit_layer("docs.v1.raw", "d"), layer("a/b", "x", &[(TITLE, "x")])];
    let kitfile = json!({"docs": [entry("d", "d")]});
    assert_lines(planned(&kitfile, &foreign, &[]), &["= kitops", "d 444 raw d", "x 444 raw x"]);
}

#[test]
fn a_part_of_a_later_version_is_known_by_its_digest() {
    let kitfile = json!({"mcpServers": [entry("server", "s")]});
    let layers = [kit_layer("mcpserver.v1.tar", "s")];
    let expected = ["= kitops", "tar s fallback:server plain:s plain files"];
    assert_lines(planned(&kitfile, &layers, &[]), &expected);
}

#[test]
fn a_broken_kitfile_is_one_sentence() {
    let layers = [kit_layer("docs.v1.raw", "d")];
    for broken in ["{", "{\"model\": 7}", "- a", "model: &a [*a]", "\u{0}"] {
        let error = plan_config(&kit(broken, &layers), broken, &[]).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, LayoutError::Config { family: Family::KitOps, .. }), "{broken:?}: {error}");
        assert!(text.starts_with("the config blob of this kitops cannot be used: its Kitfile is broken: "));
        assert!(!text.chars().any(char::is_control) && text.len() < 400, "{text}");
    }
}
