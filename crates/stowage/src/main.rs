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
mod progress;
mod tree;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
pub(crate) use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        // Before any thread exists: namespaces are a thread's own.
        Command::Demo(args) => commands::demo::run(&args, &cli.log),
        command => runtime().and_then(|runtime| {
            wiring::init_logging(&cli.log, &command)?;
            let result = runtime.block_on(run(command, &cli.store));
            // A step that hangs in the kernel must not keep the process from ending.
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
            result
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(command: Command, store: &cli::StoreArgs) -> Result<(), Failure> {
    match command {
        Command::Demo(_) => unreachable!("the demo sets up its own runtime"),
        Command::Mount(args) => commands::mount::mount(store, args).await,
        Command::Unmount(args) => commands::mount::unmount(store, args).await,
        Command::Pull(args) => commands::pull::run(store, args).await,
        Command::InUse(args) => commands::in_use::run(args).await,
        Command::Inspect(args) => commands::inspect::run(args).await,
        Command::Store(args) => commands::store::run(store, args),
        Command::Node(args) => commands::node::run(store, *args).await,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
