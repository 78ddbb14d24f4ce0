//! Raw layers, as opencontainers/image-spec pull request 1197 proposes them: the type
//! `application/vnd.oci.image.layer.v1.raw` and the annotation `org.opencontainers.image.layer.path`.

use serde_json::Value;
use stowage_artifact::{LayoutError, PlanOptions, needs_config};

use crate::fixture::{
    IMAGE_CONFIG, TAR_GZIP, artifact, assert_lines, layer, oras, paths, plan_default, plan_with,
};

const RAW: &str = "application/vnd.oci.image.layer.v1.raw";
const PATH: &str = "org.opencontainers.image.layer.path";

fn raw(content: &str, path: &str) -> Value {
    layer(RAW, content, &[(PATH, path)])
}

#[test]
fn layers_stand_at_their_path_in_the_image() {
    let manifest = artifact(None, IMAGE_CONFIG, &[raw("a", "/models/a.bin"), raw("b", "b.bin")]);
    assert!(!needs_config(&manifest, &PlanOptions::default()));
    let expected = ["= raw-layer", "b.bin 444 raw b", "models/a.bin 444 raw a"];
    assert_lines(plan_default(&manifest), &expected);
}

#[test]
fn one_leading_slash_is_dropped_and_nothing_else() {
    for hostile in ["//etc/passwd", "/", "/../x", "", "/a/", "/./a"] {
        let error = plan_default(&oras(&[raw("x", hostile)])).unwrap_err();
        assert!(matches!(error, LayoutError::Path { annotation: PATH, .. }), "{hostile}: {error}");
    }
}

#[test]
fn other_layers_of_such_an_image_lie_over_each_other() {
    let layers = [
        layer(TAR_GZIP, "base", &[]),
        raw("a", "/models/a.bin"),
        layer("application/vnd.oci.image.layer.v1.raw+zstd", "b", &[(PATH, "/models/b.bin")]),
        layer("application/vnd.oci.image.layer.v1.tar", "top", &[]),
    ];
    let manifest = artifact(None, IMAGE_CONFIG, &layers);
    assert_lines(
        plan_default(&manifest),
        &[
            "= raw-layer",
            "models/a.bin 444 raw a",
            "models/b.bin 444 zstd b",
            "tar base+gzip image",
            "tar top image",
        ],
    );
    let files = plan_with(&manifest, &[("tar", "file"), ("include", "models/**")]).unwrap();
    assert_eq!(paths(&files.layout), ["models/a.bin", "models/b.bin"]);
}

#[test]
fn a_raw_layer_without_a_path_has_no_name() {
    let manifest = artifact(None, IMAGE_CONFIG, &[layer(RAW, "x", &[])]);
    let note = "# 1 of the artifact's layers have no name of their own";
    assert_lines(plan_default(&manifest), &["= raw-layer", "blob 444 raw x", note]);
}
