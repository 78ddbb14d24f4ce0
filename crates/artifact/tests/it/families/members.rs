//! What the attributes do to members of tars, whose names are known only once the bytes are here.

use stowage_artifact::Layout;

use crate::fixture::{
    FILEPATH, IMAGE_CONFIG, TAR, TITLE, UNPACK, artifact, layer, lines, oras, plan_with, titled,
};

/// Keys and values.
type Attributes<'a> = &'a [(&'a str, &'a str)];

fn layout(pairs: &[(&str, &str)]) -> Layout {
    let tars = [layer(TAR, "t", &[(TITLE, "data"), (UNPACK, "true")]), layer(TAR, "u", &[])];
    plan_with(&oras(&tars), pairs).unwrap().layout
}

#[test]
fn members_are_placed_as_files_are() {
    let table: &[(Attributes<'_>, &str, Option<&str>)] = &[
        (&[], "data/a", Some("data/a")),
        (&[("include", "data/*.csv")], "data/a.csv", Some("data/a.csv")),
        (&[("include", "data/*.csv")], "data/deep/a.csv", None),
        (&[("include", "**/*.csv")], "data/deep/a.csv", Some("data/deep/a.csv")),
        (&[("exclude", "**/*.tmp")], "data/x.tmp", None),
        (&[("exclude", "**/*.tmp")], "x.tmp", None),
        (&[("exclude", "**/*.tmp")], "data/x", Some("data/x")),
        (&[("include", "data/**"), ("exclude", "data/a")], "data/a", None),
        (&[("include", "data/**"), ("exclude", "data/a")], "data/b", Some("data/b")),
        (&[("subPath", "data")], "data/a/b", Some("a/b")),
        (&[("subPath", "data")], "data", None),
        (&[("subPath", "data")], "database", None),
        (&[("subPath", "data/a")], "data/a/b", Some("b")),
        // Patterns are matched against the whole path in the artifact.
        (&[("subPath", "data"), ("include", "*.csv")], "data/a.csv", None),
        (&[("subPath", "data"), ("include", "data/*.csv")], "data/a.csv", Some("a.csv")),
        (&[("subPath", "data"), ("exclude", "data/a")], "data/a", None),
    ];
    for (pairs, path, expected) in table {
        let layout = layout(pairs);
        assert_eq!(layout.filter().place(path), *expected, "{pairs:?} {path}");
        assert_eq!(layout.filter().matches(path), expected.is_some());
    }
}

#[test]
fn the_filter_of_a_plan_says_what_the_attributes_said() {
    let plain = layout(&[]);
    assert!(plain.filter().is_everything());
    let filtered = layout(&[("include", "data/**\na"), ("exclude", "b"), ("subPath", "data")]);
    let filter = filtered.filter();
    assert!(!filter.is_everything());
    assert_eq!(
        (filter.include(), filter.exclude()),
        (&["a".to_owned(), "data/**".to_owned()][..], &["b".to_owned()][..])
    );
    assert_eq!(filter.sub_path().map(ToString::to_string).as_deref(), Some("data"));
    assert_eq!(filter, layout(&[("include", "a\ndata/**"), ("exclude", "b"), ("subPath", "data")]).filter());
    assert_ne!(filter, plain.filter());
}

#[test]
fn a_tar_is_fetched_wherever_one_of_its_members_might_be_shown() {
    let dataset = layer("application/vnd.cncf.model.dataset.v1.tar", "t", &[(FILEPATH, "data/set")]);
    let manifest = artifact(
        Some("application/vnd.cncf.model.manifest.v1+json"),
        IMAGE_CONFIG,
        &[dataset, layer("application/vnd.cncf.model.doc.v1.raw", "d", &[(FILEPATH, "README.md")])],
    );
    let readme = "README.md 444 raw d";
    let tar = "tar t fallback:data/set files";
    let table: &[(Attributes<'_>, &[&str])] = &[
        (&[("include", "*.md")], &[readme, "- data/set"][..]),
        (&[("include", "*.md\ndata/other/**")], &[readme, "- data/set"]),
        (&[("include", "*.md\ndata/set")], &[readme, tar]),
        (&[("include", "*.md\ndata/*/x")], &[readme, tar]),
        // The tar might turn out to be a file of this name, which this pattern would not leave out.
        (&[("exclude", "data/set/**")], &[readme, tar]),
        (&[("exclude", "data/**")], &[readme, "- data/set"]),
        (&[("exclude", "data/set")], &[readme, "- data/set"]),
        (&[("exclude", "data/set/part")], &[readme, tar]),
        (&[("subPath", "data")], &[tar, "- README.md"]),
        (&[("subPath", "data/set/part")], &[tar, "- README.md"]),
    ];
    for (pairs, expected) in table {
        let plan = plan_with(&manifest, pairs).unwrap();
        assert_eq!(lines(&plan)[1..], **expected, "{pairs:?}");
        let fetches = expected.contains(&tar);
        assert_eq!(plan.layout.blobs().contains_key(&crate::fixture::digest("t")), fetches);
    }
}

#[test]
fn files_beside_tars_have_been_filtered_already() {
    let manifest = oras(&[titled("w/a"), titled("b"), layer(TAR, "t", &[])]);
    let plan = plan_with(&manifest, &[("subPath", "w")]).unwrap();
    assert_eq!(lines(&plan), ["= oras", "a 444 raw w/a", "tar t files", "- b"]);
}

#[test]
fn what_a_view_is_called_by_depends_on_what_it_shows_and_nothing_else() {
    let canonical = |layout: &Layout| serde_json::to_string(&layout.canonical()).unwrap();
    let manifest = |digest: &str, title: &str| {
        let annotations = [(TITLE, title), (UNPACK, "true"), ("io.deis.oras.content.digest", digest)];
        plan_with(&oras(&[titled("a"), layer(TAR, "t", &annotations)]), &[]).unwrap().layout
    };
    let claim = crate::fixture::digest("claimed").to_string();
    let plain = manifest("", "d");
    assert_eq!(canonical(&plain), canonical(&manifest(&claim, "d")));
    assert_ne!(canonical(&plain), canonical(&manifest("", "e")));
    let files = plan_with(&oras(&[titled("a")]), &[]).unwrap().layout;
    assert!(!canonical(&files).contains("tars"), "{}", canonical(&files));
}
