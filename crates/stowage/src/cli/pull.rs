//! `stowage pull`.

use clap::Args;

use super::{DownloadArgs, RegistryArgs, VolumeArgs};

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) downloads: DownloadArgs,
    /// For oci:DIR: under which reference pods will ask for it
    #[arg(long = "as", value_name = "REF")]
    pub(crate) name: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
