//! Names and places by the rules for any artifact.

use serde_json::{Value, json};
use stowage_artifact::{LayoutError, Manifest, PathError, PlanOptions, RelativePath};

use crate::fixture::{
    EMPTY, FILEPATH, ORAS_CONFIG, TAR, TITLE, UNPACK, assert_lines, digest, layer, options, oras, paths,
    plan_default, plan_with, show, titled,
};

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
    let note = "# 1 of the artifact's layers have no name of their own";
    let one = oras(&[titled("named"), layer("application/wasm", "x", &[])]);
    assert_lines(plan_default(&one), &["= oras", "blob.wasm 444 raw x", "named 444 raw named", note]);
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
    assert_eq!(show(&plan_default(&manifest).unwrap().layout), ["map.json 444 {}"]);
    let nothing = plan_default(&oras(&[empty])).unwrap_err();
    assert!(matches!(&nothing, LayoutError::NoFiles { kind } if kind == "application/vnd.acme.thing"));
    assert!(matches!(plan_default(&oras(&[])), Err(LayoutError::NoFiles { .. })));
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
    assert_eq!(show(&same.layout), ["X 444 2", "x 444 1", "y 444 1"]);
    let without = plan_with(&oras(&[at("1", "x"), at("2", "x"), at("3", "y")]), &[("exclude", "x")]);
    assert_eq!(paths(&without.unwrap().layout), ["y"]);
}

#[test]
fn one_blob_as_it_is_and_decoded_are_two_files() {
    let manifest = oras(&[
        layer("a/b+gzip", "z", &[(TITLE, "x")]),
        layer("a/b", "z", &[(TITLE, "y")]),
        layer("a/b+gzip", "z", &[(TITLE, "x")]),
    ]);
    assert_lines(plan_default(&manifest), &["= oras", "x 444 gzip z", "y 444 raw z"]);
    let same = oras(&[layer("a/b+gzip", "z", &[(TITLE, "x")]), layer("a/b", "z", &[(TITLE, "x")])]);
    assert!(matches!(plan_default(&same), Err(LayoutError::SamePath { .. })));
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
    let error = plan_default(&oras(&[layer("a/b", "x", &[(TITLE, "x")]), liar.clone()])).unwrap_err();
    assert!(matches!(error, LayoutError::SizesDiffer { first: 1, second: 2, .. }));
    let tar = layer(TAR, "x", &[]);
    assert!(matches!(plan_default(&oras(&[tar, liar])), Err(LayoutError::SizesDiffer { .. })));
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
fn urls_of_a_descriptor_mean_nothing() {
    let mut foreign = titled("a");
    foreign["urls"] = json!(["https://elsewhere.example/a"]);
    assert_eq!(plan_default(&oras(&[foreign])), plan_default(&oras(&[titled("a")])));
}

#[test]
fn options_default_to_everything_as_files() {
    let with_reference = PlanOptions { reference: options(&[]).reference, ..PlanOptions::default() };
    assert_eq!(with_reference, options(&[]));
    assert_eq!((PlanOptions::default().tar, PlanOptions::default().allow_filesystem_layers), (None, false));
    assert_eq!(RelativePath::parse("a").unwrap().to_string(), "a");
}
