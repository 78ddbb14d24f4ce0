//! Views: trees of hard links.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use stowage_store::io::{Outcome, Probe, When};
use stowage_store::{ViewError, ViewKey, ViewSpec};

use crate::support::{
    TestStore, blob_file, bytes, digest, layout, names, options, options_with, put_files, record, spec,
};

fn inode(path: impl AsRef<Path>) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every path beneath `root`, with its mode.
fn walk(root: &Path) -> BTreeSet<(PathBuf, u32)> {
    let (mut found, mut open) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        found.insert((dir.strip_prefix(root).unwrap().to_owned(), mode(&dir)));
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.insert((entry.path().strip_prefix(root).unwrap().to_owned(), mode(entry.path())));
            }
        }
    }
    found
}

#[test]
fn a_view_is_the_blobs_under_other_names() {
    let store = TestStore::new();
    let spec = put_files(
        &store,
        &[("a-b", b"1", false), ("a/x/1", b"2", false), ("a/x/2", b"3", false), ("a/y", b"1", false)],
    );
    let view = store.build_view(&spec).unwrap();
    let expected = [
        ("", 0o555),
        ("a", 0o555),
        ("a-b", 0o444),
        ("a/x", 0o555),
        ("a/x/1", 0o444),
        ("a/x/2", 0o444),
        ("a/y", 0o444),
    ];
    assert_eq!(walk(&view.tree), expected.map(|(path, mode)| (PathBuf::from(path), mode)).into());
    assert_eq!((view.bytes, view.inodes), (4, 7));
    assert_eq!(inode(view.tree.join("a/x/1")), inode(store.path(blob_file(&digest(b"2"), ""))), "no copy");
    assert_eq!(inode(view.tree.join("a-b")), inode(view.tree.join("a/y")));
    for path in ["", "a", "a/x", "a/y"] {
        assert_eq!(std::fs::metadata(view.tree.join(path)).unwrap().mtime(), 315_532_800, "{path}");
    }
    assert_eq!(mode(&view.dir), 0o700, "the tree is open to everyone once mounted, the way to it is not");
    assert_eq!(store.fsck(false).unwrap().problems, []);
}

#[test]
fn the_same_view_is_found_again() {
    let store = TestStore::new();
    let spec = put_files(&store, &[("a", b"1", false)]);
    assert_eq!(store.find_view(&spec).unwrap(), None);
    let view = store.build_view(&spec).unwrap();
    assert_eq!(view.id, format!("{}.0", spec.hash()));
    assert_eq!(store.build_view(&spec).unwrap(), view);
    let store = store.reopen(options());
    assert_eq!(store.find_view(&spec).unwrap(), Some(view.clone()));
    assert_eq!(store.view(&view.id).unwrap(), Some(view));
    let other = ViewSpec { attributes: ViewKey { tar_mode: "file".into(), ..ViewKey::default() }, ..spec };
    assert_eq!(store.find_view(&other).unwrap(), None);
}

#[test]
fn missing_blobs_are_named_and_nothing_is_left() {
    let store = TestStore::new();
    store.put_blob(&digest(b"1"), b"1").unwrap();
    let spec = spec(&[("a", b"1", false), ("b", b"2", false), ("c", b"2", false)]);
    match store.build_view(&spec) {
        Err(ViewError::MissingBlobs(missing)) => assert_eq!(missing, [digest(b"2")]),
        other => panic!("{other:?}"),
    }
    assert_eq!(names(store.root.path(), "views"), [""; 0]);
}

#[test]
fn a_manifest_that_lies_about_a_size_gets_no_view() {
    let store = TestStore::new();
    store.put_blob(&digest(b"1"), b"1").unwrap();
    let mut builder = stowage_artifact::Layout::builder();
    builder.raw("a".parse().unwrap(), digest(b"1"), 2, false, "test").unwrap();
    let spec = ViewSpec { layout: builder.finish().unwrap(), attributes: ViewKey::default(), source: None };
    assert!(matches!(store.build_view(&spec), Err(ViewError::WrongSize { declared: 2, found: 1, .. })));
}

#[test]
fn only_programs_get_the_executable_bit() {
    let store = TestStore::new();
    let large = [b"#!/bin/sh\n".to_vec(), bytes(64 << 20, 1)].concat();
    let files: [(&str, &[u8], bool); 6] = [
        ("elf", b"\x7fELF\x02\x01", true),
        ("script", b"#!/bin/sh\n", true),
        ("same-but-data", b"#!/bin/sh\n", false),
        ("data", b"no program", true),
        ("tiny", b"#", true),
        ("large", &large, true),
    ];
    let view = store.build_view(&put_files(&store, &files)).unwrap();
    let modes =
        ["elf", "script", "same-but-data", "data", "tiny", "large"].map(|name| mode(view.tree.join(name)));
    assert_eq!(modes, [0o555, 0o555, 0o444, 0o444, 0o444, 0o444]);
    let script = digest(b"#!/bin/sh\n");
    assert_eq!(inode(view.tree.join("script")), inode(store.path(blob_file(&script, ".x"))));
    assert_eq!(inode(view.tree.join("same-but-data")), inode(store.path(blob_file(&script, ""))));
    assert_eq!(std::fs::read(view.tree.join("script")).unwrap(), b"#!/bin/sh\n");
    assert_eq!(store.fsck(false).unwrap().problems, []);
}

#[test]
fn an_inode_with_all_its_links_gets_a_sibling() {
    let mut options = options();
    options.testing.max_links = Some(3);
    let store = TestStore::with(options.clone());
    let files: Vec<(String, bool)> = (0..7).map(|n| (format!("f{n}"), n % 2 == 1)).collect();
    let files: Vec<(&str, &[u8], bool)> =
        files.iter().map(|(name, executable)| (name.as_str(), b"#!x".as_slice(), *executable)).collect();
    let view = store.build_view(&put_files(&store, &files)).unwrap();
    let blob = digest(b"#!x");
    for (suffix, expected) in [("", 0o444), (".1", 0o444), (".x", 0o555), (".x.1", 0o555)] {
        let sibling = store.path(blob_file(&blob, suffix));
        assert_eq!(std::fs::read(&sibling).unwrap(), b"#!x");
        assert_eq!(mode(&sibling), expected, "{suffix}");
        assert!(std::fs::metadata(&sibling).unwrap().nlink() <= 3, "{suffix}");
    }
    assert!(walk(&view.tree).iter().skip(1).all(|(path, found)| {
        let odd = path.to_str().unwrap().ends_with(['1', '3', '5']);
        *found == if odd { 0o555 } else { 0o444 }
    }));
    assert_eq!(store.usage().unwrap().inodes, 4, "siblings are counted with the blob");
    let store = store.reopen(options);
    assert_eq!(store.fsck(false).unwrap().problems, []);
    store.collect(&crate::support::everything()).unwrap();
    assert_eq!(
        crate::support::blob_files(store.root.path()),
        [""; 0].map(PathBuf::from),
        "and collected with it"
    );
}

#[test]
fn a_rotten_blob_is_not_copied_to_a_sibling() {
    let store = TestStore::new();
    let spec = put_files(&store, &[("run", b"#!/bin/sh", true)]);
    let blob = store.path(blob_file(&digest(b"#!/bin/sh"), ""));
    std::fs::set_permissions(&blob, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&blob, b"#!/bin/xx").unwrap();
    assert!(store.build_view(&spec).is_err());
    assert_eq!(store.blob_size(&digest(b"#!/bin/sh")), None, "it is in quarantine");
    assert_eq!(names(store.root.path(), "views"), [""; 0]);
    let again = put_files(&store, &[("run", b"#!/bin/sh", true)]);
    store.build_view(&again).unwrap();
}

#[test]
fn a_bad_blob_condemns_its_views_and_the_next_is_another() {
    let store = TestStore::new();
    let spec = put_files(&store, &[("a", b"1", false), ("b", b"2", false)]);
    let other = store.build_view(&put_files(&store, &[("b", b"2", false)])).unwrap();
    let view = store.build_view(&spec).unwrap();
    let mounted = record("v", &[], Some(&view.id));
    store.put_record(&mounted).unwrap();
    store.quarantine(&digest(b"1"), "bit rot").unwrap();
    assert!(store.condemned(&view.id).unwrap().unwrap().contains("bit rot"));
    assert_eq!(store.condemned(&other.id).unwrap(), None);
    assert_eq!(store.find_view(&spec).unwrap(), None);
    assert!(matches!(store.build_view(&spec), Err(ViewError::MissingBlobs(_))));

    let store = store.reopen(options());
    assert!(store.condemned(&view.id).unwrap().is_some(), "it stays condemned");
    store.put_blob(&digest(b"1"), b"1").unwrap();
    let next = store.build_view(&spec).unwrap();
    assert_eq!(next.id, format!("{}.1", spec.hash()));
    assert_eq!(std::fs::read(view.tree.join("a")).unwrap(), b"1", "the running volume keeps its tree");
    store.remove_record("v", &mounted.target).unwrap();
    store.put_record(&record("w", &[], Some(&next.id))).unwrap();
    store.collect(&crate::support::everything()).unwrap();
    assert_eq!(store.views(), [next.id]);
}

#[test]
fn inline_blobs_are_stored_on_the_way() {
    let store = TestStore::new();
    let mut builder = stowage_artifact::Layout::builder();
    builder.generated("made".parse().unwrap(), b"generated".to_vec(), "test").unwrap();
    let spec = ViewSpec { layout: builder.finish().unwrap(), attributes: ViewKey::default(), source: None };
    let view = store.build_view(&spec).unwrap();
    assert_eq!(std::fs::read(view.tree.join("made")).unwrap(), b"generated");
}

#[test]
fn the_manifest_stays_with_the_view() {
    let store = TestStore::new();
    store.put_blob(&digest(b"manifest"), b"manifest").unwrap();
    let spec = put_files(&store, &[("a", b"1", false)]).with_source(digest(b"manifest"));
    let view = store.build_view(&spec).unwrap();
    let mounted = record("v", &[], Some(&view.id));
    store.put_record(&mounted).unwrap();
    let store = store.reopen(options());
    store.collect(&crate::support::everything()).unwrap();
    assert!(store.blob_size(&digest(b"manifest")).is_some());
    assert!(store.blob_size(&digest(b"1")).is_some());
}

#[test]
fn a_view_whose_name_cannot_be_synced_is_no_view() {
    let probe = Probe::with_fault(When::Every("view.dirsync"), Outcome::Errno(libc::EIO));
    let store = TestStore::with(options_with(&probe));
    let spec = put_files(&store, &[("a", b"1", false)]);
    assert!(store.build_view(&spec).is_err());
    assert_eq!(names(store.root.path(), "views"), [""; 0]);
    probe.heal();
    store.build_view(&spec).unwrap();
}

#[test]
fn an_empty_layout_is_an_empty_directory() {
    let store = TestStore::new();
    let spec = ViewSpec { layout: layout(&[]), attributes: ViewKey::default(), source: None };
    let view = store.build_view(&spec).unwrap();
    assert_eq!(walk(&view.tree), [(PathBuf::new(), 0o555)].into());
}
