//! Makes images of damaged tars for as long as it is told to, and mounts some of them.
//!
//! `cargo run --release -p stowage-erofs --example fuzz -- --minutes 30 --mount`

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use stowage_testkit::namespace::private_mounts;

#[path = "../harness/mod.rs"]
mod harness;

use harness::chance::Chance;
use harness::fuzz;

/// Fuzzes the way from a tar to a mounted image.
#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The first seed; an error tells the one that brings it back.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many runs at most.
    #[arg(long, default_value_t = u64::MAX)]
    runs: u64,
    /// Mount images, read every file, and watch the kernel's log. Needs root.
    #[arg(long)]
    mount: bool,
    /// With `--mount`: one of so many images.
    #[arg(long, default_value_t = 4)]
    every: u64,
}

#[expect(clippy::print_stdout, reason = "a program that people run by hand")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let scratch = tempfile::tempdir()?;
    // The same tars for every seed: only then does a seed bring a run back.
    let seeds = fuzz::seeds(&mut Chance::new(1), scratch.path())?;
    let plan = fuzz::Plan {
        seed: arguments.seed,
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        most_runs: arguments.runs,
        mount_every: if arguments.mount { arguments.every.max(1) } else { 0 },
    };
    let body = || fuzz::fuzz(&plan, &seeds, scratch.path());
    let done = if arguments.mount { private_mounts(body)? } else { body()? };
    println!("{done:?}");
    Ok(())
}
