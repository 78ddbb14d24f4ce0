//! `stowage store`, and where the store is.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use stowage_store::{MinFree, StoreOptions};

#[derive(Clone, Debug, Args)]
pub(crate) struct StoreArgs {
    /// Directory of the store, on one filesystem
    #[arg(
        long = "store",
        env = "STOWAGE_STORE",
        default_value = "/var/lib/stowage",
        global = true,
        value_name = "DIR"
    )]
    pub(crate) path: PathBuf,
    /// Most bytes that the store may hold [default: by free space only]
    #[arg(long, env = "STOWAGE_MAX_BYTES", global = true, value_name = "BYTES")]
    pub(crate) max_bytes: Option<u64>,
    /// Per cent of the filesystem's bytes that are kept free for others
    #[arg(long, env = "STOWAGE_MIN_FREE", default_value_t = 20, global = true, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=95))]
    pub(crate) min_free: u8,
}

impl StoreArgs {
    /// The store's options.
    pub(crate) fn options(&self) -> StoreOptions {
        let defaults = StoreOptions::default();
        StoreOptions {
            max_bytes: self.max_bytes,
            min_free: MinFree { bytes_percent: self.min_free, ..defaults.min_free },
            ..defaults
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct StoreCommandArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List blobs, views, volumes and incomplete downloads
    Ls,
    /// Remove everything that no volume uses
    Gc,
    /// Read every blob again and compare it with its digest
    Fsck {
        /// Quarantine what is damaged, remove what is left over
        #[arg(long)]
        repair: bool,
    },
    /// Remove one blob or view that no volume uses
    Rm {
        /// A digest, or the id of a view
        id: String,
    },
}
