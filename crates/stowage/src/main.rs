//! The `stowage` binary: one command line for the node plugin, the store and the demo.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 64 bad configuration. Errors are one sentence on standard error.

/// Prints one line. A reader that has gone away (`stowage store ls | head`) is no failure of ours.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

mod cli;
mod commands;
mod failure;
mod node_setup;
mod progress;
mod signals;
mod tree;
mod wiring;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::{Cli, Command, LogArgs};
pub(crate) use crate::failure::Failure;
use crate::node_setup::NodeSetup;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        // Before any thread exists: namespaces are a thread's own.
        Command::Demo(args) => commands::demo::run(&args, &cli.log),
        Command::Node(args) => NodeSetup::read(&matches, cli.store, cli.log, *args)
            .and_then(|setup| block_on(&setup.log.clone(), "info", commands::node::run(setup))),
        Command::Controller(args) => {
            args.log(&cli.log).and_then(|log| block_on(&log, "info", commands::controller::run(*args)))
        }
        Command::Crd => commands::crd::run(),
        Command::Pause => commands::pause::run(),
        command => block_on(&cli.log, "warn", run(command, &cli.store)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn block_on(
    log: &LogArgs,
    usual: &str,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = runtime()?;
    wiring::init_logging(log, usual)?;
    let result = runtime.block_on(work);
    // A step that hangs in the kernel must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}

async fn run(command: Command, store: &cli::StoreArgs) -> Result<(), Failure> {
    match command {
        Command::Demo(_) | Command::Node(_) | Command::Controller(_) | Command::Crd | Command::Pause => {
            unreachable!("these have run already")
        }
        Command::Mount(args) => commands::mount::mount(store, args).await,
        Command::Unmount(args) => commands::mount::unmount(store, args).await,
        Command::Pull(args) => Box::pin(commands::pull::run(store, args)).await,
        Command::InUse(args) => commands::in_use::run(args).await,
        Command::Inspect(args) => commands::inspect::run(args).await,
        Command::Store(args) => commands::store::run(store, args),
        Command::Config(args) => commands::config::run(&args),
        Command::TestRegistry(args) => commands::test_registry::run(args).await,
        Command::ProbeVolume(args) => commands::probe_volume::run(args).await,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
