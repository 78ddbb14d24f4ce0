//! Programs from Debian's packages: found where they are, installed when we are root and apt-get is there.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use crate::privilege::is_root;

/// Debian's package manager, which needs its lists only once.
#[derive(Debug, Default)]
pub(super) struct Debian {
    lists_are_new: bool,
}

impl Debian {
    /// The program, from the package when it is not there yet.
    pub(super) fn program(&mut self, program: &str, package: &str) -> Result<PathBuf> {
        if let Some(found) = command::find_program(program) {
            return Ok(found);
        }
        self.install(package)?;
        match command::find_program(program) {
            Some(found) => Ok(found),
            None => bail!("the package {package} was installed but brought no {program}"),
        }
    }

    /// Installs a package.
    pub(super) fn install(&mut self, package: &str) -> Result<()> {
        if command::find_program("apt-get").is_none() {
            bail!("there is no apt-get to install the package {package} with: install it by hand");
        }
        if !is_root()? {
            bail!("only root can install the package {package}: run `sudo apt-get install {package}`");
        }
        if !self.lists_are_new {
            println!("tools: apt-get update");
            command::quiet(&mut apt_get(&["update"]))?;
            self.lists_are_new = true;
        }
        println!("tools: apt-get install {package}");
        command::quiet(&mut apt_get(&["install", "--yes", "--no-install-recommends", package]))
    }
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    // Another apt-get may be at work on a new machine: wait for it.
    command.args(["--quiet", "--option", "DPkg::Lock::Timeout=300"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
