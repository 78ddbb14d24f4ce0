//! Downloads: what has arrived, what is missing, what becomes of it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use stowage_store::io::Probe;
use stowage_store::{CommitError, IngestError, Store};

use crate::support::{
    TestStore, after_reboot, blob_file, bytes, digest, download, fill, names, options, options_with,
};

const MIB: u64 = 1 << 20;

#[test]
fn a_committed_blob_is_read_only_and_nobody_elses() {
    let store = TestStore::new();
    let whole = bytes(100_000, 1);
    let blob = download(&store, &whole);
    assert_eq!(store.blob_size(&blob), Some(100_000));
    let file = store.path(blob_file(&blob, ""));
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    let found = std::fs::metadata(&file).unwrap();
    assert_eq!(found.permissions().mode() & 0o7777, 0o444);
    assert_eq!(found.mtime(), 315_532_800, "1980-01-01");
    let mut above = file.parent().unwrap();
    while above.starts_with(store.root.path()) {
        let mode = std::fs::metadata(above).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700, "{}", above.display());
        above = above.parent().unwrap();
    }
    assert_eq!(names(store.root.path(), "ingest"), [""; 0]);
}

#[test]
fn an_empty_blob_is_a_blob() {
    let store = TestStore::new();
    let blob = download(&store, b"");
    assert_eq!(store.blob_size(&blob), Some(0));
}

#[test]
fn one_step_of_the_digest_is_bounded() {
    let store = TestStore::new();
    let whole = vec![0; 65 * MIB as usize];
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    // The rest is a hole, which reads as zeros.
    writer.preallocate().unwrap();
    writer.mark(0..65 * MIB).unwrap();
    assert_eq!(writer.advance().unwrap(), 64 * MIB);
    assert_eq!(writer.hashed(), 64 * MIB);
    assert_eq!(writer.advance().unwrap(), 65 * MIB);
    writer.commit().unwrap();
}

#[test]
fn what_arrives_in_any_order_is_hashed_from_the_front() {
    let store = TestStore::new();
    let whole = bytes(5 * MIB as usize, 1);
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    writer.preallocate().unwrap();
    for part in [3, 1, 0] {
        let (start, end) = (part * MIB, (part + 1) * MIB);
        writer.write_at(start, &whole[start as usize..end as usize]).unwrap();
        assert_eq!(writer.missing().iter().map(|gap| gap.end - gap.start).sum::<u64>() % MIB, 0);
        writer.mark(start..end).unwrap();
    }
    assert_eq!(writer.missing(), [2 * MIB..3 * MIB, 4 * MIB..5 * MIB]);
    assert_eq!(writer.frontier(), 2 * MIB);
    assert_eq!(writer.hashed(), 0);
    assert_eq!(writer.advance().unwrap(), 2 * MIB);
    assert_eq!(writer.hashed(), 2 * MIB);
    let incomplete = writer.commit().unwrap_err();
    assert!(
        matches!(&incomplete, CommitError::Incomplete { missing, .. } if missing.len() == 2),
        "{incomplete}"
    );
    fill(&writer, &whole).unwrap();
    writer.commit().unwrap();
    assert_eq!(store.blob_size(&digest(&whole)), Some(5 * MIB));
}

#[test]
fn one_writer_at_a_time() {
    let store = TestStore::new();
    let whole = bytes(10, 1);
    let writer = store.ingest(&digest(&whole), 10).unwrap();
    assert!(matches!(store.ingest(&digest(&whole), 10), Err(IngestError::Busy(_))));
    drop(writer);
    let writer = store.ingest(&digest(&whole), 10).unwrap();
    fill(&writer, &whole).unwrap();
    writer.commit().unwrap();
    assert!(
        matches!(writer.write_at(0, b"x"), Err(IngestError::Ended { .. })),
        "the blob is never written again"
    );
    drop(writer);
    assert!(matches!(store.ingest(&digest(&whole), 10), Err(IngestError::AlreadyStored(_))));
}

#[test]
fn bytes_beyond_the_declared_size_are_refused() {
    let store = TestStore::new();
    let writer = store.ingest(&digest(b"x"), 10).unwrap();
    assert!(matches!(writer.write_at(5, &[0; 6]), Err(IngestError::TooLong { size: 10, end: 11, .. })));
    assert!(matches!(writer.mark(0..11), Err(IngestError::TooLong { .. })));
    assert!(matches!(writer.write_at(u64::MAX, &[0; 2]), Err(IngestError::TooLong { .. })));
}

#[test]
fn a_dropped_writer_leaves_everything_that_was_marked() {
    let store = TestStore::new();
    let whole = bytes(4 * MIB as usize, 1);
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    writer.preallocate().unwrap();
    writer.write_at(0, &whole[..1000]).unwrap();
    writer.mark(0..1000).unwrap();
    writer.write_at(2 * MIB, &whole[2 * MIB as usize..3 * MIB as usize]).unwrap();
    writer.mark(2 * MIB..3 * MIB).unwrap();
    drop(writer);
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    assert_eq!(writer.missing(), [1000..2 * MIB, 3 * MIB..4 * MIB]);
    assert_eq!(writer.resumed_bytes(), 1000 + MIB);
    fill(&writer, &whole).unwrap();
    writer.commit().unwrap();
}

#[test]
fn a_download_without_a_byte_leaves_nothing() {
    let store = TestStore::new();
    let writer = store.ingest(&digest(b"refused"), 10 * MIB).unwrap();
    writer.preallocate().unwrap();
    drop(writer);
    assert_eq!(names(store.root.path(), "ingest"), [""; 0]);
    store.ingest(&digest(b"refused"), 10 * MIB).unwrap();
}

#[test]
fn one_call_hashes_64_mebibytes_at_most() {
    let store = TestStore::with(options_with(&Probe::new()));
    let writer = store.ingest(&digest(b"never committed"), 80 * MIB).unwrap();
    writer.preallocate().unwrap();
    writer.mark(0..80 * MIB).unwrap();
    assert_eq!(writer.advance().unwrap(), 64 * MIB);
    assert_eq!(writer.advance().unwrap(), 80 * MIB);
}

/// What a process leaves that dies with the writer open: nothing is flushed.
fn killed_with(marks: &[(u64, u64)], whole: &[u8], checkpoint_after: usize) -> TestStore {
    let probe = Probe::new();
    let store = TestStore::with(options_with(&probe));
    let writer = store.ingest(&digest(whole), whole.len() as u64).unwrap();
    writer.preallocate().unwrap();
    for (number, &(start, end)) in marks.iter().enumerate() {
        writer.write_at(start, &whole[start as usize..end as usize]).unwrap();
        writer.mark(start..end).unwrap();
        if number + 1 == checkpoint_after {
            writer.checkpoint().unwrap();
        }
    }
    probe.crash();
    drop(writer);
    store
}

#[test]
fn a_killed_process_loses_less_than_a_mebibyte_a_connection() {
    let whole = bytes(8 * MIB as usize, 1);
    let marks = [(0, MIB), (4 * MIB, 5 * MIB), (MIB, MIB + 500), (5 * MIB, 5 * MIB + 9)];
    let store = killed_with(&marks, &whole, 0).reopen(options());
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    let missing = writer.missing();
    assert_eq!(missing, [MIB..4 * MIB, 5 * MIB..8 * MIB]);
    fill(&writer, &whole).unwrap();
    writer.commit().unwrap();
}

#[test]
fn a_reboot_leaves_what_was_synced() {
    let whole = bytes(4 * MIB as usize, 1);
    let marks = [(0, MIB), (2 * MIB, 3 * MIB), (MIB, 2 * MIB)];
    let store = killed_with(&marks, &whole, 2).reopen(after_reboot());
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    assert_eq!(writer.missing(), [MIB..2 * MIB, 3 * MIB..4 * MIB]);
    fill(&writer, &whole).unwrap();
    writer.commit().unwrap();
}

#[test]
fn a_torn_tail_of_the_journal_is_cut() {
    let whole = bytes(4 * MIB as usize, 1);
    let store = killed_with(&[(0, MIB), (2 * MIB, 3 * MIB)], &whole, 0);
    let name = names(store.root.path(), "ingest").remove(0);
    let journal = store.path(format!("ingest/{name}/journal"));
    let mut text = std::fs::read(&journal).unwrap();
    text.truncate(text.len() - 5);
    std::fs::write(&journal, &text).unwrap();
    let store = store.reopen(options());
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    assert_eq!(writer.missing(), std::slice::from_ref(&(MIB..4 * MIB)), "the second record is not whole");
    fill(&writer, &whole).unwrap();
    writer.commit().unwrap();
}

#[test]
fn bytes_that_rotted_between_two_lives_are_found_by_the_digest() {
    let whole = bytes(3 * MIB as usize, 1);
    let store = killed_with(&[(0, MIB)], &whole, 1);
    let name = names(store.root.path(), "ingest").remove(0);
    let data = store.path(format!("ingest/{name}/data"));
    let mut found = std::fs::read(&data).unwrap();
    found[77] ^= 1;
    std::fs::write(&data, &found).unwrap();
    let store = store.reopen(options());
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    assert_eq!(writer.resumed_bytes(), MIB);
    assert_eq!(writer.hashed(), 0, "a resumed prefix is hashed again, not trusted");
    fill(&writer, &whole).unwrap();
    assert!(matches!(writer.commit(), Err(CommitError::DigestMismatch { .. })));
    drop(writer);
    assert_eq!(store.blob_size(&digest(&whole)), None);
    download(&store, &whole);
}

#[test]
fn a_shorter_file_than_its_journal_says_is_not_believed() {
    let whole = bytes(3 * MIB as usize, 1);
    let store = killed_with(&[(0, 2 * MIB)], &whole, 1);
    let name = names(store.root.path(), "ingest").remove(0);
    let data =
        std::fs::OpenOptions::new().write(true).open(store.path(format!("ingest/{name}/data"))).unwrap();
    data.set_len(MIB + 1).unwrap();
    let store = store.reopen(options());
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    assert_eq!(writer.missing(), std::slice::from_ref(&(MIB + 1..3 * MIB)));
}

#[test]
fn whoever_declares_another_size_has_a_download_apart() {
    let whole = bytes(2 * MIB as usize, 1);
    let (right, wrong) = (whole.len() as u64, whole.len() as u64 + 1);
    let store = killed_with(&[(0, MIB)], &whole, 1).reopen(options());
    let lie = store.ingest(&digest(&whole), wrong).unwrap();
    assert_eq!(lie.resumed_bytes(), 0);
    assert!(matches!(store.ingest(&digest(&whole), wrong), Err(IngestError::Busy(_))));
    let truth = store.ingest(&digest(&whole), right).unwrap();
    assert_eq!(truth.missing(), std::slice::from_ref(&(MIB..right)));
    truth.write_at(MIB, &whole[MIB as usize..]).unwrap();
    truth.mark(MIB..right).unwrap();
    truth.commit().unwrap();

    fill(&lie, &[&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(lie.commit(), Err(CommitError::DigestMismatch { .. })));
    drop((truth, lie));
    assert_eq!(store.blob_size(&digest(&whole)), Some(right));
    assert_eq!(names(store.root.path(), "ingest"), [""; 0]);
}

#[test]
fn wrong_bytes_go_to_quarantine_and_are_no_blob() {
    let store = TestStore::new();
    let (promised, delivered) = (bytes(1000, 1), bytes(1000, 2));
    let writer = store.ingest(&digest(&promised), 1000).unwrap();
    fill(&writer, &delivered).unwrap();
    match writer.commit() {
        Err(CommitError::DigestMismatch { expected, found }) => {
            assert_eq!((expected, found), (digest(&promised), digest(&delivered)));
        }
        other => panic!("{other:?}"),
    }
    drop(writer);
    assert_eq!(store.blob_size(&digest(&promised)), None);
    assert_eq!(names(store.root.path(), "ingest"), [""; 0]);
    let kept = names(store.root.path(), "quarantine").remove(0);
    assert_eq!(std::fs::read(store.path(format!("quarantine/{kept}/data"))).unwrap(), delivered);
    let reason = std::fs::read_to_string(store.path(format!("quarantine/{kept}/reason"))).unwrap();
    assert!(reason.contains(digest(&delivered).as_str()), "{reason}");
    // The right bytes are welcome.
    download(&store, &promised);
}

#[test]
fn a_reset_forgets_everything_for_good() {
    let store = TestStore::new();
    let (whole, wrong) = (bytes(3 * MIB as usize, 1), bytes(3 * MIB as usize, 2));
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    writer.preallocate().unwrap();
    writer.write_at(0, &wrong[..2 * MIB as usize]).unwrap();
    writer.mark(0..2 * MIB).unwrap();
    writer.advance().unwrap();
    writer.checkpoint().unwrap();
    writer.reset().unwrap();
    assert_eq!((writer.frontier(), writer.hashed()), (0, 0));
    assert_eq!(writer.missing(), std::slice::from_ref(&(0..3 * MIB)));
    drop(writer);
    let store = store.reopen(options());
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    assert_eq!(writer.resumed_bytes(), 0);
    writer.reset().unwrap();
    writer.write_at(0, &whole[..MIB as usize]).unwrap();
    writer.mark(0..MIB).unwrap();
    drop(writer);
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    assert_eq!(writer.resumed_bytes(), MIB, "what comes after a reset counts");
    fill(&writer, &whole).unwrap();
    writer.commit().unwrap();
}

#[test]
fn a_checkpoint_comes_by_itself_every_64_mebibytes() {
    let probe = Probe::new();
    let store = TestStore::with(options_with(&probe));
    let size = 80 * MIB;
    let writer = store.ingest(&digest(b"never read"), size).unwrap();
    for part in 0..63 {
        writer.mark(part * MIB..(part + 1) * MIB).unwrap();
    }
    let before = probe.calls_at("data.sync");
    writer.mark(63 * MIB..64 * MIB).unwrap();
    assert_eq!(probe.calls_at("data.sync"), before + 1);
    assert!(probe.calls_at("data.write_back") >= 64, "dirty pages go out steadily");
}

#[test]
fn many_small_blobs_are_committed_together() {
    let probe = Probe::new();
    let store = TestStore::with(options_with(&probe));
    let blobs: Vec<_> = (0..300)
        .map(|seed| bytes(100, seed))
        .map(|bytes| (digest(&bytes), bytes::Bytes::from(bytes)))
        .collect();
    store.put_blobs(&blobs).unwrap();
    assert!(blobs.iter().all(|(digest, _)| store.blob_size(digest) == Some(100)));
    assert_eq!(probe.calls_at("batch.mkdir"), 2, "300 blobs are two batches");
    let shards: std::collections::BTreeSet<_> =
        blobs[..256].iter().map(|(digest, _)| &digest.hex()[..2]).collect();
    assert!(
        probe.calls_at("batch.dirsync") <= shards.len() as u64 + 44,
        "one sync for each directory of a batch"
    );
    let again = probe.calls();
    store.put_blobs(&blobs).unwrap();
    assert_eq!(probe.calls(), again, "what is there is not written again");
}

#[test]
fn one_wrong_blob_in_a_batch_writes_none() {
    let store = TestStore::new();
    let good = (digest(b"good"), bytes::Bytes::from_static(b"good"));
    let bad = (digest(b"bad"), bytes::Bytes::from_static(b"worse"));
    assert!(store.put_blobs(&[good.clone(), bad]).is_err());
    assert_eq!(store.blob_size(&good.0), None);
}

#[test]
fn a_writer_can_be_shared_by_threads() {
    let store = TestStore::with(stowage_store::StoreOptions::default());
    let whole = bytes(8 * MIB as usize, 1);
    let writer = store.ingest(&digest(&whole), whole.len() as u64).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (writer, whole) = (&writer, &whole);
            scope.spawn(move || {
                for part in (thread..64).step_by(4) {
                    let (start, end) = (part << 17, (part + 1) << 17);
                    writer.write_at(start as u64, &whole[start..end]).unwrap();
                    writer.mark(start as u64..end as u64).unwrap();
                }
            });
        }
        scope.spawn(|| {
            while writer.hashed() < whole.len() as u64 {
                writer.advance().unwrap();
                std::thread::yield_now();
            }
        });
    });
    writer.commit().unwrap();
    let reader: &Store = &store;
    assert_eq!(reader.blob_size(&digest(&whole)), Some(8 * MIB));
}
