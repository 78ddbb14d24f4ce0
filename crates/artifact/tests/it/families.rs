//! Manifest in, layout out, family by family.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stowage_artifact::{
    Family, LayoutError, LayoutMode, Manifest, PathError, Plan, PlanOptions, RelativePath, TarMode,
    VolumeAttributes, needs_config, plan,
};

use crate::fixture::{
    EMPTY, ORAS_CONFIG, digest, layer, manifest_json, oras, parse, paths, plan_default, show, titled,
};

const TITLE: &str = "org.opencontainers.image.title";
const FILEPATH: &str = "org.cncf.model.filepath";
const UNPACK: &str = "io.deis.oras.content.unpack";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MODEL: &str = "application/vnd.cncf.model.manifest.v1+json";
const MODEL_CONFIG: &str = "application/vnd.cncf.model.config.v1+json";

/// An annotation or an attribute.
type Pair<'a> = (&'a str, &'a str);

fn options(pairs: &[(&str, &str)]) -> PlanOptions {
    let mut map = BTreeMap::from([("reference".to_owned(), "a/b".to_owned())]);
    map.extend(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    PlanOptions::from(&VolumeAttributes::parse(&map).unwrap())
}

fn plan_with(manifest: &Manifest, pairs: &[(&str, &str)]) -> Result<Plan, LayoutError> {
    plan(manifest, None, &options(pairs))
}

fn excluded(plan: &Plan) -> Vec<&str> {
    plan.excluded.iter().map(|excluded| excluded.path.as_str()).collect()
}

fn modelpack(layers: &[Value]) -> Manifest {
    parse(&manifest_json(Some(MODEL), MODEL_CONFIG, layers))
}

#[test]
fn oras_titles_become_files() {
    let manifest = oras(&[
        titled("config.json"),
        layer(TAR, "plain", &[(TITLE, "weights/model.bin")]),
        layer("text/plain", "", &[(TITLE, "empty.txt")]),
    ]);
    let plan = plan_default(&manifest).unwrap();
    assert_eq!(plan.family, Family::Oras);
    let expected = ["config.json 444 config.json", "empty.txt 444 ", "weights/model.bin 444 plain"];
    assert_eq!(show(&plan.layout, &["config.json", "plain", ""]), expected);
    assert!(plan.notes.is_empty() && plan.excluded.is_empty());
    assert!(!needs_config(&manifest, &PlanOptions::default()));
}

#[test]
fn annotations_name_a_layer_in_their_order() {
    let names = [
        (FILEPATH, "cncf"),
        ("org.cnai.model.filepath", "cnai"),
        ("org.opencontainers.image.layer.path", "/path"),
        (TITLE, "title"),
    ];
    for (first, expected) in ["cncf", "cnai", "path", "title"].into_iter().enumerate() {
        let manifest = oras(&[layer("a/b", "x", &names[first..])]);
        assert_eq!(paths(&plan_default(&manifest).unwrap().layout), [expected]);
    }
}

#[test]
fn nameless_blobs_are_called_blob_or_by_their_digest() {
    let one = oras(&[titled("named"), layer("application/wasm", "x", &[])]);
    let plan = plan_default(&one).unwrap();
    assert_eq!(paths(&plan.layout), ["blob.wasm", "named"]);
    assert_eq!(plan.notes.len(), 1);
    assert_eq!(paths(&plan_default(&oras(&[layer("a/b", "x", &[])])).unwrap().layout), ["blob"]);
    let twice = oras(&[layer("a/b", "x", &[]), layer("a/b", "x", &[])]);
    assert_eq!(paths(&plan_default(&twice).unwrap().layout), ["blob"]);

    let several = oras(&[layer("application/json", "x", &[]), layer("a/b", "y", &[])]);
    let mut expected =
        [format!("sha256-{}.json", digest("x").hex()), format!("sha256-{}", digest("y").hex())];
    expected.sort();
    assert_eq!(paths(&plan_default(&several).unwrap().layout), expected);
}

#[test]
fn the_empty_descriptor_is_never_a_file_and_an_empty_object_with_a_name_is() {
    let empty = json!({"mediaType": ORAS_CONFIG, "digest": EMPTY, "size": 2, "data": "e30=", "annotations": {TITLE: "x"}});
    let object = |title: &[(&str, &str)]| layer("application/json", "{}", title);
    assert_eq!(digest("{}").to_string(), EMPTY);
    let manifest = oras(&[empty.clone(), object(&[]), object(&[(TITLE, "map.json")])]);
    assert_eq!(show(&plan_default(&manifest).unwrap().layout, &["{}"]), ["map.json 444 {}"]);
    let nothing = plan_default(&oras(&[empty])).unwrap_err();
    assert!(matches!(&nothing, LayoutError::NoFiles { kind } if kind == "application/vnd.acme.thing"));
    assert!(matches!(plan_default(&oras(&[])), Err(LayoutError::NoFiles { .. })));
}

#[test]
fn modelpack_paths_and_modes_come_from_its_annotations() {
    let metadata = r#"{"name":"run.sh","mode":493,"uid":0,"gid":0,"size":3,"mtime":"2025-01-01T00:00:00Z","typeflag":48}"#;
    let ordinary = r#"{"name":"w","mode":420,"typeflag":0}"#;
    let new = |kind: &str, content: &str, annotations: &[(&str, &str)]| {
        layer(&format!("application/vnd.cncf.model.{kind}"), content, annotations)
    };
    let manifest = modelpack(&[
        new(
            "weight.v1.raw",
            "w",
            &[(FILEPATH, "weights/a.safetensors"), ("org.cncf.model.file.metadata+json", ordinary)],
        ),
        new("weight.v1.gguf", "g", &[(FILEPATH, "b.gguf")]),
        new("weight.config.v1.raw", "c", &[(FILEPATH, "config.json"), (TITLE, "other-name")]),
        new(
            "weight.code.v1.raw",
            "s",
            &[(FILEPATH, "run.sh"), ("org.cncf.model.file.metadata+json", metadata)],
        ),
        new("novelty.v7.raw", "n", &[(FILEPATH, "n"), ("org.cncf.model.file.metadata+json", "{broken")]),
    ]);
    let plan = plan_default(&manifest).unwrap();
    assert_eq!(plan.family, Family::ModelPack);
    assert_eq!(
        show(&plan.layout, &["w", "g", "c", "s", "n"]),
        ["b.gguf 444 g", "config.json 444 c", "n 444 n", "run.sh 555 s", "weights/a.safetensors 444 w"]
    );
}

#[test]
fn the_former_name_of_modelpack_means_the_same() {
    let manifest = parse(&manifest_json(
        Some("application/vnd.cnai.model.manifest.v1+json"),
        "application/vnd.cnai.model.config.v1+json",
        &[layer(
            "application/vnd.cnai.model.code.v1.raw",
            "s",
            &[
                ("org.cnai.model.filepath", "bin/run"),
                ("org.cnai.model.file.metadata+json", r#"{"mode":365}"#),
            ],
        )],
    ));
    let plan = plan_default(&manifest).unwrap();
    assert_eq!(
        (plan.family, show(&plan.layout, &["s"])),
        (Family::ModelPackLegacy, vec!["bin/run 555 s".to_owned()])
    );
}

#[test]
fn modelpack_tars_are_tars_even_with_a_path() {
    let tar = |codec: &str| {
        layer(&format!("application/vnd.cncf.model.dataset.v1.{codec}"), "t", &[(FILEPATH, "data/set")])
    };
    for (codec, name) in
        [("tar", "data/set.tar"), ("tar+gzip", "data/set.tar.gz"), ("tar+zstd", "data/set.tar.zst")]
    {
        let manifest = modelpack(&[tar(codec)]);
        assert!(matches!(plan_default(&manifest), Err(LayoutError::NeedsTarView { .. })), "{codec}");
        assert_eq!(paths(&plan_with(&manifest, &[("tar", "file")]).unwrap().layout), [name]);
    }
}

#[test]
fn modelpack_metadata_of_what_is_no_file_is_refused() {
    let link = layer(
        "application/vnd.cncf.model.code.v1.raw",
        "x",
        &[(FILEPATH, "x"), ("org.cncf.model.file.metadata+json", r#"{"typeflag":50}"#)],
    );
    let error = plan_default(&modelpack(&[link])).unwrap_err();
    assert!(matches!(error, LayoutError::NotAFile { kind: "symbolic link", .. }));
}

#[test]
fn raw_layers_stand_at_their_path_in_the_image() {
    let raw = |content: &str, path: &str| {
        layer(
            "application/vnd.oci.image.layer.v1.raw",
            content,
            &[("org.opencontainers.image.layer.path", path)],
        )
    };
    let config = "application/vnd.oci.image.config.v1+json";
    let manifest = parse(&manifest_json(None, config, &[raw("a", "/models/a.bin"), raw("b", "b.bin")]));
    let plan = plan_default(&manifest).unwrap();
    assert_eq!(plan.family, Family::RawLayer);
    assert_eq!(show(&plan.layout, &["a", "b"]), ["b.bin 444 b", "models/a.bin 444 a"]);
    for hostile in ["//etc/passwd", "/", "/../x", ""] {
        let error = plan_default(&oras(&[raw("x", hostile)])).unwrap_err();
        assert!(matches!(error, LayoutError::Path { .. }), "{hostile}: {error}");
    }
}

#[test]
fn tars_need_a_later_version_unless_they_are_taken_as_files() {
    let table: Vec<(&str, Vec<Pair<'_>>, Option<&str>)> = vec![
        (TAR_GZIP, vec![], Some("blob.tar.gz")),
        (TAR, vec![], Some("blob.tar")),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", vec![], Some("blob.tar.gz")),
        ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", vec![], Some("blob.tar.gz")),
        (TAR_GZIP, vec![(TITLE, "dir"), (UNPACK, "true")], Some("dir.tar.gz")),
        ("application/vnd.acme.dir", vec![(TITLE, "dir"), (UNPACK, "true")], Some("dir.tar.gz")),
        (TAR_GZIP, vec![(TITLE, "dir.TGZ"), (UNPACK, "true")], Some("dir.TGZ")),
        (TAR_GZIP, vec![(TITLE, ".tar"), (UNPACK, "true")], Some(".tar.tar.gz")),
        (TAR_GZIP, vec![(TITLE, "x.tgz"), (UNPACK, "false")], None),
        (TAR_GZIP, vec![(TITLE, "x")], None),
    ];
    for (media_type, annotations, as_file) in table {
        let manifest = oras(&[layer(media_type, "t", &annotations)]);
        match as_file {
            Some(name) => {
                let error = plan_default(&manifest).unwrap_err();
                assert!(matches!(error, LayoutError::NeedsTarView { .. }), "{media_type} {annotations:?}");
                assert!(error.to_string().contains("`tar: file`") && error.to_string().contains("layer 0"));
                assert_eq!(paths(&plan_with(&manifest, &[("tar", "file")]).unwrap().layout), [name]);
                let error = plan_with(&manifest, &[("tar", "reject")]).unwrap_err();
                assert!(matches!(error, LayoutError::TarRejected { .. }));
            }
            None => {
                for tar in ["expand", "file", "reject"] {
                    let plan = plan_with(&manifest, &[("tar", tar)]).unwrap();
                    assert_eq!(paths(&plan.layout), [annotations[0].1]);
                }
            }
        }
    }
}

#[test]
fn a_directory_can_be_excluded_by_its_name() {
    let manifest = oras(&[titled("a"), layer(TAR_GZIP, "t", &[(TITLE, "docs"), (UNPACK, "true")])]);
    let plan = plan_with(&manifest, &[("exclude", "docs")]).unwrap();
    assert_eq!((paths(&plan.layout), excluded(&plan)), (vec!["a".to_owned()], vec!["docs"]));
    assert!(matches!(plan_with(&manifest, &[("include", "a")]), Err(LayoutError::NeedsTarView { .. })));
    assert!(matches!(
        plan_with(&oras(&[layer(TAR, "t", &[(TITLE, "d"), (UNPACK, "true")])]), &[("exclude", "d")]),
        Err(LayoutError::NothingLeft { files: 1 })
    ));
}

#[test]
fn an_image_needs_its_tars_expanded() {
    for (config, tar) in [
        ("application/vnd.oci.image.config.v1+json", TAR_GZIP),
        (
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ] {
        let manifest = parse(&manifest_json(None, config, &[layer(tar, "1", &[]), layer(tar, "2", &[])]));
        assert!(matches!(plan_default(&manifest), Err(LayoutError::NeedsTarView { .. })));
        let plan = plan_with(&manifest, &[("tar", "file")]).unwrap();
        assert_eq!(plan.family, Family::Image);
        assert!(
            paths(&plan.layout).iter().all(|path| path.starts_with("sha256-") && path.ends_with(".tar.gz"))
        );
    }
    let titled_layer = layer(TAR, "x", &[(TITLE, "x")]);
    let artifact = parse(&manifest_json(None, "application/vnd.oci.image.config.v1+json", &[titled_layer]));
    assert_eq!(plan_default(&artifact).unwrap().family, Family::Oras);
}

#[test]
fn compressed_raw_blobs_need_a_later_version() {
    for (media_type, codec) in [
        ("application/vnd.acme.data+gzip", "gzip"),
        ("application/vnd.cncf.model.weight.v1.raw+zstd", "zstd"),
    ] {
        let manifest = oras(&[layer(media_type, "z", &[(TITLE, "data")]), titled("a")]);
        let error = plan_default(&manifest).unwrap_err();
        assert!(
            matches!(&error, LayoutError::NeedsDecoding { codec: found, .. } if *found == codec),
            "{error}"
        );
        assert_eq!(paths(&plan_with(&manifest, &[("exclude", "data")]).unwrap().layout), ["a"]);
        let chosen = plan_with(&manifest, &[("files", "[{select: {title: data}, path: d}]")]);
        assert!(matches!(chosen, Err(LayoutError::NeedsDecoding { .. })));
    }
    assert_eq!(
        paths(&plan_default(&oras(&[layer("application/gzip", "z", &[(TITLE, "a.gz")])])).unwrap().layout),
        ["a.gz"]
    );
}

#[test]
fn filesystem_images_are_files_with_a_name_and_refused_without() {
    for media_type in ["application/vnd.erofs.layer.v1", "application/vnd.oci.image.layer.v1.squashfs"] {
        assert!(matches!(
            plan_default(&oras(&[layer(media_type, "x", &[])])),
            Err(LayoutError::FilesystemLayer { .. })
        ));
        assert_eq!(
            paths(&plan_default(&oras(&[layer(media_type, "x", &[(TITLE, "i")])])).unwrap().layout),
            ["i"]
        );
    }
}

#[test]
fn families_of_later_versions_are_named_in_a_note() {
    let manifest = parse(&manifest_json(
        None,
        "application/vnd.docker.container.image.v1+json",
        &[
            layer("application/vnd.ollama.image.model", "m", &[]),
            layer("application/vnd.ollama.image.license", "l", &[]),
        ],
    ));
    let plan = plan_default(&manifest).unwrap();
    assert_eq!(plan.family, Family::Oras);
    assert!(plan.notes[0].contains("Ollama"), "{:?}", plan.notes);
    assert!(matches!(
        plan_with(&manifest, &[("layout", "ollama")]),
        Err(LayoutError::Unsupported { layout: LayoutMode::Ollama })
    ));
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
    assert_eq!(show(&plan.layout, &["a", "b"]), ["c 444 b", "cron/x 444 a"]);
    assert_eq!(plan.excluded.len(), 2);
    let plan = choice(&format!("[{{select: {{digest: '{}'}}, path: layer.tgz}}]", digest("t"))).unwrap();
    assert_eq!(show(&plan.layout, &["t"]), ["layer.tgz 444 t"]);
    let plan = choice("[{select: {mediaType: application/json}, path: j}, {select: {mediaType: application/json}, path: k}]").unwrap();
    assert_eq!(show(&plan.layout, &["j"]), ["j 444 j", "k 444 j"]);
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
fn colliding_paths_are_refused_with_both_named() {
    let at = |content: &str, path: &str| layer("a/b", content, &[(TITLE, path)]);
    let error = plan_default(&oras(&[at("1", "x"), at("2", "x")])).unwrap_err();
    let LayoutError::SamePath { path, first, second } = &error else { panic!("{error}") };
    assert_eq!(path.as_str(), "x");
    assert!(first.contains(digest("1").hex()) && second.contains(digest("2").hex()));

    for pair in [["d", "d/f"], ["d/f", "d"], ["d/e/f/g", "d/e"]] {
        let error = plan_default(&oras(&[at("1", pair[0]), at("-", "d-"), at("2", pair[1])])).unwrap_err();
        assert!(matches!(error, LayoutError::FileIsDirectory { .. }), "{pair:?}");
    }
    let same = plan_default(&oras(&[at("1", "x"), at("1", "x"), at("1", "y"), at("2", "X")])).unwrap();
    assert_eq!(show(&same.layout, &["1", "2"]), ["X 444 2", "x 444 1", "y 444 1"]);
    assert_eq!(
        paths(
            &plan_with(&oras(&[at("1", "x"), at("2", "x"), at("3", "y")]), &[("exclude", "x")])
                .unwrap()
                .layout
        ),
        ["y"]
    );
}

#[test]
fn one_blob_stands_at_most_a_thousand_times_and_has_one_size() {
    let copies = |count: usize| -> Manifest {
        let layers: Vec<Value> =
            (0..count).map(|n| layer("a/b", "x", &[(TITLE, &format!("f{n}"))])).collect();
        oras(&layers)
    };
    let plan = plan_default(&copies(1000)).unwrap();
    assert_eq!(
        (plan.layout.entries().len(), plan.layout.total_bytes(), plan.layout.apparent_bytes()),
        (1000, 1, 1000)
    );
    assert!(matches!(plan_default(&copies(1001)), Err(LayoutError::ManyCopies { copies: 1001, .. })));

    let mut liar = layer("a/b", "x", &[(TITLE, "y")]);
    liar["size"] = json!(2);
    let error = plan_default(&oras(&[layer("a/b", "x", &[(TITLE, "x")]), liar])).unwrap_err();
    assert!(matches!(error, LayoutError::SizesDiffer { first: 1, second: 2, .. }));
}

#[test]
fn a_bad_name_is_refused_with_its_layer_and_annotation() {
    let error = plan_default(&oras(&[titled("ok"), layer("a/b", "x", &[(FILEPATH, "../../etc/cron.d/x")])]))
        .unwrap_err();
    let LayoutError::Path { layer: named, annotation, source } = &error else { panic!("{error}") };
    assert!(named.starts_with("layer 1 (sha256:"));
    assert_eq!((*annotation, matches!(source, PathError::DotComponent { .. })), (FILEPATH, true));
    let long = "n".repeat(255);
    let tar = oras(&[layer(TAR, "t", &[(TITLE, &long), (UNPACK, "true")])]);
    assert!(matches!(plan_with(&tar, &[("tar", "file")]), Err(LayoutError::Name { .. })));
}

#[test]
fn bytes_carried_by_the_manifest_need_no_fetch() {
    let mut carried = layer("a/b", "hello", &[(TITLE, "a")]);
    carried["data"] = json!("aGVsbG8=");
    let mut lying = layer("a/b", "other", &[(TITLE, "b")]);
    lying["data"] = json!("aGVsbG8=");
    let plan = plan_default(&oras(&[carried.clone(), lying])).unwrap();
    let inline: Vec<_> =
        plan.layout.inline().iter().map(|(digest, bytes)| (digest.clone(), bytes.clone())).collect();
    assert_eq!(inline, [(digest("hello"), b"hello".to_vec())]);
    let without = plan_with(&oras(&[carried, titled("c")]), &[("exclude", "a")]).unwrap();
    assert!(without.layout.inline().is_empty());
}

#[test]
fn options_default_to_everything_as_files() {
    assert_eq!(PlanOptions::default(), options(&[]));
    assert_eq!(PlanOptions::default().tar, TarMode::Expand);
    assert_eq!(RelativePath::parse("a").unwrap().to_string(), "a");
}
