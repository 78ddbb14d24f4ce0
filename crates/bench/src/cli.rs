//! The command line, as `cargo xtask bench` calls it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use stowage_artifact::Digest;

use crate::scenarios::Scenario;

/// The benchmark of Stowage; call it by `cargo xtask bench`.
#[derive(Debug, Parser)]
#[command(name = "stowage-bench")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What this process is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure, print, clean up.
    Run(Plan),
    /// The part of `run` that measures, in namespaces and directories that `run` has made and will remove.
    #[command(hide = true)]
    Work(Work),
    /// Hash files one after the other with the digest code of Stowage, as something to measure.
    #[command(hide = true)]
    Hash {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// Bring blobs of zeros through the engine alone, as something to measure.
    #[command(hide = true)]
    Engine(EngineWork),
    /// Write the image of a tar that is in a store, as something to measure.
    #[command(hide = true)]
    View(ViewWork),
}

/// What is to be measured, and where the figures go.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
    /// The `stowage` program.
    #[arg(long, value_name = "FILE")]
    pub(crate) stowage: PathBuf,
    /// A directory on a real disk; everything happens in a new one beneath it.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// How large everything is.
    #[arg(long, value_enum, default_value_t = Scale::Full)]
    pub(crate) scale: Scale,
    /// Only these rows; may be repeated.
    #[arg(long = "row", value_enum, value_name = "ROW")]
    pub(crate) rows: Vec<Scenario>,
    /// Runs of each program, in place of each row's own number.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: Option<u32>,
    /// Write all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report with its plots into this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) docs: Option<PathBuf>,
    /// The commit that is measured.
    #[arg(long, default_value = "unknown")]
    pub(crate) commit: String,
    /// Why a program is not here, as NAME=REASON; may be repeated.
    #[arg(long = "missing", value_name = "NAME=REASON", value_parser = pair)]
    pub(crate) missing: Vec<(String, String)>,
}

/// A plan, and the directories for it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Work {
    #[command(flatten)]
    pub(crate) plan: Plan,
    /// Where blobs and stores go.
    #[arg(long)]
    pub(crate) scratch: PathBuf,
    /// Where kubelet and its sockets go: a short path.
    #[arg(long)]
    pub(crate) sockets: PathBuf,
    /// What cgroups are called.
    #[arg(long)]
    pub(crate) cgroup: String,
}

/// Blobs of zeros that end in their own number.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineWork {
    /// The store, which is made.
    #[arg(long)]
    pub(crate) store: PathBuf,
    /// Bytes of each blob.
    #[arg(long)]
    pub(crate) size: u64,
    /// The digest of each blob.
    #[arg(long = "digest")]
    pub(crate) digests: Vec<Digest>,
}

/// A tar whose view is to be built.
#[derive(Clone, Debug, Args)]
pub(crate) struct ViewWork {
    /// The store, which has the tar and no view of it.
    #[arg(long)]
    pub(crate) store: PathBuf,
    /// The tar.
    #[arg(long)]
    pub(crate) digest: Digest,
    /// Its size in bytes.
    #[arg(long)]
    pub(crate) size: u64,
}

/// How large everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scale {
    /// As the targets mean it.
    Full,
    /// Three minutes, every row.
    Quick,
    /// A second, to see that the benchmark itself works.
    Tiny,
}

impl Scale {
    /// One value for each scale.
    pub(crate) fn pick<T>(self, full: T, quick: T, tiny: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Tiny => tiny,
        }
    }

    /// Whether figures can be held against their targets.
    pub(crate) fn is_full(self) -> bool {
        self == Self::Full
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, reason) = text.split_once('=').ok_or("write NAME=REASON")?;
    Ok((name.to_owned(), reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rows_and_reasons_are_repeated() {
        let words = "stowage-bench run --stowage s --dir d --row pull --row digest --missing modctl=no=way";
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        let Command::Run(plan) = cli.command else { panic!("{cli:?}") };
        assert_eq!(plan.rows, [Scenario::Pull, Scenario::Digest]);
        assert_eq!(plan.missing, [("modctl".to_owned(), "no=way".to_owned())]);
        assert_eq!(plan.scale.pick(3, 2, 1), 3);
    }
}
