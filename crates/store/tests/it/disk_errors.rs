//! Full and broken disks: the right error, and never a blob that is not whole.

use stowage_store::io::{Outcome, Probe, When};
use stowage_store::{CommitError, IngestError, IngestWriter, Store, StoreError, ViewError};

use crate::scenario::{self, Promised};
use crate::support::{TestStore, bytes, digest, download, fill, names, options_with, put_files};

fn failing(point: &'static str, errno: i32) -> TestStore {
    let probe = Probe::with_fault(When::Every(point), Outcome::Errno(errno));
    TestStore::with(options_with(&probe))
}

fn writer(store: &Store, whole: &[u8]) -> IngestWriter {
    store.ingest(&digest(whole), whole.len() as u64).unwrap()
}

#[test]
fn a_full_disk_is_called_a_full_disk() {
    let whole = bytes(10_000, 1);
    for errno in [libc::ENOSPC, libc::EDQUOT] {
        let store = failing("data.allocate", errno);
        let full = writer(&store, &whole).preallocate().unwrap_err();
        assert!(matches!(full, IngestError::NoSpace { needed: 10_000, .. }), "{full}");
        assert!(full.to_string().contains("10000 bytes are needed"), "{full}");

        let store = failing("data.write", errno);
        let full = writer(&store, &whole).write_at(0, &whole).unwrap_err();
        assert!(matches!(full, IngestError::NoSpace { .. }), "{full}");

        let store = failing("ingest.mkdir", errno);
        let full = store.ingest(&digest(&whole), 10_000).unwrap_err();
        assert!(matches!(full, IngestError::NoSpace { .. }), "{full}");
        assert_eq!(names(store.root.path(), "ingest"), [""; 0]);

        let store = failing("batch.write", errno);
        let full = store.put_blob(&digest(&whole), &whole).unwrap_err();
        assert!(full.is_no_space(), "{full}");
        assert_eq!(names(store.root.path(), "ingest"), [""; 0]);

        let store = failing("view.mkdir", errno);
        let spec = put_files(&store, &[("a", b"a", false)]);
        let full = store.build_view(&spec).unwrap_err();
        assert!(matches!(&full, ViewError::Store(error) if error.is_no_space()), "{full}");
        assert_eq!(names(store.root.path(), "views"), [""; 0]);
    }
}

#[test]
fn a_full_disk_costs_the_journal_but_not_the_download() {
    let store = failing("journal.append", libc::ENOSPC);
    let whole = bytes(3 << 20, 1);
    let writer = writer(&store, &whole);
    fill(&writer, &whole).unwrap();
    writer.checkpoint().unwrap();
    writer.commit().unwrap();
    assert!(store.blob_size(&digest(&whole)).is_some());
}

#[test]
fn a_failed_sync_removes_the_download_at_once() {
    let whole = bytes(3 << 20, 1);
    for point in ["data.sync", "data.write_back", "journal.sync", "ingest.dirsync"] {
        let probe = Probe::with_fault(When::At(point, 1), Outcome::Errno(libc::EIO));
        let store = TestStore::with(options_with(&probe));
        let first = writer(&store, &whole);
        let outcome = fill(&first, &whole).and_then(|()| first.checkpoint());
        assert!(matches!(outcome, Err(IngestError::Io(_))), "{point}: {outcome:?}");
        assert_eq!(names(store.root.path(), "ingest"), [""; 0], "{point}");
        // Never retried as if clean: neither by this writer nor by the next.
        assert!(matches!(first.checkpoint(), Err(IngestError::Ended { .. })), "{point}");
        assert!(matches!(first.commit(), Err(CommitError::Ingest(_))), "{point}");
        drop(first);
        let second = writer(&store, &whole);
        assert_eq!(second.resumed_bytes(), 0, "{point}");
        fill(&second, &whole).unwrap();
        second.commit().unwrap();
    }
}

#[test]
fn a_commit_that_fails_at_any_step_leaves_neither_blob_nor_bytes() {
    let whole = bytes(100_000, 1);
    for point in [
        "blob.chmod",
        "blob.times",
        "blob.sync",
        "blob.rename",
        "blob.dirsync",
        "shard.mkdir",
        "shard.dirsync",
    ] {
        for errno in [libc::EIO, libc::ENOSPC, libc::EROFS] {
            let probe = Probe::with_fault(When::At(point, 1), Outcome::Errno(errno));
            let store = TestStore::with(options_with(&probe));
            let first = writer(&store, &whole);
            fill(&first, &whole).unwrap();
            let error = first.commit().unwrap_err();
            let full = matches!(&error, CommitError::Ingest(IngestError::NoSpace { .. }));
            assert_eq!(full, errno == libc::ENOSPC, "{point}: {error}");
            assert_eq!(store.blob_size(&digest(&whole)), None, "{point}");
            assert_eq!(names(store.root.path(), "ingest"), [""; 0], "{point}");
            drop(first);
            download(&store, &whole);
            assert_eq!(store.fsck(false).unwrap().problems, [], "{point}");
        }
    }
}

#[test]
fn a_read_error_under_the_digest_ends_the_download() {
    let store = failing("data.read", libc::EIO);
    let whole = bytes(1000, 1);
    let writer = writer(&store, &whole);
    fill(&writer, &whole).unwrap();
    assert!(matches!(writer.advance(), Err(IngestError::Io(_))));
    assert_eq!(names(store.root.path(), "ingest"), [""; 0]);
}

#[test]
fn a_resumed_file_that_cannot_be_synced_starts_at_0() {
    let whole = bytes(3 << 20, 1);
    let store = TestStore::new();
    let first = writer(&store, &whole);
    first.write_at(0, &whole[..2 << 20]).unwrap();
    first.mark(0..2 << 20).unwrap();
    drop(first);
    let probe = Probe::with_fault(When::At("data.sync", 1), Outcome::Errno(libc::EIO));
    let store = store.reopen(options_with(&probe));
    let second = writer(&store, &whole);
    assert_eq!(second.resumed_bytes(), 0);
    fill(&second, &whole).unwrap();
    second.commit().unwrap();
}

#[test]
fn a_record_that_cannot_be_written_is_not_there() {
    for point in ["record.create", "record.write", "record.rename"] {
        let store = failing(point, libc::ENOSPC);
        let record = crate::support::record("v", &[digest(b"a")], None);
        let error = store.put_record(&record).unwrap_err();
        assert!(error.is_no_space(), "{point}: {error}");
        assert_eq!(store.record("v", &record.target).unwrap(), None);
        assert_eq!(names(store.root.path(), "volumes"), [""; 0], "{point}");
    }
    let store = failing("record.remove", libc::EROFS);
    let record = crate::support::record("v", &[], None);
    store.put_record(&record).unwrap();
    assert!(matches!(store.remove_record("v", &record.target), Err(StoreError::Io(_))));
    assert!(
        store.record("v", &record.target).unwrap().is_some(),
        "it still counts as long as it is on the disk"
    );
}

/// Whatever fails once, a life after it goes through and leaves nothing: EIO, ENOSPC and a read-only remount.
#[test]
fn a_failure_of_any_operation_is_reported_and_repaired() {
    for nth in 1.. {
        let errno = [libc::EIO, libc::ENOSPC, libc::EROFS][nth as usize % 3];
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::with_fault(When::Nth(nth), Outcome::Errno(errno));
        let first = Store::open(root.path(), options_with(&probe)).map_err(Into::into);
        let first = first.and_then(|store| scenario::live(&store, &mut Promised::default()));
        if probe.calls() < nth {
            first.unwrap();
            break;
        }
        drop(first);
        let store = Store::open(root.path(), options_with(&Probe::new())).unwrap();
        assert_eq!(store.fsck(false).unwrap().problems, [], "errno {errno} at operation {nth}");
        scenario::live(&store, &mut Promised::default()).unwrap();
        for directory in ["ingest", "views", "volumes", "trash"] {
            let left = names(root.path(), directory);
            assert_eq!(left, [""; 0], "{directory} after errno {errno} at operation {nth}");
        }
    }
}

#[test]
fn a_store_on_a_full_disk_opens() {
    let store = TestStore::new();
    let blob = download(&store, b"precious");
    let probe = Probe::new();
    for point in ["lock.pid", "format.write", "format.mkdir"] {
        probe.inject(When::Every(point), Outcome::Errno(libc::ENOSPC));
    }
    let store = store.reopen(options_with(&probe));
    assert!(store.blob_size(&blob).is_some());
}
