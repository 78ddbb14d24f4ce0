//! A power cut after every operation, with any part of what was not synced lost.

use std::path::Path;

use stowage_store::io::replay::{Loss, replay};
use stowage_store::io::{Op, Probe};
use stowage_store::{IngestError, ProblemKind, Store};

use crate::scenario::{self, Promised};
use crate::support::{after_reboot, digest, fill, options_with};

/// Everything that a whole life did to the disk.
fn life() -> Vec<Op> {
    let probe = Probe::logging();
    let root = tempfile::tempdir().unwrap();
    let mut options = options_with(&probe);
    options.testing.max_links = Some(3);
    let store = Store::open(root.path(), options).unwrap();
    scenario::live(&store, &mut Promised::default()).unwrap();
    probe.log()
}

/// The disk as the cut leaves it: opened under another boot, every committed byte is right, and every download
/// can be finished with the bytes that the store says are missing.
fn check(log: &[Op], loss: Loss) {
    let root = tempfile::tempdir().unwrap();
    replay(log, loss, root.path()).unwrap();
    let context = format!("after {} operations, losing {loss:?}", log.len());
    let store = Store::open(root.path(), after_reboot()).unwrap_or_else(|error| panic!("{context}: {error}"));
    let report = store.fsck(false).unwrap();
    for problem in &report.problems {
        // Records need not outlive the machine; everything else must be whole.
        let allowed = matches!(problem.kind, ProblemKind::BadRecord | ProblemKind::MissingView);
        assert!(allowed, "{context}: {problem:?}");
    }
    finish(&store, &scenario::weights(), &context);
    finish(&store, &scenario::tokens(), &context);
    assert!(store.fsck(true).unwrap().problems.iter().all(|p| p.kind != ProblemKind::BadBlob), "{context}");
}

fn finish(store: &Store, whole: &[u8], context: &str) {
    match store.ingest(&digest(whole), whole.len() as u64) {
        Err(IngestError::AlreadyStored(_)) => {}
        Err(error) => panic!("{context}: {error}"),
        Ok(writer) => {
            fill(&writer, whole).unwrap();
            writer.commit().unwrap_or_else(|error| panic!("{context}: {error}"));
        }
    }
}

#[test]
fn after_a_power_cut_what_is_committed_is_whole_and_the_rest_is_invisible() {
    let life = life();
    assert!(life.len() > 120, "too short to prove anything: {} operations", life.len());
    for end in 1..=life.len() {
        let log = &life[..end];
        check(log, Loss::Everything);
        check(log, Loss::Some(end as u64));
        check(log, Loss::Some(end as u64 + 7919));
    }
}

#[test]
fn a_cut_that_loses_nothing_is_a_crash() {
    let life = life();
    for end in (1..=life.len()).step_by(3) {
        check(&life[..end], Loss::Nothing);
    }
}

#[test]
fn a_commit_that_was_answered_survives_the_loss_of_everything_unsynced() {
    let probe = Probe::logging();
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), options_with(&probe)).unwrap();
    let weights = scenario::weights();
    let writer = store.ingest(&digest(&weights), weights.len() as u64).unwrap();
    fill(&writer, &weights).unwrap();
    assert_eq!(blob_after_cut(&probe.log(), &weights), None, "not committed yet");
    writer.commit().unwrap();
    assert_eq!(blob_after_cut(&probe.log(), &weights).as_deref(), Some(&weights[..]));
}

#[test]
fn a_checkpoint_survives_the_loss_of_everything_unsynced() {
    let probe = Probe::logging();
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), options_with(&probe)).unwrap();
    let weights = scenario::weights();
    let writer = store.ingest(&digest(&weights), weights.len() as u64).unwrap();
    writer.write_at(0, &weights[..40_000]).unwrap();
    writer.mark(0..20_000).unwrap();
    writer.checkpoint().unwrap();
    writer.mark(20_000..40_000).unwrap();
    writer.flush().unwrap();
    let cut = tempfile::tempdir().unwrap();
    replay(&probe.log(), Loss::Everything, cut.path()).unwrap();
    let after = Store::open(cut.path(), after_reboot()).unwrap();
    let resumed = after.ingest(&digest(&weights), weights.len() as u64).unwrap();
    assert_eq!(resumed.missing(), std::slice::from_ref(&(20_000..60_000)), "durable stays, arrived goes");
    assert_eq!(resumed.resumed_bytes(), 20_000);
}

#[test]
fn what_has_only_arrived_is_not_believed_after_a_power_cut() {
    let probe = Probe::logging();
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), options_with(&probe)).unwrap();
    let weights = scenario::weights();
    let writer = store.ingest(&digest(&weights), weights.len() as u64).unwrap();
    writer.write_at(0, &weights[..1000]).unwrap();
    writer.mark(0..1000).unwrap();
    writer.checkpoint().unwrap();
    for start in (1000..weights.len()).step_by(10_000) {
        let end = weights.len().min(start + 10_000);
        writer.write_at(start as u64, &weights[start..end]).unwrap();
        writer.mark(start as u64..end as u64).unwrap();
        writer.flush().unwrap();
    }
    // The journal may be there and the bytes that it speaks of may not.
    for seed in 1..64 {
        check(&probe.log(), Loss::Some(seed));
    }
}

fn blob_after_cut(log: &[Op], whole: &[u8]) -> Option<Vec<u8>> {
    let root = tempfile::tempdir().unwrap();
    replay(log, Loss::Everything, root.path()).unwrap();
    read_blob(root.path(), whole)
}

fn read_blob(root: &Path, whole: &[u8]) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let store = Store::open(root, after_reboot()).unwrap();
    let mut file = store.open_blob(&digest(whole)).ok()?;
    let mut found = Vec::new();
    file.read_to_end(&mut found).unwrap();
    Some(found)
}
