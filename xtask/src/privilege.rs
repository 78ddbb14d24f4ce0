//! Mounting needs root: our own, or the one of a user namespace.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::workspace::Workspace;

/// How the tests get to mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// We are root.
    Root,
    /// Test programs are started as root of user and mount namespaces of their own.
    Namespaces,
    /// Not at all, and why.
    None(String),
}

/// What starts a test program in namespaces.
const RUNNER: [&str; 3] = ["unshare", "--map-root-user", "--mount"];

impl Privilege {
    /// Finds out by trying.
    pub(crate) fn find() -> Result<Self> {
        if is_root()? {
            return Ok(Self::Root);
        }
        let mut trial = Command::new(RUNNER[0]);
        trial.args(&RUNNER[1..]).args(["mount", "-t", "tmpfs", "stowage-trial", "/mnt"]);
        Ok(match command::quiet(&mut trial) {
            Ok(()) => Self::Namespaces,
            Err(error) => Self::None(format!(
                "not root, and no user namespaces ({error:#}); run as root, or allow them: \
                 kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0"
            )),
        })
    }

    /// Makes cargo start test programs so that they can mount; the build stays outside.
    pub(crate) fn apply(&self, workspace: &Workspace, cargo_test: &mut Command) -> Result<()> {
        if *self == Self::Namespaces {
            let variable = runner_variable(&host(workspace)?);
            cargo_test.env(variable, RUNNER.join(" "));
        }
        Ok(())
    }
}

/// Whether this process is root where it runs.
pub(crate) fn is_root() -> Result<bool> {
    let process = std::fs::metadata("/proc/self").context("cannot look at /proc/self")?;
    Ok(process.uid() == 0)
}

fn host(workspace: &Workspace) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = command::capture(Command::new(rustc).arg("-vV").current_dir(workspace.root()))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

fn runner_variable(host: &str) -> String {
    format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace(['-', '.'], "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_the_one_cargo_reads() {
        assert_eq!(
            runner_variable("x86_64-unknown-linux-gnu"),
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER"
        );
    }
}
