//! `stowage demo`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Size in MiB of the largest file in the demo's artifacts
    #[arg(long, env = "STOWAGE_DEMO_MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=16384))]
    pub(crate) size_mib: u64,
}
