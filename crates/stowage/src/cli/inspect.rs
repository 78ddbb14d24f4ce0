//! `stowage inspect`.

use clap::Args;

use super::{RegistryArgs, VolumeArgs};

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
