//! The `stowage` binary: one command line for the node plugin, the store and the demo.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 64 bad configuration. Errors are one sentence on standard error.

#![allow(clippy::print_stdout, reason = "the output of a command is its purpose")]

mod cli;
mod commands;
mod progress;
mod tree;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

/// What a command's failure means to the shell.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The work failed.
    Failed(anyhow::Error),
    /// A flag, a variable or a file has a value that can never work.
    Configuration(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

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
    let (error, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => (error, 1),
        Err(Failure::Configuration(error)) => (error, 64),
    };
    eprint(&sentence(&error));
    ExitCode::from(code)
}

async fn run(command: Command, store: &cli::StoreArgs) -> Result<(), Failure> {
    match command {
        Command::Demo(_) => unreachable!("the demo sets up its own runtime"),
        Command::Mount(args) => commands::mount::mount(store, args).await,
        Command::Unmount(args) => commands::mount::unmount(store, args).await,
        Command::Pull(args) => commands::pull::run(store, args).await,
        Command::Inspect(args) => commands::inspect::run(args).await,
        Command::Store(args) => commands::store::run(store, args),
        Command::Node(args) => commands::node::run(store, *args).await,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// The error and its causes as one line; most causes are in the sentence of the error already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        before if before.contains(&cause) => line,
        before => format!("{before}: {cause}"),
    })
}

#[expect(clippy::print_stderr, reason = "the one place where an error reaches the person")]
fn eprint(sentence: &str) {
    eprintln!("stowage: {sentence}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = std::io::Error::other("disk on fire");
        let told = anyhow::Error::new(inner).context("cannot read x: disk on fire").context("setting up");
        assert_eq!(sentence(&told), "setting up: cannot read x: disk on fire");
    }
}
