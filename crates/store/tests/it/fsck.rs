//! fsck, scrub, quarantine.

use std::os::unix::fs::PermissionsExt as _;

use stowage_store::io::{Outcome, Probe, When};
use stowage_store::{ProblemKind, Scrubbed, Store};

use crate::support::{TestStore, blob_file, digest, download, names, options_with, put_files, record};

fn kinds(store: &Store, repair: bool) -> Vec<ProblemKind> {
    store.fsck(repair).unwrap().problems.into_iter().map(|problem| problem.kind).collect()
}

fn rot(store: &TestStore, blob: &str) {
    let path = store.path(blob);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 0x80;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
}

#[test]
fn a_flipped_bit_is_found_and_repaired() {
    let store = TestStore::new();
    let spec = put_files(&store, &[("a", b"precious", false), ("b", b"fine", false)]);
    let view = store.build_view(&spec).unwrap();
    store.put_record(&record("v", &[], Some(&view.id))).unwrap();
    rot(&store, &blob_file(&digest(b"precious"), ""));
    assert_eq!(kinds(&store, false), [ProblemKind::BadBlob], "looking changes nothing");
    assert!(store.blob_size(&digest(b"precious")).is_some());
    let report = store.fsck(true).unwrap();
    assert!(report.is_clean() && !report.problems.is_empty(), "{report:?}");
    assert_eq!(store.blob_size(&digest(b"precious")), None);
    assert!(store.condemned(&view.id).unwrap().is_some());
    assert_eq!(names(store.root.path(), "quarantine").len(), 1);
}

#[test]
fn a_scrub_takes_one_bad_blob_out() {
    let store = TestStore::new();
    let good = download(&store, b"good");
    let bad = download(&store, b"bad!");
    rot(&store, &blob_file(&bad, ""));
    assert_eq!(store.scrub(&good).unwrap(), Scrubbed::Healthy);
    assert!(matches!(store.scrub(&bad).unwrap(), Scrubbed::Bad { .. }));
    assert_eq!(store.scrub(&bad).unwrap(), Scrubbed::Missing);
    download(&store, b"bad!");
    assert_eq!(store.scrub(&bad).unwrap(), Scrubbed::Healthy);
}

#[test]
fn a_blob_that_cannot_be_read_is_bad() {
    let store = TestStore::new();
    let blob = download(&store, b"on a bad sector");
    let probe = Probe::with_fault(When::Every("blob.read"), Outcome::Errno(libc::EIO));
    let store = store.reopen(options_with(&probe));
    assert!(matches!(store.scrub(&blob).unwrap(), Scrubbed::Bad { .. }));
    assert_eq!(store.blob_size(&blob), None);
}

#[test]
fn a_tree_that_was_changed_is_found() {
    for damage in 0..4 {
        let store = TestStore::new();
        let spec = put_files(&store, &[("dir/a", b"1", false), ("dir/b", b"2", false)]);
        let view = store.build_view(&spec).unwrap();
        assert_eq!(kinds(&store, false), []);
        let dir = view.tree.join("dir");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        match damage {
            0 => {}
            1 => std::fs::remove_file(dir.join("a")).unwrap(),
            2 => std::fs::write(dir.join("c"), "more").unwrap(),
            _ => {
                std::fs::remove_file(dir.join("a")).unwrap();
                std::fs::write(dir.join("a"), "1").unwrap();
            }
        }
        if damage > 0 {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o555)).unwrap();
        }
        assert_eq!(kinds(&store, false), [ProblemKind::BadView], "damage {damage}");
        assert!(store.fsck(true).unwrap().is_clean());
        assert_eq!(store.views(), [""; 0], "nobody uses it");
        store.build_view(&spec).unwrap();
        assert_eq!(kinds(&store, false), []);
    }
}

#[test]
fn what_does_not_belong_is_found_and_removed() {
    let store = TestStore::new();
    let blob = download(&store, b"blob");
    std::fs::write(store.path(blob_file(&blob, ".9x")), "?").unwrap();
    let lonely = digest(b"gone");
    std::fs::create_dir_all(store.path(blob_file(&lonely, "")).parent().unwrap()).unwrap();
    std::fs::write(store.path(blob_file(&lonely, ".x")), "gone").unwrap();
    std::fs::create_dir(store.path("views/.tmp-00000000-0-view")).unwrap();
    std::fs::write(store.path("volumes/bad.json"), "{").unwrap();
    std::fs::set_permissions(store.path(blob_file(&blob, "")), std::fs::Permissions::from_mode(0o644))
        .unwrap();
    let expected = [
        ProblemKind::Leftover,
        ProblemKind::BadRecord,
        ProblemKind::StrangeFile,
        ProblemKind::BlobMode,
        ProblemKind::OrphanSibling,
    ];
    let mut found = kinds(&store, false);
    found.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    assert!(store.fsck(true).unwrap().is_clean());
    assert_eq!(kinds(&store, false), []);
    assert_eq!(store.blob_size(&blob), Some(4));
}

#[test]
fn a_missing_blob_condemns_its_view() {
    let store = TestStore::new();
    let spec = put_files(&store, &[("a", b"1", false)]);
    let view = store.build_view(&spec).unwrap();
    store.put_record(&record("v", &[], Some(&view.id))).unwrap();
    std::fs::remove_file(store.path(blob_file(&digest(b"1"), ""))).unwrap();
    assert_eq!(kinds(&store, true), [ProblemKind::MissingBlob]);
    assert!(store.condemned(&view.id).unwrap().is_some());
    assert_eq!(store.views(), [view.id], "a volume uses it");
}
