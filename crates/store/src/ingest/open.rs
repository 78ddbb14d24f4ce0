//! Opening an ingest: anew, or with the bytes that an earlier writer left.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use stowage_artifact::digest::{Digest, Hasher};

use super::journal::{self, Journal};
use super::ranges::RangeSet;
use super::{Ingest, IngestError, IngestWriter, Prefix, State};
use crate::io::{Dir, IoError, IoFile, Kind, gone_is_fine};
use crate::names;
use crate::store::{Inner, Store};

impl Store {
    /// Opens the download of a blob, or resumes it. One writer per digest and declared size: whoever
    /// lies about a size holds up nobody.
    ///
    /// A resumed file is synced and dropped from the page cache first, so that the digest sees what is on the disk.
    pub fn ingest(&self, digest: &Digest, size: u64) -> Result<IngestWriter, IngestError> {
        let store = self.inner();
        if self.blob_size(digest).is_some() {
            return Err(IngestError::AlreadyStored(digest.clone()));
        }
        if !store.refs().begin_ingest(digest, size) {
            return Err(IngestError::Busy(digest.clone()));
        }
        open(store, digest, size).map(|inner| IngestWriter { inner: Arc::new(inner) }).inspect_err(|_| {
            store.refs().end_ingest(digest, size);
        })
    }
}

/// What is open of an ingest.
struct Opened {
    dir: Dir,
    data: IoFile,
    journal: Journal,
    arrived: RangeSet,
}

fn open(store: &Arc<Inner>, digest: &Digest, size: u64) -> Result<Ingest, IngestError> {
    let opened = match resume(store, digest, size) {
        Ok(Some(opened)) => Ok(opened),
        Ok(None) => create(store, digest, size),
        Err(error) => Err(error),
    };
    let Opened { dir, data, journal, arrived } = opened.map_err(|error| {
        if error.is_no_space() {
            let free = store.space().map_or(0, |space| space.bytes_free);
            IngestError::NoSpace { digest: digest.clone(), needed: size, free }
        } else {
            IngestError::Io(error)
        }
    })?;
    Ok(Ingest {
        store: Arc::clone(store),
        digest: digest.clone(),
        size,
        dir,
        data,
        resumed: arrived.total(),
        frontier: AtomicU64::new(arrived.frontier()),
        hashed: AtomicU64::new(0),
        state: Mutex::new(State {
            arrived,
            pending: RangeSet::default(),
            unsynced: RangeSet::default(),
            checkpoint_at: Instant::now(),
            checkpoint_runs: false,
            journal,
            named: false,
            preallocated: false,
            end: None,
        }),
        prefix: Mutex::new(Prefix {
            hasher: Hasher::new(digest.algorithm()),
            at: 0,
            decoding: None,
            codec: None,
        }),
        syncing: Mutex::new(()),
        ended: AtomicBool::new(false),
        keep_encoded: AtomicBool::new(false),
    })
}

/// A new ingest, in place of whatever is there.
fn create(store: &Arc<Inner>, digest: &Digest, size: u64) -> Result<Opened, IoError> {
    discard(store, digest, size)?;
    let name = names::ingest(digest, size);
    let ingests = &store.dirs.ingest;
    let make = || {
        ingests.make_dir("ingest.mkdir", &name, 0o700)?;
        let dir = ingests.open_dir(&name)?;
        let nothing = RangeSet::default();
        let journal = Journal::start(&dir, digest, size, &store.boot_id, &nothing)?;
        let data = dir.create("data.create", names::DATA)?;
        Ok(Opened { dir, data, journal, arrived: nothing })
    };
    make().inspect_err(|_| {
        let _ = discard(store, digest, size);
    })
}

/// The bytes of an earlier writer, as far as they can be trusted; `None` where nothing can.
fn resume(store: &Arc<Inner>, digest: &Digest, size: u64) -> Result<Option<Opened>, IoError> {
    let dir = match store.dirs.ingest.open_dir(&names::ingest(digest, size)) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let Some(found) = dir.stat(names::DATA)? else { return Ok(None) };
    // A second name means that a power cut left it beside the blob that it became: those bytes belong to others.
    if found.kind != Kind::File || found.links != 1 {
        return Ok(None);
    }
    let Some(mut recovered) = journal::recover(&dir, digest, size, &store.boot_id)? else { return Ok(None) };
    recovered.ranges.remove(&(found.len..u64::MAX));
    if recovered.ranges.is_empty() {
        return Ok(None);
    }
    if found.mode != 0o600 {
        // A commit got as far as the blob's mode.
        dir.chmod("data.reopen", names::DATA, 0o600)?;
    }
    let data = dir.open_write("data.open", names::DATA)?;
    let synced = data.sync("data.sync").and_then(|()| data.drop_cache("data.drop_cache"));
    if let Err(error) = synced {
        // Never retried as if clean: the next writer starts at 0.
        tracing::warn!(%digest, %error, "the bytes of an earlier download cannot be trusted and are removed");
        discard(store, digest, size)?;
        return Ok(None);
    }
    let journal = Journal::start(&dir, digest, size, &store.boot_id, &recovered.ranges)?;
    tracing::debug!(%digest, bytes = recovered.ranges.total(), same_boot = recovered.same_boot, "download resumed");
    Ok(Some(Opened { dir, data, journal, arrived: recovered.ranges }))
}

/// Removes an ingest from the disk. The journal goes first, so that nothing vouches for bytes that are gone.
pub(crate) fn discard(store: &Inner, digest: &Digest, size: u64) -> Result<(), IoError> {
    let name = names::ingest(digest, size);
    let dir = match store.dirs.ingest.open_dir(&name) {
        Err(error) if error.is_not_found() => return Ok(()),
        opened => opened?,
    };
    gone_is_fine(dir.unlink("ingest.discard", names::JOURNAL))?;
    store.dirs.ingest.remove_all("ingest.discard", &name)
}
