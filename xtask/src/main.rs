//! The chores of this repository: `cargo xtask test`, `ci`, `bench`, `chart`, `image-proof`, `e2e`, `tools`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to the person who called it")]

mod bench;
mod cargo_test;
mod chart;
mod checks;
mod command;
mod counts;
mod e2e;
mod erofs;
mod image;
mod machine_paths;
mod privilege;
mod report;
mod skips;
mod tools;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::checks::Check;
use crate::report::Report;
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

/// The chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run the tests; with --ci also every check, and nothing may be missing.
    Test(cargo_test::Options),
    /// Run the checks that are not tests: all of them, or those named.
    Ci {
        /// The checks to run.
        #[arg(value_enum)]
        checks: Vec<Check>,
    },
    /// Measure every figure that must hold, beside other programs: as root, on a real disk.
    Bench(bench::Options),
    /// Write what is made from others: the chart's README and CRDs, and the manifests in deploy/.
    Chart,
    /// Run the steps of the Dockerfile without a container engine, and show that what comes out works: as root, on Debian 12.
    ImageProof,
    /// Show in a cluster what Stowage promises: in one of kind that is made for it, or in one that is there.
    E2e(e2e::Options),
    /// Install the programs that tests and checks need, and say where they are.
    Tools,
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does the chore; false says that it was done and something in it failed.
fn run(chore: Chore) -> Result<bool> {
    let workspace = Workspace::find()?;
    match chore {
        Chore::Test(options) => cargo_test::run(&workspace, &options),
        Chore::Ci { checks } => {
            let mut report = Report::default();
            let wanted = if checks.is_empty() { Check::ALL.to_vec() } else { checks };
            let needed: Vec<Tool> = wanted.iter().flat_map(|check| check.tools()).copied().collect();
            let toolbox = Toolbox::provide(&workspace, &needed);
            for check in wanted {
                report.phase(check.name(), || check.run(&workspace, &toolbox));
            }
            report.print();
            Ok(report.failed().is_empty())
        }
        Chore::Bench(options) => bench::run(&workspace, &options),
        Chore::Chart => chart::generate(&workspace).map(|()| true),
        Chore::ImageProof => image::prove(&workspace).map(|()| true),
        Chore::E2e(options) => e2e::run(&workspace, &options),
        Chore::Tools => {
            let toolbox = Toolbox::provide(&workspace, &Tool::ALL);
            toolbox.print();
            Ok(toolbox.missing().is_empty())
        }
    }
}
