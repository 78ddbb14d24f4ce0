//! Admission: whether a download may begin, before its first byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::collect::{CollectOptions, percent};
use crate::error::StoreError;
use crate::store::{Inner, Store};

/// Why a download may not begin.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The filesystem has not enough bytes.
    #[error(
        "{needed} bytes are needed, {free} are free and {keep} of them are kept for others, after removing what nobody uses; free some, or use a larger disk for the store"
    )]
    NoSpace {
        /// Bytes to come, with those that are admitted and not written yet.
        needed: u64,
        /// Bytes free on the filesystem.
        free: u64,
        /// Bytes that must stay free.
        keep: u64,
    },
    /// The filesystem has not enough inodes.
    #[error(
        "{needed} files are needed, {free} inodes are free and {keep} of them are kept for others, after removing what nobody uses; free some, or use another disk for the store"
    )]
    NoInodes {
        /// Files to come.
        needed: u64,
        /// Inodes free on the filesystem.
        free: u64,
        /// Inodes that must stay free.
        keep: u64,
    },
    /// The store's own limit.
    #[error(
        "{needed} bytes are needed, and of the store's limit of {limit} bytes {used} are in use; raise maxBytes"
    )]
    OverLimit {
        /// Bytes to come.
        needed: u64,
        /// Bytes in the store, after removing what nobody uses.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Room that was admitted: others are refused it until the value is dropped.
///
/// What is on the disk counts by itself, so give bytes back with [`Admission::written`] once they are reserved
/// or written there.
#[derive(Debug)]
pub struct Admission {
    store: Arc<Inner>,
    bytes: AtomicU64,
}

impl Admission {
    /// So many of the bytes are on the disk now.
    pub fn written(&self, bytes: u64) {
        let take = |left: u64| Some(left.saturating_sub(bytes));
        let before = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).unwrap_or(0);
        self.store.reserved.fetch_sub(before.min(bytes), Ordering::AcqRel);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.store.reserved.fetch_sub(self.bytes.load(Ordering::Acquire), Ordering::AcqRel);
    }
}

impl Store {
    /// Admits a download of `bytes` in `blobs` blobs, evicting what nobody uses before refusing. Writes nothing.
    ///
    /// Whoever drops the answer at once has asked without reserving.
    pub fn admit(&self, bytes: u64, blobs: u64) -> Result<Admission, AdmitError> {
        let inner = self.inner();
        let admit = || {
            inner.reserved.fetch_add(bytes, Ordering::AcqRel);
            Admission { store: Arc::clone(inner), bytes: AtomicU64::new(bytes) }
        };
        if bytes == 0 && blobs == 0 {
            return Ok(admit());
        }
        // A blob, its journal and directories on the way, a view.
        let inodes = blobs.saturating_add(8);
        let first = inner.check(bytes, inodes);
        if matches!(first, Ok(()) | Err(AdmitError::Store(_))) {
            return first.map(|()| admit());
        }
        let reserved = inner.reserved.load(Ordering::Acquire);
        self.collect(&CollectOptions {
            need_bytes: bytes.saturating_add(reserved),
            need_inodes: inodes,
            ..CollectOptions::default()
        })?;
        inner.check(bytes, inodes)?;
        Ok(admit())
    }
}

impl Inner {
    fn check(&self, bytes: u64, inodes: u64) -> Result<(), AdmitError> {
        let space = self.space().map_err(StoreError::from)?;
        let needed = bytes.saturating_add(self.reserved.load(Ordering::Acquire));
        let keep = percent(space.bytes_total, self.options.min_free.bytes_percent);
        if needed.saturating_add(keep) > space.bytes_free {
            return Err(AdmitError::NoSpace { needed, free: space.bytes_free, keep });
        }
        if space.inodes_total > 0 {
            let keep = percent(space.inodes_total, self.options.min_free.inodes_percent);
            if inodes.saturating_add(keep) > space.inodes_free {
                return Err(AdmitError::NoInodes { needed: inodes, free: space.inodes_free, keep });
            }
        }
        if let Some(limit) = self.options.max_bytes {
            let used = self.scan_usage().map_err(StoreError::from)?.bytes;
            if needed.saturating_add(used) > limit {
                return Err(AdmitError::OverLimit { needed, used, limit });
            }
        }
        Ok(())
    }
}
