//! `stowage mount` and `stowage unmount`.

use std::path::PathBuf;

use clap::Args;

use super::{DownloadArgs, RegistryArgs, TarArgs, VolumeArgs};

#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    /// An existing directory, or one whose parent exists
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) downloads: DownloadArgs,
    #[command(flatten)]
    pub(crate) tars: TarArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnmountArgs {
    /// Where the artifact is mounted
    pub(crate) target: PathBuf,
}
