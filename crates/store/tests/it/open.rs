//! Opening: one writer, one filesystem, a known format.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stowage_store::{OpenError, Store};

use crate::support::{TestStore, names, options};

#[test]
fn a_new_store_is_closed_to_others() {
    let store = TestStore::new();
    let mode = |path: &str| std::fs::metadata(store.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(""), 0o700);
    for directory in ["blobs", "ingest", "views", "volumes", "tags", "grants", "quarantine", "trash"] {
        assert_eq!(mode(directory), 0o700, "{directory}");
    }
    for file in ["format.json", "node.lock", "grants/key"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn a_directory_that_was_open_to_others_is_closed() {
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let _store = Store::open(root.path(), options()).unwrap();
    assert_eq!(std::fs::metadata(root.path()).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn the_second_opener_is_told_who_has_the_store() {
    let store = TestStore::new();
    match Store::open(store.root.path(), options()) {
        Err(OpenError::Locked { pid, path }) => {
            assert_eq!(pid, Some(std::process::id()));
            assert!(path.ends_with("node.lock"));
        }
        other => panic!("{other:?}"),
    }
    let again = store.reopen(options());
    assert!(again.usage().is_ok());
}

#[test]
fn a_successor_waits_for_the_lock() {
    let store = TestStore::new();
    let root = store.root.path().to_owned();
    let (never, soon) = (AtomicBool::new(false), Instant::now() + Duration::from_millis(120));
    let late = Store::wait_open(&root, &options(), &never, Some(soon));
    assert!(matches!(late, Err(OpenError::GaveUp { .. })), "{late:?}");
    let cancelled = Store::wait_open(&root, &options(), &AtomicBool::new(true), None);
    assert!(matches!(cancelled, Err(OpenError::GaveUp { .. })), "{cancelled:?}");
    let (said, waits) = std::sync::mpsc::channel();
    let successor = std::thread::spawn(move || {
        said.send(()).unwrap();
        Store::wait_open(
            &root,
            &options(),
            &AtomicBool::new(false),
            Some(Instant::now() + Duration::from_secs(20)),
        )
    });
    waits.recv().unwrap();
    let TestStore { store, root: _root } = store;
    drop(store);
    assert!(successor.join().unwrap().is_ok());
}

#[test]
fn a_directory_with_something_else_in_it_is_refused() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("thesis.tex"), "years of work").unwrap();
    let refused = Store::open(root.path(), options()).unwrap_err();
    assert!(matches!(&refused, OpenError::NotAStore { entry, .. } if entry == "thesis.tex"), "{refused}");
    assert_eq!(names(root.path(), "."), ["node.lock", "thesis.tex"], "and nothing else was made in it");
}

#[test]
fn an_unknown_format_is_refused_by_name() {
    let store = TestStore::new();
    let format = store.path("format.json");
    let TestStore { store, root } = store;
    drop(store);
    std::fs::write(&format, r#"{"format":"stowage-store","version":1,"incompatible":["erofs-views"]}"#)
        .unwrap();
    let refused = Store::open(root.path(), options()).unwrap_err();
    assert!(refused.to_string().contains("erofs-views"), "{refused}");
    std::fs::write(&format, r#"{"format":"stowage-store","version":9}"#).unwrap();
    assert!(matches!(Store::open(root.path(), options()), Err(OpenError::Version { found: 9, .. })));
    std::fs::write(&format, "").unwrap();
    assert!(matches!(Store::open(root.path(), options()), Err(OpenError::BadFormat { .. })));
}

#[test]
fn a_store_in_the_wrong_place_is_refused() {
    let refused = Store::open(std::path::Path::new("/proc/stowage"), options());
    assert!(matches!(refused, Err(OpenError::Io(_))), "{refused:?}");
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), options()).unwrap();
    drop(store);
    std::fs::remove_dir(root.path().join("trash")).unwrap();
    std::os::unix::fs::symlink("/tmp", root.path().join("trash")).unwrap();
    assert!(Store::open(root.path(), options()).is_err(), "no symlink is followed");
}

#[test]
fn what_an_earlier_process_left_is_removed_at_the_start() {
    let store = TestStore::new();
    for leftover in ["trash/.tmp-0-0-x", "views/.tmp-0-1-view", "ingest/.tmp-0-2-batch"] {
        std::fs::create_dir_all(store.path(leftover).join("deep/er")).unwrap();
        std::fs::write(store.path(leftover).join("deep/er/file"), "x").unwrap();
    }
    std::fs::write(store.path("volumes/.tmp-0-3-record"), "{").unwrap();
    let store = store.reopen(options());
    for directory in ["trash", "views", "ingest", "volumes"] {
        assert_eq!(names(store.root.path(), directory), [""; 0], "{directory}");
    }
}
