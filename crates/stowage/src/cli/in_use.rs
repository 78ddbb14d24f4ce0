//! `stowage in-use`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct InUseArgs {
    /// CSI driver name
    #[arg(long, env = "STOWAGE_DRIVER_NAME", default_value = stowage_node::DRIVER_NAME, value_name = "NAME")]
    pub(crate) driver_name: String,
}
