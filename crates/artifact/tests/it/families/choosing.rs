//! The attributes `include`, `exclude`, `subPath` and `files`.

use stowage_artifact::{LayoutError, Plan, PlanOptions, plan};

use crate::fixture::{
    FILEPATH, Pair, TAR, TAR_GZIP, TITLE, UNPACK, assert_lines, digest, layer, oras, paths, plan_with, show,
    titled,
};

fn excluded(plan: &Plan) -> Vec<&str> {
    plan.excluded.iter().map(|excluded| excluded.path.as_str()).collect()
}

#[test]
fn include_and_exclude_choose_by_full_path_and_name_what_they_leave_out() {
    let manifest = oras(&["README.md", "config.json", "w/a.bin", "w/b.bin", "w/deep/c.json"].map(titled));
    let table: &[(&[Pair<'_>], &[&str])] = &[
        (&[("include", "*.json")], &["config.json"]),
        (&[("include", "**/*.json")], &["config.json", "w/deep/c.json"]),
        (&[("exclude", "w/**")], &["README.md", "config.json"]),
        (&[("include", "w/**\n*.md"), ("exclude", "**/b.bin")], &["README.md", "w/a.bin", "w/deep/c.json"]),
        (&[("subPath", "w")], &["a.bin", "b.bin", "deep/c.json"]),
        (&[("subPath", "w"), ("include", "w/*.bin")], &["a.bin", "b.bin"]),
        (&[("subPath", "w/deep")], &["c.json"]),
    ];
    for (pairs, expected) in table {
        let plan = plan_with(&manifest, pairs).unwrap();
        assert_eq!(paths(&plan.layout), *expected, "{pairs:?}");
        assert_eq!(plan.excluded.len() + expected.len(), 5);
    }
    let plan = plan_with(&manifest, &[("exclude", "**/*.bin")]).unwrap();
    assert_eq!(excluded(&plan), ["w/a.bin", "w/b.bin"]);
    assert_eq!((&plan.excluded[0].digest, plan.excluded[0].size), (&digest("w/a.bin"), 7));
    assert!(!plan.layout.blobs().contains_key(&digest("w/a.bin")));
}

#[test]
fn a_selection_that_leaves_nothing_says_why() {
    let manifest = oras(&["a", "w/b"].map(titled));
    assert_eq!(plan_with(&manifest, &[("include", "x")]).unwrap_err(), LayoutError::NothingLeft { files: 2 });
    assert_eq!(
        plan_with(&manifest, &[("subPath", "w"), ("exclude", "w/*")]).unwrap_err(),
        LayoutError::NothingLeft { files: 2 }
    );
    assert!(matches!(plan_with(&manifest, &[("subPath", "x")]), Err(LayoutError::NoSubPath { .. })));
    assert!(matches!(plan_with(&manifest, &[("subPath", "a")]), Err(LayoutError::SubPathIsFile { .. })));
    assert!(matches!(plan_with(&manifest, &[("subPath", "w/b")]), Err(LayoutError::SubPathIsFile { .. })));
    let broken = PlanOptions { include: vec!["[".to_owned()], ..PlanOptions::default() };
    assert!(matches!(plan(&manifest, None, &broken), Err(LayoutError::Pattern { .. })));
}

#[test]
fn files_are_chosen_and_renamed_by_the_user() {
    let manifest = oras(&[
        layer("text/plain", "a", &[(TITLE, "../../etc/cron.d/x")]),
        layer("text/plain", "b", &[(FILEPATH, "b"), (TITLE, "bee")]),
        layer(TAR_GZIP, "t", &[]),
        layer("application/json", "j", &[]),
    ]);
    let choice = |text: &str| plan_with(&manifest, &[("files", text)]);
    let plan =
        choice("[{select: {title: ../../etc/cron.d/x}, path: cron/x}, {select: {title: bee}, path: c}]")
            .unwrap();
    assert_eq!(show(&plan.layout), ["c 444 b", "cron/x 444 a"]);
    assert_eq!(plan.excluded.len(), 2);
    let plan = choice(&format!("[{{select: {{digest: '{}'}}, path: layer.tgz}}]", digest("t"))).unwrap();
    assert_eq!(show(&plan.layout), ["layer.tgz 444 t"]);
    let plan = choice("[{select: {mediaType: application/json}, path: j}, {select: {mediaType: application/json}, path: k}]").unwrap();
    assert_eq!(show(&plan.layout), ["j 444 j", "k 444 j"]);
    assert_eq!((plan.layout.total_bytes(), plan.layout.apparent_bytes()), (1, 2));

    assert!(matches!(choice("[{select: {title: zzz}, path: x}]"), Err(LayoutError::NoSuchLayer { .. })));
    assert!(matches!(
        choice("[{select: {mediaType: text/plain, title: zzz}, path: x}]"),
        Err(LayoutError::NoSuchLayer { .. })
    ));
    let several = choice("[{select: {mediaType: text/plain}, path: x}]").unwrap_err();
    assert!(matches!(several, LayoutError::ManySuchLayers { count: 2, .. }));
    let inside = choice("[{select: {title: b}, path: x}, {select: {title: bee}, path: x/y}]");
    assert!(matches!(inside, Err(LayoutError::FileIsDirectory { .. })));
}

#[test]
fn what_is_chosen_is_one_file_and_decoded_unless_it_is_a_tar() {
    let metadata = ("org.cncf.model.file.metadata+json", r#"{"mode":493,"size":9}"#);
    let manifest = oras(&[
        layer(TAR_GZIP, "dir", &[(TITLE, "d"), (UNPACK, "true")]),
        layer(TAR, "tar", &[]),
        layer("a/b+zstd", "packed", &[(TITLE, "p"), metadata]),
        layer("application/vnd.erofs.layer.v1+zstd", "image", &[]),
        layer("application/vnd.stacker.image.layer.squashfs+zstd+verity", "squash", &[]),
    ]);
    let files = "
        - {select: {title: d}, path: out/d.tgz}
        - {select: {mediaType: application/vnd.oci.image.layer.v1.tar}, path: out/t}
        - {select: {title: p}, path: out/p}
        - {select: {title: p}, path: out/p.zst}
        - {select: {mediaType: application/vnd.erofs.layer.v1+zstd}, path: out/i.erofs}
        - {select: {mediaType: application/vnd.stacker.image.layer.squashfs+zstd+verity}, path: out/s}";
    let all = [
        "= oras",
        "d.tgz 444 raw dir",
        "i.erofs 444 zstd image",
        "p 555 zstd packed bytes:9",
        "p.zst 555 raw packed",
        "s 444 raw squash",
        "t 444 raw tar",
    ];
    for tar in ["expand", "file", "reject"] {
        assert_lines(plan_with(&manifest, &[("files", files), ("tar", tar), ("subPath", "out")]), &all);
    }
    let some = plan_with(&manifest, &[("files", files), ("include", "out/[dt]*"), ("exclude", "**/*.tgz")]);
    assert_lines(
        some,
        &["= oras", "out/t 444 raw tar", "- out/d.tgz", "- out/p", "- out/p.zst", "- out/i.erofs", "- out/s"],
    );
}

#[test]
fn layers_that_were_not_chosen_are_listed_by_name_or_number() {
    let manifest = oras(&[titled("a"), titled("b"), layer("a/b", "c", &[])]);
    let plan = plan_with(&manifest, &[("files", "[{select: {title: a}, path: x}]")]).unwrap();
    let label = format!("layer 2 ({}, a/b)", digest("c"));
    assert_eq!(excluded(&plan), ["b", &label]);
}
