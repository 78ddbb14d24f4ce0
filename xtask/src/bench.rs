//! `cargo xtask bench`: builds what is measured and what measures, brings in the programs to compare with, and hands over to
//! `crates/bench`.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command;
use crate::privilege;
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

/// Programs that are compared with, or that serve the bytes.
const TOOLS: [Tool; 8] = [
    Tool::DockerRegistry,
    Tool::Oras,
    Tool::Crane,
    Tool::Skopeo,
    Tool::Curl,
    Tool::OpenSsl,
    Tool::GnuTar,
    Tool::Umoci,
];

/// A program that cannot be installed from here, and why; one in `PATH` is used.
const MODCTL: &str =
    "modctl=not in PATH, and the Go module proxy refused every version of it when this was written (403)";

/// What to measure, and where the figures go.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Every row, but smaller: three minutes; targets are meant for full size.
    #[arg(long)]
    quick: bool,
    /// Only this row, such as pull, throttled, memory, publish, many, refetch, digest, engine, tar; may be repeated.
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,
    /// Write every single run to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Runs of each program, in place of each row's own number.
    #[arg(long, value_name = "N")]
    runs: Option<u32>,
    /// A directory on a real disk with 60 GB free (default: under the build directory).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write docs/benchmarks, which otherwise only a full run of all rows does.
    #[arg(long)]
    write: bool,
}

/// Becomes the benchmark; returns only when something is wrong before it starts.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if !privilege::is_root()? {
        bail!("the benchmark mounts volumes and limits memory: run it as root");
    }
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--locked", "--package", "stowage", "--package", "stowage-bench"]);
    command::run(&mut build)?;
    let toolbox = Toolbox::provide(workspace, &TOOLS);
    let release = workspace.target().join("release");

    let mut bench = Command::new(release.join("stowage-bench"));
    bench.current_dir(workspace.root()).env("STOWAGE_TOOLS", toolbox.bin()).arg("run");
    bench.arg("--stowage").arg(release.join("stowage"));
    bench.arg("--dir").arg(options.dir.clone().unwrap_or_else(|| workspace.target().join("bench")));
    bench.args(["--scale", if options.quick { "quick" } else { "full" }]);
    bench.args(["--commit", &commit(workspace)]);
    bench.args(options.rows.iter().flat_map(|row| ["--row", row]));
    if let Some(runs) = options.runs {
        bench.args(["--runs", &runs.to_string()]);
    }
    if let Some(json) = &options.json {
        // Where the caller is, not where the repository is.
        bench.arg("--json").arg(std::path::absolute(json).context("there is no current directory")?);
    }
    if options.write || (!options.quick && options.rows.is_empty()) {
        bench.arg("--docs").arg(workspace.root().join("docs/benchmarks"));
    }
    for (tool, reason) in toolbox.missing() {
        bench.arg("--missing").arg(format!("{tool}={reason}"));
    }
    bench.args(["--missing", MODCTL]);
    // In place of this process, so that Ctrl-C reaches the one that cleans up.
    let error = bench.exec();
    Err(error).with_context(|| format!("cannot start `{}`", command::line(&bench)))
}

fn commit(workspace: &Workspace) -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]).current_dir(workspace.root());
    command::capture(&mut git).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
