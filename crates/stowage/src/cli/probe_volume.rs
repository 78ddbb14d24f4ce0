//! `stowage probe-volume`.

use std::path::PathBuf;

use clap::Args;

use crate::commands::probe_volume::ExpectedFile;

#[derive(Debug, Args)]
pub(crate) struct ProbeVolumeArgs {
    /// Where the volume is mounted
    #[arg(long, value_name = "DIR")]
    pub(crate) path: PathBuf,
    /// A file that must be there, PATH=DIGEST; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) expect: Vec<ExpectedFile>,
    /// No other file may be there
    #[arg(long)]
    pub(crate) exact: bool,
    /// Every attempt to write must fail because the filesystem is read-only
    #[arg(long)]
    pub(crate) write_must_fail: bool,
    /// Read again and again until told to stop
    #[arg(long)]
    pub(crate) hold: bool,
}
