//! End-to-end tests of Stowage in any cluster that a kubeconfig leads to.
//!
//! The run makes two namespaces of its own and, in one of them, a registry out of the image under test, which stocks
//! itself. Each scenario then shows one promise with pods that run the same image. With `--install` the chart's
//! external-provisioner is a second image (`--provisioner-image`, `--without-provisioner`); no other is needed. A scenario
//! that fails says what it waited for and leaves events, objects and logs in `--output`.
//!
//! Ctrl-C and SIGTERM end the scenario, and everything is taken away; a second one ends that, too.
//!
//! Exit codes: 0 everything held, 1 a scenario failed or was not played, or what the run made does not go, 2 usage, 3 the
//! run itself could not be set up, 130 somebody ended it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that talks to the person who called it"
)]

#[cfg(test)]
mod api_server;
mod arguments;
mod artifacts;
mod controller;
mod diagnosis;
mod events;
mod install;
mod labels;
mod plugin;
mod pods;
mod preflight;
mod reader;
mod record;
mod registry;
mod removal;
mod run;
mod scenarios;
mod signals;
mod stage;
mod teardown;
mod verdict;
mod wait;
mod world;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::run::Ended;

/// The run could not be set up.
const NO_RUN: u8 = 3;
/// A signal ended the run.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        let width = scenarios::ALL.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
        for scenario in scenarios::ALL {
            println!("{:width$}  {}", scenario.name, scenario.shows);
        }
        return ExitCode::SUCCESS;
    }
    match play(&arguments) {
        Ok(Ended::Held) => ExitCode::SUCCESS,
        Ok(Ended::Failed) => ExitCode::FAILURE,
        Ok(Ended::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("stowage-e2e: {error:#}");
            ExitCode::from(NO_RUN)
        }
    }
}

fn play(arguments: &Arguments) -> anyhow::Result<Ended> {
    let chosen = scenarios::chosen(&arguments.only, &arguments.must_play)?;
    // clap demands it wherever something is played.
    let image = arguments.image.as_deref().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run::run(arguments, image, &chosen))
}
