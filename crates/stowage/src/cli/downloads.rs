//! How much of the network downloads take.

use clap::Args;
use stowage_engine::EngineOptions;

const CONNECTIONS_PER_BLOB: u64 = 12;
const MAX_CONNECTIONS: u64 = 24;
const MAX_CONCURRENT_BLOBS: u64 = 16;

/// How much of the network downloads take.
#[derive(Clone, Debug, Args)]
pub(crate) struct DownloadArgs {
    /// Connections that one blob is read over at a time
    #[arg(long, env = "STOWAGE_CONNECTIONS_PER_BLOB", default_value_t = CONNECTIONS_PER_BLOB, value_name = "N", value_parser = limit())]
    pub(crate) connections_per_blob: u64,
    /// Connections of all downloads together; each takes up to 2 MiB of memory
    #[arg(long, env = "STOWAGE_MAX_CONNECTIONS", default_value_t = MAX_CONNECTIONS, value_name = "N", value_parser = limit())]
    pub(crate) max_connections: u64,
    /// Connections to one registry [default: as many as in all]
    #[arg(long, env = "STOWAGE_MAX_CONNECTIONS_PER_REGISTRY", value_name = "N", value_parser = limit())]
    pub(crate) max_connections_per_registry: Option<u64>,
    /// Blobs that are downloaded at a time; small ones are not counted
    #[arg(long, env = "STOWAGE_MAX_CONCURRENT_BLOBS", default_value_t = MAX_CONCURRENT_BLOBS, value_name = "N", value_parser = limit())]
    pub(crate) max_concurrent_blobs: u64,
    /// Bytes a second of all downloads together [default: no limit]
    #[arg(long, env = "STOWAGE_MAX_BYTES_PER_SECOND", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_bytes_per_second: Option<u64>,
}

impl Default for DownloadArgs {
    fn default() -> Self {
        Self {
            connections_per_blob: CONNECTIONS_PER_BLOB,
            max_connections: MAX_CONNECTIONS,
            max_connections_per_registry: None,
            max_concurrent_blobs: MAX_CONCURRENT_BLOBS,
            max_bytes_per_second: None,
        }
    }
}

/// A number of connections or blobs.
fn limit() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1024)
}

impl DownloadArgs {
    /// The engine's options. One namespace may take three quarters of what there is.
    pub(crate) fn options(&self) -> EngineOptions {
        let most = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let share = |all: u64| most((all * 3).div_ceil(4));
        EngineOptions {
            connections_per_blob: most(self.connections_per_blob),
            max_connections: most(self.max_connections),
            max_connections_per_namespace: share(self.max_connections),
            max_connections_per_registry: most(
                self.max_connections_per_registry.unwrap_or(self.max_connections),
            ),
            max_blobs: most(self.max_concurrent_blobs),
            max_blobs_per_namespace: share(self.max_concurrent_blobs),
            max_bytes_per_second: self.max_bytes_per_second,
            ..EngineOptions::default()
        }
    }
}
