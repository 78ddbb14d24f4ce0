//! Layers that are filesystem images.
//!
//! Types: containerd/containerd core/images/mediatypes.go (`MediaTypeErofs`, `MediaTypeErofsLayer`) and plugins/diff/erofs;
//! project-machine/atomfs pkg/squashfs/mediatype.go for stacker's.

use stowage_artifact::{LayoutError, Manifest, Plan, PlanOptions, plan};

use crate::fixture::{
    IMAGE_CONFIG, TAR, TITLE, artifact, assert_lines, assert_refused, digest, layer, options, oras, paths,
    plan_default, titled,
};

const EROFS: &str = "application/vnd.erofs.layer.v1";
const SQUASHFS: &str = "application/vnd.oci.image.layer.v1.squashfs";

fn allowed(manifest: &Manifest, pairs: &[(&str, &str)]) -> Result<Plan, LayoutError> {
    plan(manifest, Some(b"{}"), &PlanOptions { allow_filesystem_layers: true, ..options(pairs) })
}

#[test]
fn unless_the_administrator_allows_them_they_are_files_with_a_name_and_refused_without() {
    for media_type in [
        EROFS,
        SQUASHFS,
        "application/vnd.erofs",
        "application/vnd.oci.image.layer.erofs",
        "application/vnd.oci.image.layer.v1.erofs",
        "application/vnd.oci.image.layer.squashfs",
        "application/vnd.stacker.image.layer.squashfs+zstd+verity",
    ] {
        let expected = format!(
            "layer 0 ({}, {media_type}) is a filesystem image without a name, and this node mounts none \
             (`allowFilesystemLayers`): give it a path with the attribute `files`",
            digest("x")
        );
        for manifest in [
            oras(&[layer(media_type, "x", &[])]),
            artifact(None, IMAGE_CONFIG, &[layer(media_type, "x", &[])]),
        ] {
            assert_refused(plan(&manifest, Some(b"{}"), &PlanOptions::default()), &expected);
            let files = format!("[{{select: {{mediaType: {media_type}}}, path: i.img}}]");
            let chosen = crate::fixture::plan_with(&manifest, &[("files", &files)]).unwrap();
            assert_eq!(paths(&chosen.layout), ["i.img"]);
        }
        let named = oras(&[layer(media_type, "x", &[(TITLE, "i")])]);
        assert_lines(plan_default(&named), &["= oras", "i 444 raw x"]);
    }
    let packed = oras(&[layer("application/vnd.erofs.layer.v1+zstd", "x", &[(TITLE, "i")])]);
    assert_lines(plan_default(&packed), &["= oras", "i 444 zstd x"]);
}

#[test]
fn the_kernel_mounts_what_is_allowed_in_the_order_of_the_layers() {
    let layers = [
        layer(EROFS, "low", &[]),
        layer("application/vnd.erofs.layer.v1+zstd", "middle", &[]),
        layer(EROFS, "low", &[]),
        layer(SQUASHFS, "top", &[]),
        // Nothing for those who do not know it (containerd, `IsSkippableLayerType`).
        layer("application/vnd.erofs.chunk-index.v1", "index", &[]),
    ];
    assert_lines(
        allowed(&artifact(None, IMAGE_CONFIG, &layers), &[]),
        &["= image", "mount low erofs", "mount middle erofs+zstd", "mount low erofs", "mount top squashfs"],
    );
    // What stacker writes behind the plus is inside the image.
    let stacker = layer("application/vnd.stacker.image.layer.erofs+zstd+verity", "s", &[(TITLE, "s")]);
    assert_lines(allowed(&oras(&[stacker]), &[]), &["= oras", "mount s erofs"]);
}

#[test]
fn an_images_config_says_what_packed_ones_decode_to() {
    let layers = [layer("application/vnd.erofs.layer.v1+zstd", "z", &[])];
    let config = format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}}"#, digest("z plain"));
    let manifest = crate::fixture::artifact_with(None, IMAGE_CONFIG, &config, &layers);
    let options = PlanOptions { allow_filesystem_layers: true, ..PlanOptions::default() };
    let expected = ["= image", "mount z erofs+zstd plain:z plain"];
    assert_lines(plan(&manifest, Some(config.as_bytes()), &options), &expected);
}

#[test]
fn nothing_can_be_left_out_of_them_or_stacked_with_tars() {
    let image = artifact(None, IMAGE_CONFIG, &[layer(EROFS, "e", &[])]);
    for (attribute, value) in [("include", "a"), ("exclude", "a"), ("subPath", "a")] {
        let expected = format!(
            "layer 0 ({}, {EROFS}) is a filesystem image, which is mounted as it is: the attribute `{attribute}` cannot \
             leave anything out of it",
            digest("e")
        );
        assert_refused(allowed(&image, &[(attribute, value)]), &expected);
    }
    let mixed = artifact(None, IMAGE_CONFIG, &[layer(TAR, "t", &[]), layer(EROFS, "e", &[])]);
    let expected = format!(
        "layer 0 ({}, {TAR}) is a tar and layer 1 ({}, {EROFS}) a filesystem image, and the two cannot be stacked as one \
         volume: choose with `files`",
        digest("t"),
        digest("e")
    );
    assert_refused(allowed(&mixed, &[]), &expected);
    // A file lies beside an image; a chosen image is a file.
    let beside = oras(&[titled("a"), layer(EROFS, "e", &[])]);
    assert_lines(allowed(&beside, &[]), &["= oras", "a 444 raw a", "mount e erofs"]);
    let chosen =
        [("files", "[{select: {mediaType: application/vnd.erofs.layer.v1}, path: i}]"), ("include", "i")];
    assert_lines(allowed(&beside, &chosen), &["= oras", "i 444 raw e", "- a"]);
}
