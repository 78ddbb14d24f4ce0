//! What is logged.

use clap::Args;
use stowage_telemetry::LogFormat;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LogArgs {
    /// What to log: a level, or directives such as `stowage_engine=debug,info` [default: info for node and controller, else warn]
    #[arg(long = "log", env = "STOWAGE_LOG", global = true, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// How log lines look: auto, human or json
    #[arg(long, env = "STOWAGE_LOG_FORMAT", default_value = "auto", global = true, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}
