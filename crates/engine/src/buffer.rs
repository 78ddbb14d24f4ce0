//! Buffers between the network and the writer threads, used again and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::options::BUFFER_BYTES;

/// Where buffers come from and go back to. At most two per connection are out, since a connection waits for
/// its last write before it hands over the next buffer.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    idle: Mutex<Vec<Vec<u8>>>,
    out: AtomicU64,
    peak: AtomicU64,
}

/// One buffer of [`BUFFER_BYTES`].
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<BufferPool>,
}

impl BufferPool {
    pub(crate) fn take(self: &Arc<Self>) -> Buffer {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let out = self.out.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(out, Ordering::Relaxed);
        Buffer { bytes: idle.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES)), pool: Arc::clone(self) }
    }

    /// Gives the memory of idle buffers back to the system.
    pub(crate) fn shrink(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Bytes in buffers that are out, now and at the most.
    pub(crate) fn bytes_out(&self) -> (u64, u64) {
        let buffer = BUFFER_BYTES as u64;
        (self.out.load(Ordering::Relaxed) * buffer, self.peak.load(Ordering::Relaxed) * buffer)
    }
}

impl Buffer {
    /// Appends as much as fits and says how much that was.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(BUFFER_BYTES - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..n]);
        n
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        self.pool.out.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_empty_and_never_grows() {
        let pool = Arc::new(BufferPool::default());
        let mut buffer = pool.take();
        assert_eq!(buffer.fill(&vec![7; BUFFER_BYTES - 1]), BUFFER_BYTES - 1);
        assert_eq!(buffer.fill(&[1, 2, 3]), 1);
        assert_eq!(buffer.bytes().len(), BUFFER_BYTES);
        let capacity = buffer.bytes.capacity();
        drop(buffer);
        let again = pool.take();
        assert!(again.bytes().is_empty());
        assert_eq!(again.bytes.capacity(), capacity);
        assert_eq!(pool.bytes_out(), (BUFFER_BYTES as u64, BUFFER_BYTES as u64));
    }
}
