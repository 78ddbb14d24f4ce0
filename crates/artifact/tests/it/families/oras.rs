//! ORAS.
//!
//! As `oras push` writes (oras-project/oras-go pack.go, `PackManifest` version 1.1, and content/file/file.go): files have
//! the type of a tar layer and a title; directories are gzipped tars of members that carry the directory's name, with
//! the annotations `io.deis.oras.content.unpack` and `io.deis.oras.content.digest`.

use serde_json::{Value, json};
use stowage_artifact::{Family, LayoutError, PlanOptions, needs_config};

use crate::fixture::{
    EMPTY, ORAS_CONFIG, Pair, TAR, TAR_GZIP, TITLE, UNPACK, assert_lines, assert_refused, digest, layer,
    lines, oras, parse, paths, plan_default, plan_with, titled,
};

const UNPACKED_DIGEST: &str = "io.deis.oras.content.digest";

fn directory(title: &str, content: &str) -> Value {
    let plain = digest(&format!("{content} unpacked")).to_string();
    layer(TAR_GZIP, content, &[(TITLE, title), (UNPACK, "true"), (UNPACKED_DIGEST, &plain)])
}

#[test]
fn titles_become_files_and_directories_become_their_members() {
    let manifest = parse(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.unknown.artifact.v1",
        "config": {"mediaType": ORAS_CONFIG, "digest": EMPTY, "size": 2, "data": "e30="},
        "layers": [
            layer(TAR, "{}", &[(TITLE, "config.json")]),
            layer(TAR, "plain", &[(TITLE, "weights/model.bin")]),
            layer("text/plain", "", &[(TITLE, "empty.txt")]),
            directory("docs", "dir"),
        ],
        "annotations": {"org.opencontainers.image.created": "2026-01-02T03:04:05Z"},
    }));
    assert_lines(
        plan_default(&manifest),
        &[
            "= oras",
            "config.json 444 raw {}",
            "empty.txt 444 raw ",
            "weights/model.bin 444 raw plain",
            "tar dir+gzip within:docs fallback:docs plain:dir unpacked files",
        ],
    );
    assert!(!needs_config(&manifest, &PlanOptions::default()));
}

#[test]
fn the_current_directory_has_members_without_a_name_in_front() {
    let plain = "tar here+gzip plain:here unpacked files";
    assert_lines(plan_default(&oras(&[directory(".", "here")])), &["= oras", plain]);
    let parent = oras(&[directory("..", "there")]);
    assert!(matches!(plan_default(&parent), Err(LayoutError::Path { annotation: TITLE, .. })));
}

#[test]
fn a_tar_is_known_by_its_annotation_or_by_a_type_without_a_name() {
    let table: Vec<(&str, Vec<Pair<'_>>, &str, Option<&str>)> = vec![
        (TAR_GZIP, vec![], "tar t+gzip files", Some("blob.tar.gz")),
        (TAR, vec![], "tar t files", Some("blob.tar")),
        ("application/vnd.oci.image.layer.v1.tar+zstd", vec![], "tar t+zstd files", Some("blob.tar.zst")),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            vec![],
            "tar t+gzip files",
            Some("blob.tar.gz"),
        ),
        (
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            vec![],
            "tar t+gzip files",
            Some("blob.tar.gz"),
        ),
        (
            TAR_GZIP,
            vec![(TITLE, "dir"), (UNPACK, "true")],
            "tar t+gzip within:dir fallback:dir files",
            Some("dir.tar.gz"),
        ),
        // ORAS packs with gzip, whatever type it was told to write.
        (
            "application/vnd.acme.dir",
            vec![(TITLE, "dir"), (UNPACK, "true")],
            "tar t+gzip within:dir fallback:dir files",
            Some("dir.tar.gz"),
        ),
        (
            TAR_GZIP,
            vec![(TITLE, "dir.TGZ"), (UNPACK, "true")],
            "tar t+gzip within:dir.TGZ fallback:dir.TGZ files",
            Some("dir.TGZ"),
        ),
        (
            TAR_GZIP,
            vec![(TITLE, ".tar"), (UNPACK, "true")],
            "tar t+gzip within:.tar fallback:.tar files",
            Some(".tar.tar.gz"),
        ),
        (TAR_GZIP, vec![(TITLE, "x.tgz"), (UNPACK, "false")], "x.tgz 444 raw t", None),
        (TAR_GZIP, vec![(TITLE, "x")], "x 444 raw t", None),
    ];
    for (media_type, annotations, expanded, as_file) in table {
        let manifest = oras(&[layer(media_type, "t", &annotations)]);
        let plan = |tar: &str| plan_with(&manifest, &[("tar", tar)]);
        assert_eq!(lines(&plan_default(&manifest).unwrap()), ["= oras", expanded], "{media_type}");
        assert_eq!(plan_default(&manifest).unwrap(), plan("expand").unwrap());
        match as_file {
            Some(name) => {
                assert_eq!(paths(&plan("file").unwrap().layout), [name]);
                assert!(matches!(plan("reject"), Err(LayoutError::TarRejected { .. })));
            }
            None => {
                for tar in ["file", "reject"] {
                    assert_eq!(lines(&plan(tar).unwrap()), ["= oras", expanded]);
                }
            }
        }
    }
}

#[test]
fn a_directory_is_left_out_by_its_name_or_by_where_it_lies() {
    let manifest = oras(&[titled("a"), directory("data/docs", "dir")]);
    let without = ["= oras", "a 444 raw a", "- data/docs"];
    for pair in [
        ("exclude", "data/docs"),
        ("exclude", "data/docs/**"),
        ("exclude", "data/**"),
        ("include", "a"),
        ("include", "a\ndata/other/**"),
        ("include", "{a,b}"),
    ] {
        // What is certainly left out cannot be an error either.
        for tar in ["expand", "reject"] {
            assert_lines(plan_with(&manifest, &[pair, ("tar", tar)]), &without);
        }
    }
    let tar = "tar dir+gzip within:data/docs fallback:data/docs plain:dir unpacked files";
    for pair in [("include", "a\n**/x.md"), ("exclude", "data/docs/x"), ("include", "{a,*/*/b}")] {
        assert_lines(plan_with(&manifest, &[pair]), &["= oras", "a 444 raw a", tar]);
    }
    assert_lines(plan_with(&manifest, &[("subPath", "data/docs/deep")]), &["= oras", tar, "- a"]);
    let only = oras(&[directory("d", "dir")]);
    assert!(matches!(plan_with(&only, &[("exclude", "d")]), Err(LayoutError::NothingLeft { files: 1 })));
    assert!(matches!(plan_with(&only, &[("subPath", "e")]), Err(LayoutError::NoSubPath { .. })));
}

#[test]
fn one_directory_twice_is_one_tar() {
    let manifest = oras(&[directory("d", "dir"), directory("d", "dir"), directory("e", "dir")]);
    let plan = plan_default(&manifest).unwrap();
    assert_eq!(plan.family, Family::Oras);
    assert_eq!(
        lines(&plan),
        [
            "= oras",
            "tar dir+gzip within:d fallback:d plain:dir unpacked files",
            "tar dir+gzip within:e fallback:e plain:dir unpacked files",
        ]
    );
    assert_eq!(plan.layout.total_bytes(), 3);
}

#[test]
fn an_absolute_title_is_refused_in_one_sentence() {
    let manifest = oras(&[layer(TAR, "x", &[(TITLE, "/etc/passwd")])]);
    let expected = format!(
        "layer 0 ({}, {TAR}) is named by the annotation `{TITLE}`, which is refused: the path `/etc/passwd` is \
         absolute: only paths relative to the volume are allowed",
        digest("x")
    );
    assert_refused(plan_default(&manifest), &expected);
}
