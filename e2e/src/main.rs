//! End-to-end tests of Stowage in any cluster that a kubeconfig leads to.
//!
//! The run makes two namespaces of its own and, in one of them, a registry out of the image under test, which stocks
//! itself. Each scenario then shows one promise with pods that run the same image: no other image is needed. A scenario
//! that fails says what it waited for and leaves events, pods and logs in `--output`.
//!
//! Exit codes: 0 everything held, 1 a scenario failed or none could be played, 2 usage, 3 the run itself could not be set up.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that talks to the person who called it"
)]

#[cfg(test)]
mod api_server;
mod arguments;
mod artifacts;
mod diagnosis;
mod events;
mod install;
mod labels;
mod plugin;
mod pods;
mod reader;
mod registry;
mod removal;
mod run;
mod scenarios;
mod stage;
mod verdict;
mod wait;
mod world;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;

/// The run could not be set up.
const NO_RUN: u8 = 3;

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
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stowage-e2e: {error:#}");
            ExitCode::from(NO_RUN)
        }
    }
}

fn play(arguments: &Arguments) -> anyhow::Result<bool> {
    let chosen = scenarios::chosen(&arguments.only)?;
    // clap demands it wherever something is played.
    let image = arguments.image.as_deref().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run::run(arguments, image, &chosen))
}
