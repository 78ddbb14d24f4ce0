//! `stowage config`.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the JSON schema of a configuration file
    Schema {
        /// Whose configuration
        #[arg(default_value = "node", value_name = "WHOSE")]
        whose: ConfigKind,
    },
}

/// Who has a configuration file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ConfigKind {
    /// `stowage node`
    Node,
    /// `stowage controller`
    Controller,
}
