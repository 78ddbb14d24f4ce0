//! SIGKILL at every operation on the disk.

use stowage_store::Store;
use stowage_store::io::{Outcome, Probe, When};

use crate::scenario::{self, Promised};
use crate::support::{blob_files, digest, names, options_with};

fn with_siblings(mut options: stowage_store::StoreOptions) -> stowage_store::StoreOptions {
    options.testing.max_links = Some(3);
    options
}

/// Lives until the crash. Returns what was promised before it, or `None` once there is no such operation.
fn crash_at(root: &std::path::Path, nth: u64, outcome: Outcome) -> Option<Promised> {
    let probe = Probe::with_fault(When::Nth(nth), outcome);
    let mut promised = Promised::default();
    let life = Store::open(root, with_siblings(options_with(&probe)))
        .map_err(Into::into)
        .and_then(|store| scenario::live(&store, &mut promised));
    if probe.crashed() {
        return Some(promised);
    }
    life.unwrap();
    None
}

fn check(root: &std::path::Path, promised: &Promised, nth: u64) {
    let store = Store::open(root, with_siblings(options_with(&Probe::new()))).unwrap();
    let report = store.fsck(false).unwrap();
    assert_eq!(report.problems, [], "after a crash at operation {nth}");
    assert_eq!(names(root, "trash"), [""; 0], "after a crash at operation {nth}");
    if !promised.removing {
        for blob in &promised.blobs {
            assert!(
                store.blob_size(blob).is_some(),
                "{blob} was committed before the crash at operation {nth}"
            );
        }
        if let Some(view) = &promised.view {
            assert!(store.view(view).unwrap().is_some(), "the view was published before operation {nth}");
        }
    }

    // The next life goes through, and leaves nothing.
    scenario::live(&store, &mut Promised::default()).unwrap();
    assert_eq!(store.fsck(false).unwrap().problems, []);
    drop(store);
    assert_eq!(blob_files(root), [""; 0].map(std::path::PathBuf::from), "after a crash at operation {nth}");
    for directory in ["ingest", "decoded", "views", "volumes", "trash", "quarantine", "tags"] {
        assert_eq!(names(root, directory), [""; 0], "{directory} after a crash at operation {nth}");
    }
}

fn crash_everywhere(outcome: Outcome) -> u64 {
    for nth in 1.. {
        let root = tempfile::tempdir().unwrap();
        match crash_at(root.path(), nth, outcome) {
            Some(promised) => check(root.path(), &promised, nth),
            None => return nth,
        }
    }
    unreachable!("a life has an end")
}

#[test]
fn after_a_crash_at_any_operation_the_store_goes_on_and_leaks_nothing() {
    let operations = crash_everywhere(Outcome::Crash);
    assert!(operations > 150, "the life has become too short to prove anything: {operations} operations");
}

#[test]
fn a_write_torn_by_a_crash_is_never_believed() {
    crash_everywhere(Outcome::CrashTorn);
}

#[test]
fn a_life_passes_the_points_that_the_figures_speak_of() {
    let probe = Probe::new();
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), with_siblings(options_with(&probe))).unwrap();
    scenario::live(&store, &mut Promised::default()).unwrap();
    let passed = probe.points();
    for point in [
        "batch.dirsync",
        "batch.sync",
        "blob.chmod",
        "blob.dirsync",
        "blob.rename",
        "blob.sync",
        "blob.times",
        "data.allocate",
        "data.drop_cache",
        "data.sync",
        "data.write",
        "grants.append",
        "journal.append",
        "journal.sync",
        "quarantine.rename",
        "record.rename",
        "sibling.sync",
        "trash.blob",
        "trash.view",
        "view.link",
        "view.rename",
        "view.treesync",
    ] {
        assert!(passed.contains(&point), "{point} is not passed: {passed:?}");
    }
    assert!(store.blob_size(&digest(scenario::MANIFEST)).is_none(), "all is collected at the end");
}
