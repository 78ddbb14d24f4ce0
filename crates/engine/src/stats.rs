//! Counters of the engine, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of the engine's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Bytes that sources delivered and that were written.
    pub bytes_fetched: u64,
    /// Blobs that were committed.
    pub blobs_completed: u64,
    /// Tries that failed and were or will be repeated.
    pub retries: u64,
    /// Passes that ended in bytes other than the digest's.
    pub digest_mismatches: u64,
    /// Digests with somebody interested now, waiting ones too.
    pub flights: u64,
    /// Of those, downloads that have left the queue.
    pub flights_running: u64,
    /// Connections open now.
    pub connections: u64,
    /// Bytes in buffers between network and disk now.
    pub buffer_bytes: u64,
    /// The most that there ever were.
    pub buffer_bytes_peak: u64,
}

/// The counters that only grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) bytes_fetched: AtomicU64,
    pub(crate) blobs_completed: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) digest_mismatches: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
