//! Downloads in progress: the bytes, the journal of what has arrived, the digest on the way, the commit.
//!
//! `ingest/<alg>-<hex>-<size>/` holds `data` and `journal`. Any thread writes and marks; one thread, the prefix thread,
//! calls [`IngestWriter::advance`]. A failed sync removes the ingest at once: the page cache may look right while
//! the disk is wrong, so nothing of it is ever trusted again.

mod commit;
mod journal;
mod open;
mod ranges;
mod sync;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use stowage_artifact::Codec;
use stowage_artifact::digest::{Digest, Hasher};

use crate::decode::{DecodeError, Decoding};
use crate::io::{Dir, IoError, IoFile};
use crate::store::Inner;
use journal::{Journal, RecordKind};
use ranges::RangeSet;

pub use commit::CommitError;
pub(crate) use open::discard;

/// An `arrived` record is written for runs of this many bytes.
const RECORD_STEP: u64 = 512 << 10;
/// More unwritten runs than this are written whatever their length.
const MAX_PENDING_RUNS: usize = 64;
/// The digest reads this much at a time from the page cache; it stays in the processor's own cache until it is hashed.
const HASH_STEP: usize = 256 << 10;
/// At most so much is hashed in one call of [`IngestWriter::advance`].
const ADVANCE_BYTES: u64 = 64 << 20;

/// Why a download cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Another writer of this process has the digest, with the same size.
    #[error("blob {0} is being downloaded already")]
    Busy(Digest),
    /// Nothing to do.
    #[error("blob {0} is in the store already")]
    AlreadyStored(Digest),
    /// The disk, or the quota on it, is full.
    #[error(
        "no space for blob {digest}: {needed} bytes are needed and {free} are free; free some, or raise the quota"
    )]
    NoSpace {
        /// The blob.
        digest: Digest,
        /// Bytes that were to be written.
        needed: u64,
        /// Bytes free on the filesystem.
        free: u64,
    },
    /// Bytes beyond the declared size.
    #[error("blob {digest} is longer than its {size} bytes: bytes up to {end} were to be written")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// Its declared size.
        size: u64,
        /// Where the bytes would end.
        end: u64,
    },
    /// A sync failed, or the writer was committed: this writer is at its end.
    #[error("the download of blob {digest} has ended: {reason}")]
    Ended {
        /// The blob.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// The decoded bytes have no place.
    #[error(transparent)]
    Decode(Box<DecodeError>),
    /// The disk.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// One download, open for writing; exclusive for its digest and size.
///
/// Every method blocks and may be called from any thread; so does dropping it, which waits for a checkpoint under
/// way. Dropped without a commit, the bytes and the journal stay for the next [`crate::Store::ingest`] of the
/// digest.
#[derive(Debug)]
pub struct IngestWriter {
    inner: Arc<Ingest>,
}

/// What the writer shares with a checkpoint that runs in the background.
#[derive(Debug)]
pub(crate) struct Ingest {
    store: Arc<Inner>,
    digest: Digest,
    size: u64,
    dir: Dir,
    data: IoFile,
    resumed: u64,
    state: Mutex<State>,
    prefix: Mutex<Prefix>,
    /// Held while the file is synced; a commit waits for it.
    syncing: Mutex<()>,
    frontier: AtomicU64,
    hashed: AtomicU64,
    ended: AtomicBool,
    /// Whether the blob stays beside what it is decoded to.
    keep_encoded: AtomicBool,
}

#[derive(Debug)]
struct State {
    arrived: RangeSet,
    /// Arrived, without a record in the journal.
    pending: RangeSet,
    /// Arrived, not known to be synced.
    unsynced: RangeSet,
    /// Written back up to here since the last step, in order of arrival.
    checkpoint_at: Instant,
    checkpoint_runs: bool,
    journal: Journal,
    /// Whether the ingest's own names are on the disk.
    named: bool,
    preallocated: bool,
    end: Option<String>,
}

/// The digest of the contiguous start.
#[derive(Debug)]
struct Prefix {
    hasher: Hasher,
    at: u64,
    decoding: Option<Decoding>,
    /// How the blob is compressed, where it is to be decoded.
    codec: Option<Codec>,
}

impl IngestWriter {
    /// The blob.
    pub fn digest(&self) -> &Digest {
        &self.inner.digest
    }

    /// Its declared size in bytes.
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// Bytes that were here when the writer was opened.
    pub fn resumed_bytes(&self) -> u64 {
        self.inner.resumed
    }

    /// The ranges that have not arrived, in order, joined.
    pub fn missing(&self) -> Vec<Range<u64>> {
        self.inner.state().arrived.gaps(self.inner.size)
    }

    /// Reserves the whole blob on the disk. Only after the server's own size has been found equal to the
    /// declared one: a lying manifest must not reserve the disk.
    pub fn preallocate(&self) -> Result<(), IngestError> {
        let inner = &self.inner;
        let mut state = inner.live()?;
        if state.preallocated || inner.size == 0 {
            return Ok(());
        }
        if let Err(error) = inner.data.allocate("data.allocate", inner.size) {
            // What was reserved before the disk was full is given back.
            let _ = inner.data.set_len("data.unreserve", state.arrived.end());
            return Err(inner.write_error(error, inner.size - state.arrived.total()));
        }
        state.preallocated = true;
        Ok(())
    }

    /// Writes bytes; they count only once they are marked.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IngestError> {
        let inner = &self.inner;
        inner.check_range(&(offset..offset.saturating_add(bytes.len() as u64)))?;
        if inner.ended.load(Ordering::Acquire) {
            return Err(inner.ended_error());
        }
        inner
            .data
            .write_at("data.write", offset, bytes)
            .map_err(|error| inner.write_error(error, bytes.len() as u64))
    }

    /// Says that every byte of the range has been written.
    pub fn mark(&self, range: Range<u64>) -> Result<(), IngestError> {
        let inner = &self.inner;
        inner.check_range(&range)?;
        let run = {
            let mut state = inner.live()?;
            state.arrived.insert(range.clone());
            state.unsynced.insert(range.clone());
            let run = state.pending.insert(range);
            inner.frontier.store(state.arrived.frontier(), Ordering::Release);
            if run.end - run.start >= RECORD_STEP {
                record(&mut state, std::slice::from_ref(&run))?;
                Some(run)
            } else {
                if state.pending.pieces() > MAX_PENDING_RUNS {
                    let runs: Vec<_> = state.pending.iter().collect();
                    record(&mut state, &runs)?;
                }
                None
            }
        };
        if let Some(run) = run {
            inner.write_back(&run)?;
        }
        inner.checkpoint_if_due()
    }

    /// Writes `arrived` records for everything that has arrived: what a killed process need not fetch again.
    pub fn flush(&self) -> Result<(), IngestError> {
        let mut state = self.inner.live()?;
        let runs: Vec<_> = state.pending.iter().collect();
        record(&mut state, &runs)
    }

    /// Syncs everything that has arrived and records it as durable. Happens by itself every 64 MiB or 5 s.
    pub fn checkpoint(&self) -> Result<(), IngestError> {
        self.inner.checkpoint()
    }

    /// How many bytes from the start have arrived without a gap.
    pub fn frontier(&self) -> u64 {
        self.inner.frontier.load(Ordering::Acquire)
    }

    /// How many bytes from the start the digest has seen.
    pub fn hashed(&self) -> u64 {
        self.inner.hashed.load(Ordering::Acquire)
    }

    /// Lets the digest see what lies between [`Self::hashed`] and [`Self::frontier`]; returns the new `hashed`.
    ///
    /// At most 64 MiB a call, so that a caller can stop in the middle of a large resumed prefix.
    pub fn advance(&self) -> Result<u64, IngestError> {
        let mut prefix = self.inner.prefix();
        let limit = prefix.at.saturating_add(ADVANCE_BYTES);
        self.inner.advance(&mut prefix, limit)
    }

    /// Decodes the bytes as the digest sees them: the commit makes a blob of the plain ones, and the compressed ones go, unless
    /// [`Self::keep_encoded`] was called. To be called before the first [`Self::advance`].
    ///
    /// Where the bytes turn out not to be compressed like this, the commit makes a blob of them as they are.
    pub fn decode(&self, codec: Codec) -> Result<(), IngestError> {
        let mut prefix = self.inner.prefix();
        prefix.decoding = Some(self.inner.start_decoding(codec)?);
        prefix.codec = Some(codec);
        Ok(())
    }

    /// Somebody wants the blob as it is, too.
    pub fn keep_encoded(&self) {
        self.inner.keep_encoded.store(true, Ordering::Release);
    }

    /// Drops everything that has arrived and starts at 0, for a source whose bytes turned out to be wrong.
    /// Nobody may write meanwhile.
    pub fn reset(&self) -> Result<(), IngestError> {
        self.inner.reset()
    }

    /// Makes a blob of the download: see `store.md`, "Commit of a blob".
    ///
    /// Wrong bytes go to quarantine. After any outcome but [`CommitError::Incomplete`] the writer is at its end.
    pub fn commit(&self) -> Result<(), CommitError> {
        self.inner.commit()
    }
}

impl Drop for IngestWriter {
    fn drop(&mut self) {
        let open = !self.inner.ended.load(Ordering::Acquire);
        // A refused download leaves no file of the blob's whole size behind.
        let empty = open && self.inner.state().arrived.is_empty();
        if open && !empty {
            let flushed = self.flush();
            if let Err(error) = flushed {
                tracing::debug!(digest = %self.inner.digest, %error, "some bytes will be fetched again");
            }
        }
        // A checkpoint in the background must not write to the journal beside the next writer.
        let _syncing = self.inner.syncing();
        self.inner.ended.store(true, Ordering::Release);
        self.inner.store.refs().end_ingest(&self.inner.digest, self.inner.size);
        if !empty {
            return;
        }
        if let Err(error) = self.inner.store.remove_idle_ingest(&self.inner.digest, self.inner.size) {
            tracing::debug!(digest = %self.inner.digest, %error, "an empty download stays until it is old");
        }
    }
}

impl Ingest {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prefix(&self) -> MutexGuard<'_, Prefix> {
        self.prefix.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn syncing(&self) -> MutexGuard<'_, ()> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a writer that is not at its end.
    fn live(&self) -> Result<MutexGuard<'_, State>, IngestError> {
        let state = self.state();
        match &state.end {
            Some(reason) => Err(IngestError::Ended { digest: self.digest.clone(), reason: reason.clone() }),
            None => Ok(state),
        }
    }

    fn ended_error(&self) -> IngestError {
        let reason = self.state().end.clone().unwrap_or_else(|| "the writer was dropped".to_owned());
        IngestError::Ended { digest: self.digest.clone(), reason }
    }

    fn check_range(&self, range: &Range<u64>) -> Result<(), IngestError> {
        if range.end > self.size || range.start > range.end {
            return Err(IngestError::TooLong {
                digest: self.digest.clone(),
                size: self.size,
                end: range.end,
            });
        }
        Ok(())
    }

    /// A full disk under its own name, everything else as it is.
    fn write_error(&self, error: IoError, needed: u64) -> IngestError {
        if error.is_no_space() {
            let free = self.store.space().map_or(0, |space| space.bytes_free);
            return IngestError::NoSpace { digest: self.digest.clone(), needed, free };
        }
        IngestError::Io(error)
    }

    /// Hashes up to the frontier, and no further than `limit`.
    fn advance(&self, prefix: &mut Prefix, limit: u64) -> Result<u64, IngestError> {
        let frontier = self.frontier.load(Ordering::Acquire).min(limit);
        let mut buffer = vec![0; HASH_STEP.min((frontier - prefix.at.min(frontier)) as usize)];
        while prefix.at < frontier {
            if self.ended.load(Ordering::Acquire) {
                return Err(self.ended_error());
            }
            let step = buffer.len().min((frontier - prefix.at) as usize);
            self.data
                .read_at("data.read", prefix.at, &mut buffer[..step])
                .inspect_err(|error| self.fail(error))?;
            prefix.hasher.update(&buffer[..step]);
            self.decode_step(prefix, &buffer[..step])?;
            prefix.at += step as u64;
            self.hashed.store(prefix.at, Ordering::Release);
        }
        Ok(prefix.at)
    }

    fn start_decoding(&self, codec: Codec) -> Result<Decoding, IngestError> {
        Decoding::start(&self.store, &self.digest, self.size, codec).map_err(decode_error)
    }

    /// Hands the bytes on to the decoder. What is wrong with them is told when their digest is known to be right: until then
    /// the registry may be at fault.
    fn decode_step(&self, prefix: &mut Prefix, bytes: &[u8]) -> Result<(), IngestError> {
        let Some(decoding) = &mut prefix.decoding else { return Ok(()) };
        match decoding.push(bytes) {
            Ok(()) => Ok(()),
            Err(error) if error.is_final() => {
                tracing::debug!(digest = %self.digest, %error, "kept as it is");
                prefix.decoding = None;
                Ok(())
            }
            Err(error) => Err(decode_error(error)),
        }
    }

    fn reset(&self) -> Result<(), IngestError> {
        let _syncing = self.syncing();
        let mut prefix = self.prefix();
        let mut state = self.live()?;
        // The new journal first: an old one must never vouch for bytes that are gone.
        let nothing = RangeSet::default();
        let journal = Journal::start(&self.dir, &self.digest, self.size, &self.store.boot_id, &nothing)
            .map_err(|error| self.write_error(error, 0))?;
        if state.named {
            self.dir.sync("ingest.dirsync").inspect_err(|error| self.end(&mut state, error))?;
        }
        self.data.set_len("data.reset", 0)?;
        state.journal = journal;
        state.arrived = RangeSet::default();
        state.pending = RangeSet::default();
        state.unsynced = RangeSet::default();
        state.preallocated = false;
        state.checkpoint_at = Instant::now();
        prefix.decoding = None;
        prefix.decoding = prefix.codec.map(|codec| self.start_decoding(codec)).transpose()?;
        prefix.hasher = Hasher::new(self.digest.algorithm());
        prefix.at = 0;
        self.frontier.store(0, Ordering::Release);
        self.hashed.store(0, Ordering::Release);
        Ok(())
    }

    /// Ends the writer and removes its bytes, because the disk can no longer be believed.
    fn fail(&self, error: &IoError) {
        let mut state = self.state();
        self.end(&mut state, error);
    }

    fn end(&self, state: &mut State, error: &IoError) {
        if state.end.is_some() {
            return;
        }
        tracing::warn!(digest = %self.digest, %error, "the disk failed a download; its bytes are removed");
        state.end = Some(error.to_string());
        self.ended.store(true, Ordering::Release);
        if let Err(error) = discard(&self.store, &self.digest, self.size) {
            tracing::warn!(digest = %self.digest, %error, "the bytes of a failed download cannot be removed");
        }
    }
}

fn decode_error(error: DecodeError) -> IngestError {
    IngestError::Decode(Box::new(error))
}

/// Writes `arrived` records. A full disk costs only what a killed process would not fetch again.
fn record(state: &mut State, runs: &[Range<u64>]) -> Result<(), IngestError> {
    match state.journal.append(runs.iter().cloned(), RecordKind::Arrived) {
        Ok(()) => {
            for run in runs {
                state.pending.remove(run);
            }
            Ok(())
        }
        Err(error) if error.is_no_space() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
