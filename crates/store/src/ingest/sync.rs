//! Steady write-back, and checkpoints: what has arrived becomes durable while the download runs.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::journal::RecordKind;
use super::{Ingest, IngestError, RangeSet};

/// A checkpoint is due after this many bytes ...
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// ... or after this time.
const CHECKPOINT_AGE: Duration = Duration::from_secs(5);

impl Ingest {
    /// Starts to write a run to the disk, so that the sync at the end has little left to do.
    pub(super) fn write_back(&self, run: &Range<u64>) -> Result<(), IngestError> {
        self.data.write_back("data.write_back", run.start, run.end - run.start).map_err(|error| {
            self.fail(&error);
            error.into()
        })
    }

    /// Hands a checkpoint that is due to the background.
    pub(super) fn checkpoint_if_due(self: &Arc<Self>) -> Result<(), IngestError> {
        {
            let mut state = self.live()?;
            let due =
                state.unsynced.total() >= CHECKPOINT_BYTES || state.checkpoint_at.elapsed() >= CHECKPOINT_AGE;
            if state.checkpoint_runs || !due || state.unsynced.is_empty() {
                return Ok(());
            }
            state.checkpoint_runs = true;
        }
        let weak = Arc::downgrade(self);
        self.store.worker.submit(move || {
            if let Some(ingest) = weak.upgrade() {
                // A failure ends the writer, which its next call reports.
                if let Err(error) = ingest.checkpoint() {
                    tracing::debug!(digest = %ingest.digest, %error, "checkpoint failed");
                }
                ingest.state().checkpoint_runs = false;
            }
        });
        Ok(())
    }

    /// Syncs the data, then records as durable what had arrived before.
    pub(super) fn checkpoint(&self) -> Result<(), IngestError> {
        let _syncing = self.syncing();
        if self.ended.load(std::sync::atomic::Ordering::Acquire) {
            return Err(self.ended_error());
        }
        let (arrived, journal, named) = {
            let mut state = self.live()?;
            state.checkpoint_at = Instant::now();
            (std::mem::take(&mut state.unsynced), state.journal.file(), state.named)
        };
        let synced = self
            .data
            .sync_data("data.sync")
            .and_then(|()| self.append_durable(&arrived))
            .and_then(|()| journal.sync_data("journal.sync"))
            .and_then(|()| if named { Ok(()) } else { self.sync_names() });
        match synced {
            Ok(()) => {
                self.state().named = true;
                Ok(())
            }
            // The sync itself was good; only the record of it is missing.
            Err(error) if error.is_no_space() => {
                let mut state = self.state();
                for range in arrived.iter() {
                    state.unsynced.insert(range);
                }
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(error.into())
            }
        }
    }

    fn append_durable(&self, arrived: &RangeSet) -> Result<(), crate::io::IoError> {
        let mut state = self.state();
        state.journal.append(arrived.iter(), RecordKind::Durable)?;
        for range in arrived.iter() {
            state.pending.remove(&range);
        }
        Ok(())
    }

    fn sync_names(&self) -> Result<(), crate::io::IoError> {
        self.dir.sync("ingest.dirsync")?;
        self.store.dirs.ingest.sync("ingest.dirsync")
    }
}
