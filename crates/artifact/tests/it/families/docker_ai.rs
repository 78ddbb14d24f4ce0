//! Models of Docker's model runner.
//!
//! Types: docker/model-runner pkg/distribution/types/config.go. Version 0.2 gives every layer `org.cncf.model.filepath`
//! and its metadata (pkg/distribution/internal/partial/layer.go); what 0.1 unpacks to stands in
//! pkg/distribution/internal/bundle/unpack.go.

use serde_json::Value;
use stowage_artifact::{LayoutError, PlanOptions, needs_config};

use crate::fixture::{FILEPATH, artifact, assert_lines, layer, paths, plan_default, plan_with};

const OLD: &str = "application/vnd.docker.ai.model.config.v0.1+json";
const NEW: &str = "application/vnd.docker.ai.model.config.v0.2+json";

fn ai(kind: &str, content: &str) -> Value {
    layer(&format!("application/vnd.docker.ai.{kind}"), content, &[])
}

fn at(kind: &str, content: &str, path: &str) -> Value {
    let untested = ("org.cncf.model.file.mediatype.untested", "false");
    layer(&format!("application/vnd.docker.ai.{kind}"), content, &[(FILEPATH, path), untested])
}

#[test]
fn the_kind_of_a_layer_was_its_name() {
    let manifest = artifact(
        None,
        OLD,
        &[
            at("gguf.v3", "g", "Llama-3.2-Q4.gguf"),
            at("license", "l", "../../LICENSE"),
            ai("mmproj", "m"),
            ai("chat.template.jinja", "c"),
        ],
    );
    assert_lines(
        plan_default(&manifest),
        &[
            "= docker-ai",
            "LICENSE 444 raw l",
            "chat_template.jinja 444 raw c",
            "mmproj.gguf 444 raw m",
            "model.gguf 444 raw g",
        ],
    );
    assert!(!needs_config(&manifest, &PlanOptions::default()));
}

#[test]
fn several_of_a_kind_are_shards_or_numbered() {
    let layers = ["gguf.v3", "gguf.v3", "license", "license", "mmproj", "mmproj"];
    let layers: Vec<Value> =
        layers.into_iter().enumerate().map(|(n, kind)| ai(kind, &n.to_string())).collect();
    assert_lines(
        plan_default(&artifact(None, OLD, &layers)),
        &[
            "= docker-ai",
            "LICENSE-1 444 raw 2",
            "LICENSE-2 444 raw 3",
            "mmproj-1.gguf 444 raw 4",
            "mmproj-2.gguf 444 raw 5",
            "model-00001-of-00002.gguf 444 raw 0",
            "model-00002-of-00002.gguf 444 raw 1",
        ],
    );
    let tensors = artifact(None, OLD, &[ai("safetensors", "a"), ai("safetensors", "b"), ai("dduf", "d")]);
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.dduf"];
    assert_eq!(paths(&plan_default(&tensors).unwrap().layout), names);
    let one = artifact(None, OLD, &[ai("safetensors", "a")]);
    assert_eq!(paths(&plan_default(&one).unwrap().layout), ["model.safetensors"]);
}

#[test]
fn in_version_two_every_layer_has_its_path() {
    let manifest = artifact(
        None,
        NEW,
        &[
            at("safetensors", "a", "text_encoder/model-00001-of-00002.safetensors"),
            at("safetensors", "b", "text_encoder/model-00002-of-00002.safetensors"),
            at("model.file", "c", "config.json"),
            at("license", "l", "LICENSE.md"),
            at("chat.template.jinja", "t", "templates/chat.jinja"),
        ],
    );
    assert_lines(
        plan_default(&manifest),
        &[
            "= docker-ai",
            "LICENSE.md 444 raw l",
            "config.json 444 raw c",
            "templates/chat.jinja 444 raw t",
            "text_encoder/model-00001-of-00002.safetensors 444 raw a",
            "text_encoder/model-00002-of-00002.safetensors 444 raw b",
        ],
    );
    let nameless = artifact(None, NEW, &[ai("gguf.v3", "g"), at("license", "l", "x")]);
    assert_eq!(paths(&plan_default(&nameless).unwrap().layout), ["model.gguf", "x"]);
    let hostile = artifact(None, NEW, &[at("gguf.v3", "g", "../model.gguf")]);
    assert!(matches!(plan_default(&hostile), Err(LayoutError::Path { annotation: FILEPATH, .. })));
}

#[test]
fn archives_are_unpacked_side_by_side() {
    let layers = [at("gguf.v3", "g", "m"), ai("vllm.config.tar", "v"), at("dir.tar", "d", "tokenizer")];
    for config in [OLD, NEW] {
        let manifest = artifact(None, config, &layers);
        let model = if config == OLD { "model.gguf 444 raw g" } else { "m 444 raw g" };
        assert_lines(
            plan_default(&manifest),
            &["= docker-ai", model, "tar v files", "tar d fallback:tokenizer files"],
        );
        let files = plan_with(&manifest, &[("tar", "file"), ("exclude", "m*")]).unwrap();
        assert_eq!(paths(&files.layout), ["blob.tar", "tokenizer.tar"]);
    }
}

#[test]
fn a_path_that_counts_may_make_a_file_executable_and_never_a_link() {
    let metadata = |text: &str| {
        let annotations = [(FILEPATH, "run"), ("org.cncf.model.file.metadata+json", text)];
        artifact(None, NEW, &[layer("application/vnd.docker.ai.model.file", "x", &annotations)])
    };
    let executable = r#"{"name":"run","mode":493,"size":1,"typeflag":48}"#;
    assert_lines(plan_default(&metadata(executable)), &["= docker-ai", "run 555 raw x"]);
    let link = metadata(r#"{"name":"run","typeflag":50}"#);
    assert!(matches!(plan_default(&link), Err(LayoutError::NotAFile { kind: "symbolic link", .. })));
}
