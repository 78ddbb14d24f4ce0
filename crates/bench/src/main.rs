//! The benchmark behind `cargo xtask bench`.
//!
//! ```text
//! supervisor   makes directories and a mount namespace, starts the worker, and removes everything however it ends
//!   worker     runs one scenario after the other, prints the table, writes JSON, plots and the report
//!     scenarios/   one file for each group of rows
//!     process      runs programs and measures wall, processor time, memory
//!     svg          plots
//! ```
//!
//! Everything that is compared is measured in the same run, in turn, and as processes of its own.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark talks to the person who called it"
)]

mod bench;
mod cgroup;
mod cli;
mod content;
mod disk;
mod docker_registry;
mod document;
mod engine_alone;
mod figures;
mod image;
mod machine;
mod node;
mod peers;
mod proc_status;
mod process;
mod quantity;
mod scenarios;
mod source;
mod statistics;
mod supervisor;
mod svg;
mod table;
mod tarball;
mod view_alone;
mod worker;

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser as _;
use stowage_artifact::{Algorithm, Hasher};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(plan) => supervisor::run(&plan),
        Command::Work(work) => worker::run(&work).map(|()| ExitCode::SUCCESS),
        Command::Hash { files } => hash(&files).map(|()| ExitCode::SUCCESS),
        Command::View(work) => view_alone::run(&work).map(|()| ExitCode::SUCCESS),
        Command::Engine(work) => engine_alone::run(&work).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn hash(files: &[PathBuf]) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let failed = || format!("cannot read {}", path.display());
        let mut file = std::fs::File::open(path).with_context(failed)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        loop {
            match file.read(&mut buffer).with_context(failed)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        println!("{}", hasher.finish());
    }
    Ok(())
}
