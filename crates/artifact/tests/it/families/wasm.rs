//! WebAssembly.
//!
//! Types: the CNCF's layout as bytecodealliance/rust-oci-wasm src/lib.rs writes it, and those from before it
//! (sigstore/cosign pkg/types/media.go, `WasmLayerMediaType` and `WasmConfigMediaType`).

use stowage_artifact::Family;

use crate::fixture::{IMAGE_CONFIG, Pair, TITLE, artifact, assert_lines, layer, plan_default};

const CONFIG: &str = "application/vnd.wasm.config.v0+json";

#[test]
fn a_module_is_called_so_or_by_its_title() {
    let old_config = "application/vnd.wasm.config.v1+json";
    let old_layer = "application/vnd.wasm.content.layer.v1+wasm";
    let table: [(&str, &str, &[Pair<'_>], &str); 4] = [
        (CONFIG, "application/wasm", &[], "module.wasm 444 raw m"),
        (CONFIG, "application/wasm", &[(TITLE, "hello.wasm")], "hello.wasm 444 raw m"),
        (old_config, old_layer, &[], "module.wasm 444 raw m"),
        ("application/vnd.module.wasm.config.v1+json", old_layer, &[], "module.wasm 444 raw m"),
    ];
    for (config, media_type, annotations, expected) in table {
        let manifest = artifact(None, config, &[layer(media_type, "m", annotations)]);
        assert_lines(plan_default(&manifest), &["= wasm", expected]);
    }
}

#[test]
fn several_modules_are_numbered_and_other_layers_keep_their_names() {
    let layers = [
        layer("application/wasm", "1", &[]),
        layer("application/json", "j", &[(TITLE, "wit.json")]),
        layer("application/wasm", "2", &[]),
        layer("application/wasm", "3", &[(TITLE, "c.wasm")]),
    ];
    assert_lines(
        plan_default(&artifact(None, CONFIG, &layers)),
        &[
            "= wasm",
            "c.wasm 444 raw 3",
            "module-1.wasm 444 raw 1",
            "module-2.wasm 444 raw 2",
            "wit.json 444 raw j",
        ],
    );
}

#[test]
fn a_module_in_another_artifact_is_a_blob_of_its_type() {
    let manifest = artifact(None, IMAGE_CONFIG, &[layer("application/wasm", "m", &[])]);
    let plan = plan_default(&manifest).unwrap();
    assert_eq!(plan.family, Family::Oras);
    assert_eq!(crate::fixture::paths(&plan.layout), ["blob.wasm"]);
}
