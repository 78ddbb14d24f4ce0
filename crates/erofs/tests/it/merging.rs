//! How members come to one tree.

use stowage_erofs::{MergeError, Rules, Selection};

use crate::made::{Tar, merged, merged_and};

fn tar() -> Tar {
    Tar::new()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn layers_of_an_image_lie_over_each_other() {
    let base = || tar().file("etc/a", b"1").file("etc/b", b"22").directory("var/").file("var/x/y", b"1");
    let table: Vec<(&str, Vec<Tar>, &[&str])> = vec![
        ("nothing", vec![], &[]),
        ("parents are made", vec![tar().file("a/b/c", b"1")], &["a/", "a/b/", "a/b/c=1@0"]),
        (
            "later wins",
            vec![base(), tar().file("etc/a", b"333")],
            &["etc/", "etc/a=3@1", "etc/b=2@0", "var/", "var/x/", "var/x/y=1@0"],
        ),
        (
            "whiteout",
            vec![base(), tar().file("etc/.wh.a", b"")],
            &["etc/", "etc/b=2@0", "var/", "var/x/", "var/x/y=1@0"],
        ),
        (
            "whiteout of a directory",
            vec![base(), tar().file(".wh.var", b"")],
            &["etc/", "etc/a=1@0", "etc/b=2@0"],
        ),
        (
            "whiteout of what is not there",
            vec![base(), tar().file("no/.wh.a", b"").file(".wh.none", b"")],
            &["etc/", "etc/a=1@0", "etc/b=2@0", "var/", "var/x/", "var/x/y=1@0"],
        ),
        (
            "a whiteout spares its own layer, before it",
            vec![base(), tar().file("etc/a", b"333").file("etc/.wh.a", b"")],
            &["etc/", "etc/a=3@1", "etc/b=2@0", "var/", "var/x/", "var/x/y=1@0"],
        ),
        (
            "and after it",
            vec![base(), tar().file(".wh.etc", b"").file("etc/c", b"333")],
            &["etc/", "etc/c=3@1", "var/", "var/x/", "var/x/y=1@0"],
        ),
        (
            "opaque",
            vec![base(), tar().file("etc/c", b"1").file("etc/.wh..wh..opq", b"")],
            &["etc/", "etc/c=1@1", "var/", "var/x/", "var/x/y=1@0"],
        ),
        (
            "opaque root",
            vec![base(), tar().file("n/c", b"1").file(".wh..wh..opq", b""), tar().file("m", b"")],
            &["m=0@-", "n/", "n/c=1@1"],
        ),
        (
            "opaque twice",
            vec![base(), tar().file("etc/.wh..wh..opq", b"").file("./etc/.wh..wh..opq", b"")],
            &["etc/", "var/", "var/x/", "var/x/y=1@0"],
        ),
        (
            "hidden and made again",
            vec![base(), tar().file("var/.wh.x", b""), tar().file("var/x/z", b"1")],
            &["etc/", "etc/a=1@0", "etc/b=2@0", "var/", "var/x/", "var/x/z=1@2"],
        ),
        (
            "marks of aufs",
            vec![base(), tar().directory(".wh..wh.plnk").file(".wh..wh.aufs", b"")],
            &["etc/", "etc/a=1@0", "etc/b=2@0", "var/", "var/x/", "var/x/y=1@0"],
        ),
        (
            "a file over a directory",
            vec![base(), tar().file("var", b"1")],
            &["etc/", "etc/a=1@0", "etc/b=2@0", "var=1@1"],
        ),
        (
            "a directory over a file",
            vec![base(), tar().directory("etc/a/").file("etc/a/b", b"1")],
            &["etc/", "etc/a/", "etc/a/b=1@1", "etc/b=2@0", "var/", "var/x/", "var/x/y=1@0"],
        ),
        (
            "a directory that nobody names over a symlink below",
            vec![tar().symlink("l", "etc"), tar().file("l/f", b"1")],
            &["l/", "l/f=1@1"],
        ),
        (
            "the last of one layer wins",
            vec![tar().file("a", b"1").file("a", b"22").symlink("b", "x").file("b", b"1")],
            &["a=2@0", "b=1@0"],
        ),
        (
            "hard links",
            vec![tar().file("a", b"1").hard_link("d/b", "./a").hard_link("c", "d/b")],
            &["a=1@0 x3", "c=1@0 x3", "d/", "d/b=1@0 x3"],
        ),
        (
            "a hard link to a lower layer",
            vec![tar().file("a", b"1"), tar().hard_link("b", "/a")],
            &["a=1@0 x2", "b=1@0 x2"],
        ),
        (
            "a hard link outlives its target",
            vec![tar().file("a", b"1").hard_link("b", "a"), tar().file(".wh.a", b"")],
            &["b=1@0"],
        ),
        (
            "a hard link to a symlink",
            vec![tar().symlink("a", "/etc").hard_link("b", "a")],
            &["a -> /etc", "b -> /etc"],
        ),
        ("leading slashes", vec![tar().file("/etc/a", b"1").directory("/")], &["etc/", "etc/a=1@0"]),
        (
            "sorted by bytes",
            vec![tar().file("a-b", b"").file("a/b", b"").file("a.b", b"").file("A", b"")],
            &["A=0@-", "a/", "a/b=0@-", "a-b=0@-", "a.b=0@-"],
        ),
    ];
    for (what, layers, expected) in table {
        assert_eq!(merged(&layers, Rules::RootFilesystem).unwrap(), expected, "{what}");
    }
}

#[test]
fn what_an_image_may_not_hold_is_left_out_and_listed() {
    let layers = [
        tar().file("dev/null", b"1").file("dev/keep", b"1").file("run/pipe", b"1"),
        tar().link(b'3', "dev/null", "").link(b'4', "dev/sda", "").link(b'6', "run/pipe", ""),
    ];
    merged_and(&layers, Rules::RootFilesystem, Selection::default(), |tree| {
        assert_eq!(crate::made::shown(tree), ["dev/", "dev/keep=1@0", "run/"]);
        let skipped: Vec<_> = tree.skipped().iter().map(|skipped| skipped.path.as_slice()).collect();
        assert_eq!(skipped, [&b"dev/null"[..], b"run/pipe", b"dev/sda"]);
    })
    .unwrap();
}

#[test]
fn other_tars_hold_what_they_say() {
    let table: Vec<(&str, Vec<Tar>, &[&str])> = vec![
        (
            "dots and slashes",
            vec![tar().directory("./").directory("./a/").file("./a/b", b"1")],
            &["a/", "a/b=1@0"],
        ),
        ("two tars", vec![tar().file("a/x", b"1"), tar().file("a/y", b"1")], &["a/", "a/x=1@0", "a/y=1@1"]),
        ("a directory twice", vec![tar().directory("a"), tar().directory("a/")], &["a/"]),
        ("a symlink twice", vec![tar().symlink("a", "b"), tar().symlink("a", "b")], &["a -> b"]),
        ("an empty file twice", vec![tar().file("a", b""), tar().file("a", b"")], &["a=0@-"]),
        ("names like whiteouts", vec![tar().file(".wh.a", b"1").file("a", b"1")], &[".wh.a=1@0", "a=1@0"]),
        (
            "a symlink inside",
            vec![tar().symlink("a/b", "../c").file("c", b"")],
            &["a/", "a/b -> ../c", "c=0@-"],
        ),
    ];
    for (what, tars, expected) in table {
        assert_eq!(merged(&tars, Rules::Files).unwrap(), expected, "{what}");
    }
}

#[test]
fn the_same_blob_twice_is_no_conflict() {
    let index = tar().file("a", b"123").hard_link("b", "a").directory("d").index();
    let layer = stowage_erofs::Layer { name: "tar", blob: "digest", index: &index };
    let layers = [layer; 2];
    let tree = stowage_erofs::merge(&layers, Rules::Files, Selection::default()).unwrap();
    assert_eq!(crate::made::shown(&tree), ["a=3@digest x2", "b=3@digest x2", "d/"]);
    assert_eq!(tree.devices().len(), 1);
    assert_eq!(tree.bytes(), 3);
}

type Expected = fn(&MergeError) -> bool;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_cannot_be_laid_together_is_refused_by_name() {
    use MergeError as E;
    use Rules::{Files, RootFilesystem};
    let deep = "d/".repeat(65);
    let sparse = [("GNU.sparse.major", "1"), ("GNU.sparse.name", "s")];
    let path: Expected = |e| matches!(e, E::Path { .. });
    let target: Expected = |e| matches!(e, E::LinkTarget { .. });
    let symlink: Expected = |e| matches!(e, E::Symlink { .. });
    let whiteout: Expected = |e| matches!(e, E::Whiteout { .. });
    let table: Vec<(Rules, &str, Vec<Tar>, Expected)> = vec![
        (
            Files,
            "two contents",
            vec![tar().file("a", b"1"), tar().file("a", b"1")],
            |e| matches!(e, E::Duplicate { path, first, second } if path == "a" && first == "0" && second == "1"),
        ),
        (
            Files,
            "two contents in one tar",
            vec![tar().file("a", b"1").file("./a", b"2")],
            |e| matches!(e, E::Duplicate { first, second, .. } if first == "0" && second == "0"),
        ),
        (Files, "file and directory", vec![tar().file("a", b"1"), tar().directory("a")], |e| {
            matches!(e, E::Duplicate { .. })
        }),
        (
            Files,
            "beneath a file",
            vec![tar().file("a", b"1"), tar().file("a/b", b"1")],
            |e| matches!(e, E::NotADirectory { layer, path, obstacle } if layer == "1" && path == "a/b" && obstacle == "a"),
        ),
        (Files, "beneath a symlink", vec![tar().symlink("a", ".").file("a/b", b"1")], |e| {
            matches!(e, E::NotADirectory { .. })
        }),
        (
            RootFilesystem,
            "beneath a symlink of its layer",
            vec![tar().symlink("a", "/").file("a/b", b"1")],
            |e| matches!(e, E::NotADirectory { .. }),
        ),
        (Files, "up", vec![tar().file("../a", b"1")], path),
        (RootFilesystem, "up", vec![tar().file("a/../../b", b"1")], path),
        (RootFilesystem, "hidden upwards", vec![tar().file("../.wh.a", b"")], path),
        (Files, "absolute", vec![tar().file("/a", b"1")], path),
        (Files, "control", vec![tar().file("a\nb", b"1")], path),
        (Files, "deep", vec![tar().pax(&[("path", &deep)]).directory("")], path),
        (Files, "the root is a file", vec![tar().file(".", b"")], |e| matches!(e, E::Root { .. })),
        (Files, "the root is a symlink", vec![tar().symlink(".", "a")], |e| matches!(e, E::Root { .. })),
        (
            Files,
            "link to nothing",
            vec![tar().hard_link("a", "b")],
            |e| matches!(e, E::LinkTarget { path, target, .. } if path == "a" && target == "b"),
        ),
        (Files, "link forwards", vec![tar().hard_link("a", "b").file("b", b"1")], target),
        (RootFilesystem, "link forwards", vec![tar().hard_link("a", "b").file("b", b"1")], target),
        (Files, "link upwards", vec![tar().hard_link("a", "../../etc/shadow")], target),
        (
            Files,
            "link to another tar",
            vec![tar().file("a", b"1"), tar().hard_link("b", "a")],
            |e| matches!(e, E::LinkTarget { layer, .. } if layer == "1"),
        ),
        (Files, "link to itself", vec![tar().hard_link("a", "a")], target),
        (Files, "link to a directory", vec![tar().directory("a").hard_link("b", "a")], |e| {
            matches!(e, E::LinkToDirectory { .. })
        }),
        (
            Files,
            "absolute symlink",
            vec![tar().symlink("a", "/etc/passwd")],
            |e| matches!(e, E::Symlink { path, target, .. } if path == "a" && target == "/etc/passwd"),
        ),
        (Files, "symlink out", vec![tar().symlink("a/b", "../../c")], symlink),
        (RootFilesystem, "symlink to nothing", vec![tar().symlink("a", "")], symlink),
        (
            Files,
            "device",
            vec![tar().link(b'3', "a", "")],
            |e| matches!(e, E::Special { path, .. } if path == "a"),
        ),
        (Files, "pipe", vec![tar().link(b'6', "a", "")], |e| matches!(e, E::Special { .. })),
        (
            RootFilesystem,
            "sparse",
            vec![tar().member(b'S', "a", b"", |_| {})],
            |e| matches!(e, E::Special { what, .. } if what.contains("sparse")),
        ),
        (
            Files,
            "sparse in pax",
            vec![tar().pax(&sparse).file("x", b"1")],
            |e| matches!(e, E::Special { path, what, .. } if path == "s" && what.contains("sparse")),
        ),
        (RootFilesystem, "another volume", vec![tar().member(b'M', "a", b"", |_| {})], |e| {
            matches!(e, E::Special { .. })
        }),
        (RootFilesystem, "whiteout of nothing", vec![tar().file("a/.wh.", b"")], whiteout),
        (RootFilesystem, "whiteout of ..", vec![tar().file("a/.wh...", b"")], whiteout),
    ];
    for (rules, what, tars, expected) in table {
        let error = merged(&tars, rules).unwrap_err();
        assert!(expected(&error), "{what} with {rules:?}: {error:?}");
    }
}

#[test]
fn a_file_in_an_unfilled_last_block_is_refused_by_name() {
    let whole = tar().file("whole", &[1; 512]).file("cut", &[1; 600]);
    let bytes = &whole.0[..whole.0.len() - 424];
    let index = crate::made::index(bytes).unwrap();
    let layers = [stowage_erofs::Layer { name: "layer", blob: "b", index: &index }];
    for rules in [Rules::Files, Rules::RootFilesystem] {
        let error = stowage_erofs::merge(&layers, rules, Selection::default()).unwrap_err();
        assert!(matches!(&error, MergeError::Unpadded { path, .. } if path == "cut"), "{error:?}");
        assert!(error.to_string().contains("tar: file"), "{error}");
    }
    let keep = |path: &str| path != "cut";
    let selection = Selection { keep: Some(&keep), sub_path: None };
    stowage_erofs::merge(&layers, Rules::Files, selection).unwrap();
}

#[test]
fn metadata_of_the_last_one_counts() {
    let layers = [
        tar().directory("d").file("d/f", b"1"),
        tar().member(b'5', "d/", b"", |h| {
            h[100..108].copy_from_slice(b"0007000\0");
            h[108..116].copy_from_slice(b"0001750\0");
        }),
    ];
    merged_and(&layers, Rules::RootFilesystem, Selection::default(), |tree| {
        let entry = |path: &str| tree.lookup(&path.parse().unwrap()).unwrap();
        assert_eq!((entry("d").mode, entry("d").uid, entry("d").links), (0o555, 1000, 2));
        assert_eq!((entry("d/f").mode, entry("d/f").mtime.seconds), (0o644, 1000));
        assert!(tree.lookup(&"d/g".parse().unwrap()).is_none());
        assert!(tree.lookup(&"d/f/x".parse().unwrap()).is_none());
    })
    .unwrap();
}
