//! Parts of trees.

use stowage_artifact::RelativePath;
use stowage_erofs::{MergeError, Rules, Selection};

use crate::made::{Tar, merged_and, shown};

fn sample() -> [Tar; 1] {
    [Tar::new()
        .file("model/a.bin", b"1")
        .hard_link("docs/link", "model/a.bin")
        .file("docs/readme", b"22")
        .directory("docs/empty/")
        .symlink("docs/up", "../model")
        .link(b'6', "docs/deep/pipe", "")]
}

fn select(sub_path: Option<&str>, keep: &dyn Fn(&str) -> bool) -> Result<Vec<String>, MergeError> {
    let sub_path = sub_path.map(|path| RelativePath::parse(path).unwrap());
    let selection = Selection { sub_path: sub_path.as_ref(), keep: Some(keep) };
    merged_and(&sample(), Rules::Files, selection, shown)
}

#[test]
fn what_is_not_wanted_is_not_judged() {
    let no_pipe = |path: &str| !path.ends_with("pipe");
    let all = [
        "docs/",
        "docs/empty/",
        "docs/link=1@0 x2",
        "docs/readme=2@0",
        "docs/up -> ../model",
        "model/",
        "model/a.bin=1@0 x2",
    ];
    assert_eq!(select(None, &no_pipe).unwrap(), all);
    assert!(matches!(select(None, &|_| true), Err(MergeError::Special { .. })));
}

#[test]
fn directories_follow_what_is_in_them() {
    assert_eq!(select(None, &|path| path == "docs/readme").unwrap(), ["docs/", "docs/readme=2@0"]);
    assert_eq!(select(None, &|path| path.ends_with("empty")).unwrap(), ["docs/", "docs/empty/"]);
    assert!(select(None, &|_| false).unwrap().is_empty());
}

#[test]
fn a_hard_link_keeps_its_content_without_its_target() {
    assert_eq!(select(None, &|path| path == "docs/link").unwrap(), ["docs/", "docs/link=1@0"]);
}

#[test]
fn a_sub_path_becomes_the_root() {
    assert_eq!(select(Some("model"), &|_| true).unwrap(), ["a.bin=1@0"]);
    // The paths that are asked for are whole.
    assert_eq!(select(Some("docs"), &|path| path == "docs/readme").unwrap(), ["readme=2@0"]);
    let leads_out = select(Some("docs"), &|path| path == "docs/up");
    assert!(matches!(leads_out, Err(MergeError::Symlink { .. })), "{leads_out:?}");
    assert!(matches!(select(Some("none/x"), &|_| true), Err(MergeError::NoSubPath { .. })));
    assert!(matches!(select(Some("docs/up"), &|_| true), Err(MergeError::SubPathIsNoDirectory { .. })));
}

#[test]
fn only_tars_that_are_pointed_into_are_devices() {
    let tars = [Tar::new().file("a", b"1"), Tar::new().file("b", b""), Tar::new().file("c", b"1")];
    let devices = |keep: &dyn Fn(&str) -> bool| {
        merged_and(&tars, Rules::Files, Selection { keep: Some(keep), sub_path: None }, |tree| {
            tree.devices().iter().map(|device| device.blob.to_owned()).collect::<Vec<_>>()
        })
        .unwrap()
    };
    assert_eq!(devices(&|_| true), ["0", "2"]);
    assert_eq!(devices(&|path| path == "c"), ["2"]);
    assert!(devices(&|path| path == "b").is_empty());
}
