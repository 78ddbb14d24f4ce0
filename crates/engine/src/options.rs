//! The knobs of the engine.

use std::time::Duration;

/// Bytes of one buffer between the network and a writer thread. Two of them and one step of the journal are what a
/// killed process loses of a connection: 1 MiB at the most.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// Limits and times of an engine. `EngineOptions::default()` suits a node.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Size of a part, the unit that one connection asks for.
    pub part_bytes: u64,
    /// No part starts more than this many bytes beyond the digest's frontier.
    pub window_bytes: u64,
    /// Connections that one blob may use at a time.
    pub connections_per_blob: usize,
    /// Connections of the whole node; buffers take at most half this many MiB.
    pub max_connections: usize,
    /// Connections to one registry, whoever asks.
    pub max_connections_per_registry: usize,
    /// Connections that one namespace may hold while others could want them.
    pub max_connections_per_namespace: usize,
    /// Blobs that are downloaded at a time on the whole node; the rest wait in a fair queue.
    pub max_blobs: usize,
    /// Blobs that one namespace may have running, so that its slow registries cannot stop the others.
    pub max_blobs_per_namespace: usize,
    /// Bytes a second of all downloads of the node, in which the namespaces take turns; no limit without it.
    pub max_bytes_per_second: Option<u64>,
    /// Blobs of at most this size are read whole and committed in batches, without a journal.
    pub small_blob_bytes: u64,
    /// Threads that write to the disk.
    pub writers: usize,
    /// How long an answer or the next bytes of a body may take.
    pub inactivity: Duration,
    /// Tries of one source without a single new byte before it counts as unavailable.
    pub tries: u32,
    /// Pause after the first failed try; it doubles with each further one.
    pub backoff_base: Duration,
    /// The longest such pause.
    pub backoff_cap: Duration,
    /// The longest pause that a source may ask for.
    pub retry_after_cap: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            part_bytes: 16 << 20,
            window_bytes: 256 << 20,
            connections_per_blob: 12,
            max_connections: 24,
            max_connections_per_registry: 24,
            max_connections_per_namespace: 18,
            max_blobs: 16,
            max_blobs_per_namespace: 12,
            max_bytes_per_second: None,
            small_blob_bytes: 256 << 10,
            writers: 4,
            inactivity: Duration::from_secs(30),
            tries: 6,
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(20),
            retry_after_cap: Duration::from_mins(5),
        }
    }
}

impl EngineOptions {
    /// The same options with every number made usable: at least one of each.
    pub(crate) fn sane(mut self) -> Self {
        self.part_bytes = self.part_bytes.max(64 << 10);
        self.connections_per_blob = self.connections_per_blob.max(1);
        self.max_connections = self.max_connections.max(1);
        self.max_connections_per_namespace =
            self.max_connections_per_namespace.clamp(1, self.max_connections);
        self.max_connections_per_registry = self.max_connections_per_registry.clamp(1, self.max_connections);
        self.max_bytes_per_second = self.max_bytes_per_second.map(|rate| rate.max(1));
        // They are held in memory.
        self.small_blob_bytes = self.small_blob_bytes.min(1 << 20);
        self.max_blobs = self.max_blobs.max(1);
        self.max_blobs_per_namespace = self.max_blobs_per_namespace.clamp(1, self.max_blobs);
        self.writers = self.writers.max(1);
        self.tries = self.tries.max(1);
        self
    }
}
