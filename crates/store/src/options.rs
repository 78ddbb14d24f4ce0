//! What an administrator, or a test, decides about a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::io::Probe;

/// What admission keeps free on the filesystem, in per cent of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinFree {
    /// Of the bytes.
    pub bytes_percent: u8,
    /// Of the inodes, where the filesystem has a fixed number.
    pub inodes_percent: u8,
}

impl Default for MinFree {
    fn default() -> Self {
        Self { bytes_percent: 20, inodes_percent: 10 }
    }
}

/// When collection starts and stops, in per cent of the filesystem in use, as kubelet counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Collection starts here.
    pub start_percent: u8,
    /// And stops here.
    pub stop_percent: u8,
    /// Below this share of the filesystem the watermarks leave the store alone: a disk that a neighbour has
    /// filled must not empty the cache for ever.
    pub floor_percent: u8,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self { start_percent: 80, stop_percent: 75, floor_percent: 5 }
    }
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The most bytes that the store may hold.
    pub max_bytes: Option<u64>,
    /// What admission keeps free.
    pub min_free: MinFree,
    /// When collection starts and stops.
    pub watermarks: Watermarks,
    /// What was used in this time is not collected.
    pub min_age: Duration,
    /// How long the bytes of a download that nobody wants are kept.
    pub max_ingest_age: Duration,
    /// Switches for tests.
    pub testing: Testing,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            max_bytes: None,
            min_free: MinFree::default(),
            watermarks: Watermarks::default(),
            min_age: Duration::from_mins(10),
            max_ingest_age: Duration::from_hours(24),
            testing: Testing::default(),
        }
    }
}

/// Switches for tests; the default is what production has.
#[derive(Clone, Debug, Default)]
pub struct Testing {
    /// Fail points and the log of operations.
    pub probe: Option<Arc<Probe>>,
    /// The boot id in place of the kernel's.
    pub boot_id: Option<String>,
    /// A filesystem of a made-up size.
    pub space: Option<Arc<MadeUpSpace>>,
    /// How many links an inode may have, in place of the filesystem's own limit.
    pub max_links: Option<u64>,
    /// Background work runs at once on the thread that asks for it, so that operations come in a fixed order.
    pub no_threads: bool,
}

/// A filesystem of a made-up size; what the store itself takes is counted for real.
#[derive(Debug)]
pub struct MadeUpSpace {
    /// Size in bytes.
    pub bytes_total: u64,
    /// Bytes that others take.
    pub bytes_of_others: AtomicU64,
    /// Number of inodes; 0 for no fixed number.
    pub inodes_total: u64,
}

impl MadeUpSpace {
    /// A filesystem that nobody else uses.
    pub fn new(bytes_total: u64, inodes_total: u64) -> Arc<Self> {
        Arc::new(Self { bytes_total, bytes_of_others: AtomicU64::new(0), inodes_total })
    }

    pub(crate) fn with_store(&self, bytes: u64, inodes: u64) -> stowage_sys::Space {
        let others = self.bytes_of_others.load(Ordering::Relaxed);
        stowage_sys::Space {
            bytes_total: self.bytes_total,
            bytes_free: self.bytes_total.saturating_sub(others).saturating_sub(bytes),
            inodes_total: self.inodes_total,
            inodes_free: self.inodes_total.saturating_sub(inodes),
        }
    }
}
