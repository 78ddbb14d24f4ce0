//! Container images.
//!
//! Types: image-spec media-types.md, and containerd/containerd core/images/mediatypes.go for Docker's. The digests of the
//! decoded layers stand in the config (image-spec config.md, `rootfs.diff_ids`).

use serde_json::{Value, json};
use stowage_artifact::{Family, LayoutError, PlanOptions, needs_config};

use crate::fixture::{
    DOCKER_CONFIG, IMAGE_CONFIG, TAR, TAR_GZIP, TITLE, artifact, artifact_with, assert_lines, assert_refused,
    digest, layer, lines, options, paths, plan_config, plan_default, plan_with,
};

const DOCKER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

fn config(plain: &[&str]) -> String {
    let diff_ids: Vec<String> = plain.iter().map(|plain| digest(plain).to_string()).collect();
    json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [],
    })
    .to_string()
}

#[test]
fn layers_lie_over_each_other_as_a_root_filesystem() {
    for (kind, layers) in [
        (IMAGE_CONFIG, [(TAR_GZIP, "1", "tar 1+gzip"), (TAR_ZSTD, "2", "tar 2+zstd"), (TAR, "3", "tar 3")]),
        (
            DOCKER_CONFIG,
            [
                (DOCKER_GZIP, "1", "tar 1+gzip"),
                ("application/vnd.docker.image.rootfs.diff.tar.zstd", "2", "tar 2+zstd"),
                (DOCKER_TAR, "3", "tar 3"),
            ],
        ),
    ] {
        let config = config(&["1 plain", "2 plain", "3"]);
        let blobs: Vec<Value> =
            layers.iter().map(|(media_type, content, _)| layer(media_type, content, &[])).collect();
        let manifest = artifact_with(None, kind, &config, &blobs);
        assert!(needs_config(&manifest, &PlanOptions::default()));
        let [one, two, three] = layers.map(|(_, content, shown)| {
            let plain = if content == "3" { "3".to_owned() } else { format!("{content} plain") };
            format!("{shown} plain:{plain} image")
        });
        assert_lines(plan_config(&manifest, &config, &[]), &["= image", &one, &two, &three]);
    }
}

#[test]
fn the_same_layer_again_is_another_layer() {
    let manifest = artifact(None, IMAGE_CONFIG, &[TAR, TAR].map(|tar| layer(tar, "same", &[])));
    assert!(!needs_config(&manifest, &PlanOptions::default()));
    let expected = ["= image", "tar same image", "tar same image"];
    assert_lines(plan_default(&manifest), &expected);
}

#[test]
fn layers_may_be_files_and_then_nothing_is_decoded() {
    for (kind, tar) in [(IMAGE_CONFIG, TAR_GZIP), (DOCKER_CONFIG, DOCKER_GZIP)] {
        let config = config(&["x", "y"]);
        let manifest = artifact_with(None, kind, &config, &[layer(tar, "1", &[]), layer(tar, "2", &[])]);
        assert!(!needs_config(&manifest, &options(&[("tar", "file")])));
        let plan = plan_with(&manifest, &[("tar", "file")]).unwrap();
        assert_eq!(plan.family, Family::Image);
        assert!(
            paths(&plan.layout).iter().all(|path| path.starts_with("sha256-") && path.ends_with(".tar.gz"))
        );
        let rejected = plan_config(&manifest, &config, &[("tar", "reject")]);
        assert!(matches!(rejected, Err(LayoutError::TarRejected { .. })));
    }
}

#[test]
fn the_config_must_list_every_layer() {
    let manifest =
        artifact_with(None, IMAGE_CONFIG, &config(&["1"]), &[TAR_GZIP; 2].map(|tar| layer(tar, "1", &[])));
    assert_eq!(plan_default(&manifest).unwrap_err(), LayoutError::NoConfig);
    let expected =
        "the manifest has 2 layers and the config blob 1 digests of decoded layers: one of them lies";
    assert_refused(plan_config(&manifest, &config(&["1"]), &[]), expected);
    let unlisted = plan_config(&manifest, "{\"rootfs\":null}", &[]).unwrap();
    assert_eq!(lines(&unlisted), ["= image", "tar 1+gzip image", "tar 1+gzip image"]);
    for broken in ["", "{\"rootfs\":7}", "{\"rootfs\":{\"diff_ids\":[\"x\",\"y\"]}}"] {
        let error = plan_config(&manifest, broken, &[]).unwrap_err();
        assert!(matches!(error, LayoutError::Config { family: Family::Image, .. }), "{broken}: {error}");
    }
    // A config too large to be read is done without.
    let mut json = crate::fixture::manifest_json(None, IMAGE_CONFIG, &[layer(TAR_GZIP, "1", &[])]);
    json["config"]["size"] = json!(5 << 20);
    json["config"]["digest"] = json!(digest("large").to_string());
    let large = crate::fixture::parse(&json);
    assert!(!needs_config(&large, &PlanOptions::default()));
    assert_lines(plan_default(&large), &["= image", "tar 1+gzip image"]);
}

#[test]
fn an_images_config_alone_makes_no_image() {
    let titled_layer = layer(TAR, "x", &[(TITLE, "x")]);
    let files = artifact(None, IMAGE_CONFIG, &[titled_layer]);
    assert_lines(plan_default(&files), &["= oras", "x 444 raw x"]);
    let tars = artifact(None, "application/vnd.acme.config", &[layer(TAR, "x", &[])]);
    assert_lines(plan_default(&tars), &["= oras", "tar x files"]);
}

#[test]
fn an_encrypted_layer_is_refused_even_when_all_are() {
    // containerd/imgcrypt spec.go.
    let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
    for other in [TAR, encrypted] {
        let manifest = artifact(None, IMAGE_CONFIG, &[layer(other, "1", &[]), layer(encrypted, "2", &[])]);
        let error = plan_default(&manifest).unwrap_err();
        assert!(matches!(error, LayoutError::Encrypted { .. }), "{error}");
        let chosen = [("files", "[{select: {digest: \"$\"}, path: x}]")]
            .map(|(key, text)| (key, text.replace('$', digest("2").as_str())));
        let chosen: Vec<(&str, &str)> = chosen.iter().map(|(key, text)| (*key, text.as_str())).collect();
        assert_eq!(paths(&plan_with(&manifest, &chosen).unwrap().layout), ["x"]);
    }
}

#[test]
fn whatever_leaves_files_out_of_an_image_waits_for_its_members() {
    let manifest = artifact(None, IMAGE_CONFIG, &[layer(TAR, "1", &[]), layer(TAR, "2", &[])]);
    let plan = plan_with(&manifest, &[("include", "etc/**"), ("exclude", "etc/ssl/**"), ("subPath", "etc")])
        .unwrap();
    assert_eq!(lines(&plan), ["= image", "tar 1 image", "tar 2 image"]);
    let filter = plan.layout.filter();
    assert_eq!(filter.place("etc/passwd"), Some("passwd"));
    assert_eq!((filter.place("etc/ssl/a"), filter.place("usr/x")), (None, None));
}
