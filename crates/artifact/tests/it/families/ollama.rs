//! Ollama, as files and as a directory for `OLLAMA_MODELS`.
//!
//! Types: ollama/ollama server/images.go and manifest/layer.go (`Layer.Name` is the descriptor's `name`). Manifests are
//! Docker's, without annotations (manifest/manifest.go). Where they lie: manifest/paths.go; which names are legal:
//! types/model/name.go.

use serde_json::{Value, json};
use stowage_artifact::{
    Algorithm, Digest, LayoutError, LayoutMode, Manifest, Plan, PlanOptions, Source, needs_config, plan,
};

use crate::fixture::{
    DOCKER_CONFIG, TITLE, artifact, assert_lines, assert_refused, digest, layer, oras, parse, paths,
    plan_default, plan_with, titled,
};

fn blob(kind: &str, content: &str) -> Value {
    json!({
        "mediaType": format!("application/vnd.ollama.image.{kind}"),
        "digest": digest(content).to_string(),
        "size": content.len(),
    })
}

fn named(kind: &str, content: &str, name: &str) -> Value {
    let mut layer = blob(kind, content);
    layer["name"] = json!(name);
    layer
}

fn ollama(layers: &[Value]) -> Manifest {
    parse(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": DOCKER_CONFIG, "digest": digest("the config").to_string(), "size": "the config".len(),
        },
        "layers": layers,
    }))
}

fn as_directory(manifest: &Manifest, reference: &str) -> Result<Plan, LayoutError> {
    let options = PlanOptions {
        layout: LayoutMode::Ollama,
        reference: Some(reference.parse().unwrap()),
        ..PlanOptions::default()
    };
    plan(manifest, None, &options)
}

#[test]
fn the_kind_of_a_layer_is_its_name() {
    let mut from = blob("model", "g");
    from["from"] = json!("/root/.ollama/models/blobs/sha256-00");
    let manifest = ollama(&[
        from,
        blob("projector", "p"),
        blob("adapter", "a"),
        blob("draft", "d"),
        blob("template", "{{ .Prompt }}"),
        blob("prompt", "prompt"),
        blob("system", "s"),
        blob("params", "{}"),
        blob("messages", "[]"),
        blob("license", "l"),
        blob("embed", "e"),
    ]);
    assert!(!needs_config(&manifest, &PlanOptions::default()));
    assert_lines(
        plan_default(&manifest),
        &[
            "= ollama",
            "LICENSE 444 raw l",
            "adapter.gguf 444 raw a",
            "draft.gguf 444 raw d",
            "embed 444 raw e",
            "messages.json 444 raw []",
            "model.gguf 444 raw g",
            "params.json 444 raw {}",
            "projector.gguf 444 raw p",
            "prompt 444 raw prompt",
            "system 444 raw s",
            "template 444 raw {{ .Prompt }}",
        ],
    );
}

#[test]
fn several_of_a_kind_are_numbered() {
    let manifest = ollama(&[
        blob("model", "g1"),
        blob("license", "MIT"),
        blob("license", "Apache"),
        blob("license", "MIT"),
        blob("model", "g2"),
    ]);
    assert_lines(
        plan_default(&manifest),
        &[
            "= ollama",
            "LICENSE-1 444 raw MIT",
            "LICENSE-2 444 raw Apache",
            "LICENSE-3 444 raw MIT",
            "model-1.gguf 444 raw g1",
            "model-2.gguf 444 raw g2",
        ],
    );
}

#[test]
fn tensors_and_files_of_a_model_have_their_own_names() {
    let manifest = ollama(&[
        named("tensor", "t1", "text_encoder/model.embed_tokens.weight"),
        named("tensor", "t2", "model.layers.0.mlp.weight"),
        named("json", "c", "text_encoder/config.json"),
        named("model", "m", "odd/model"),
        blob("license", "l"),
    ]);
    assert_lines(
        plan_default(&manifest),
        &[
            "= ollama",
            "LICENSE 444 raw l",
            "model.layers.0.mlp.weight 444 raw t2",
            "odd/model 444 raw m",
            "text_encoder/config.json 444 raw c",
            "text_encoder/model.embed_tokens.weight 444 raw t1",
        ],
    );
    let chosen =
        plan_with(&manifest, &[("include", "text_encoder/**"), ("subPath", "text_encoder")]).unwrap();
    assert_eq!(paths(&chosen.layout), ["config.json", "model.embed_tokens.weight"]);
    assert_eq!(chosen.excluded.len(), 3);
}

#[test]
fn a_hostile_name_is_refused_and_an_odd_one_ignored() {
    let expected = format!(
        "layer 0 ({}, application/vnd.ollama.image.tensor) is named by the `name` of its descriptor, which is refused: \
         the path `../x` has the component `..`, which could lead out of the volume",
        digest("t")
    );
    assert_refused(plan_default(&ollama(&[named("tensor", "t", "../x")])), &expected);
    for name in [json!(""), json!(7), json!(null), json!(["x"])] {
        let mut layer = blob("model", "g");
        layer["name"] = name;
        assert_eq!(paths(&plan_default(&ollama(&[layer])).unwrap().layout), ["model.gguf"]);
    }
}

#[test]
fn the_kind_counts_even_where_somebody_else_added_a_title() {
    let kind = "application/vnd.ollama.image.model";
    let titled = |title: &str| oras(&[layer(kind, "g", &[(TITLE, title)])]);
    for title in ["mine.gguf", "../../mine.gguf"] {
        assert_lines(plan_default(&titled(title)), &["= ollama", "model.gguf 444 raw g"]);
    }
    // A kind that is nobody's has only the title.
    let unknown = oras(&[layer("application/vnd.ollama.image.novelty", "n", &[(TITLE, "n.bin")])]);
    assert_lines(plan_default(&unknown), &["= ollama", "n.bin 444 raw n"]);
}

#[test]
fn an_ollama_server_finds_the_model_under_its_name() {
    let manifest = ollama(&[blob("model", "g"), blob("license", "l"), blob("license", "l")]);
    let plan = as_directory(&manifest, "ollama://llama3.2:3b").unwrap();
    let mut expected: Vec<String> =
        ["the config", "g", "l"].map(|content| format!("blobs/sha256-{}", digest(content).hex())).into();
    expected.sort();
    let own = "manifests/registry.ollama.ai/library/llama3.2/3b";
    expected.push(own.to_owned());
    assert_eq!(paths(&plan.layout), expected);
    assert_eq!(plan.notes, ["Ollama knows the model as `registry.ollama.ai/library/llama3.2:3b`"]);
    assert!(plan.excluded.is_empty());

    let entry = &plan.layout.entries()[&own.parse().unwrap()];
    let Source::Raw(digest) = &entry.source else { panic!("{entry:?}") };
    assert_eq!(plan.layout.inline()[digest], manifest.raw());
    assert_eq!(*digest, Digest::of(Algorithm::Sha256, manifest.raw()));
    assert_eq!(plan.layout.inline().len(), 1);
}

#[test]
fn a_model_from_another_registry_keeps_the_parts_that_ollama_knows() {
    let manifest = ollama(&[blob("model", "g")]);
    let pinned = format!("ghcr.io/acme/models/llama@{}", digest("x"));
    for (reference, path) in [
        ("ollama://someone/m", "registry.ollama.ai/someone/m/latest"),
        ("ghcr.io/acme/models/llama:v1", "ghcr.io/models/llama/v1"),
        ("localhost:5000/llama", "localhost:5000/library/llama/latest"),
        (&pinned, "ghcr.io/models/llama/latest"),
    ] {
        let plan = as_directory(&manifest, reference).unwrap();
        assert_eq!(paths(&plan.layout).last().unwrap(), &format!("manifests/{path}"), "{reference}");
    }
}

#[test]
fn what_ollama_could_not_read_is_refused() {
    let manifest = ollama(&[blob("model", "g")]);
    let long = format!("ghcr.io/a/{}", "m".repeat(81));
    for (reference, part) in [
        ("ghcr.io/acme.org/m", "namespace"),
        ("[::1]:5000/a/m", "host"),
        (&long, "name"),
        (&format!("a/m:{}", "t".repeat(81)), "tag"),
    ] {
        let error = as_directory(&manifest, reference).unwrap_err();
        assert!(matches!(error, LayoutError::OllamaName { part: found, .. } if found == part), "{error}");
    }
    let mut other = blob("model", "g");
    other["digest"] = json!(Digest::of(Algorithm::Sha512, b"g").to_string());
    let error = as_directory(&ollama(&[other]), "a/m").unwrap_err();
    assert!(matches!(error, LayoutError::OllamaDigest { .. }));
    assert_eq!(
        as_directory(&oras(&[titled("a")]), "a/m").unwrap_err(),
        LayoutError::NotOllama { kind: "application/vnd.acme.thing".to_owned() }
    );
    let options = PlanOptions { layout: LayoutMode::Ollama, ..PlanOptions::default() };
    assert_eq!(plan(&manifest, None, &options).unwrap_err(), LayoutError::NoReference);
    let image =
        artifact(None, DOCKER_CONFIG, &[layer("application/vnd.docker.image.rootfs.diff.tar", "t", &[])]);
    assert!(matches!(as_directory(&image, "a/m"), Err(LayoutError::NotOllama { .. })));
}
