//! The checks that are not tests.

use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::chart;
use crate::command;
use crate::machine_paths;
use crate::report::Outcome;
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    /// rustfmt changes nothing.
    Format,
    /// No public file names a place on one machine.
    Paths,
    /// Spelling.
    Typos,
    /// What is linked: bans, licences, sources.
    Deny,
    /// Known vulnerabilities, where the database can be had.
    Advisories,
    /// The lints of the workspace, as errors.
    Clippy,
    /// The documentation builds without a warning.
    Doc,
    /// The Helm chart, what it renders, and what is made from it.
    Chart,
}

impl Check {
    /// Every check, the fast ones first.
    pub(crate) const ALL: [Self; 8] = [
        Self::Format,
        Self::Paths,
        Self::Typos,
        Self::Deny,
        Self::Advisories,
        Self::Clippy,
        Self::Doc,
        Self::Chart,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Paths => "paths",
            Self::Typos => "typos",
            Self::Deny => "deny",
            Self::Advisories => "advisories",
            Self::Clippy => "clippy",
            Self::Doc => "doc",
            Self::Chart => "chart",
        }
    }

    /// The programs it needs besides the toolchain.
    pub(crate) fn tools(self) -> &'static [Tool] {
        match self {
            Self::Typos => &[Tool::Typos],
            Self::Deny | Self::Advisories => &[Tool::CargoDeny],
            Self::Chart => &chart::TOOLS,
            Self::Format | Self::Paths | Self::Clippy | Self::Doc => &[],
        }
    }

    /// Runs it. A missing program is a failure here, never a reason to pass.
    pub(crate) fn run(self, workspace: &Workspace, toolbox: &Toolbox) -> Result<Outcome> {
        match self {
            Self::Format => {
                command::run(workspace.cargo().args(["fmt", "--all", "--check"]))?;
            }
            Self::Paths => return machine_paths::check(workspace),
            Self::Chart => return chart::check(workspace, toolbox),
            Self::Typos => {
                let mut typos = Command::new(program(toolbox, Tool::Typos)?);
                command::run(typos.current_dir(workspace.root()).args(["--format", "brief", "--hidden"]))?;
            }
            Self::Deny => {
                let mut deny = cargo_deny(workspace, toolbox)?;
                command::run(deny.args(["check", "bans", "licenses", "sources"]))?;
            }
            Self::Advisories => return advisories(workspace, toolbox),
            Self::Clippy => {
                let mut clippy = workspace.cargo();
                clippy.args([
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--locked",
                    "--",
                    "--deny",
                    "warnings",
                ]);
                command::run(&mut clippy)?;
            }
            Self::Doc => {
                let mut doc = workspace.cargo();
                doc.args(["doc", "--no-deps", "--workspace", "--locked"]);
                command::run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
            }
        }
        Ok(Outcome::Passed(String::new()))
    }
}

/// The database is fetched over the network, and a machine without one cannot be blamed on the code.
fn advisories(workspace: &Workspace, toolbox: &Toolbox) -> Result<Outcome> {
    let mut fetch = cargo_deny(workspace, toolbox)?;
    if command::quiet(fetch.args(["fetch", "db"])).is_err() {
        return Ok(Outcome::Skipped("the advisory database cannot be fetched from here".to_owned()));
    }
    let mut deny = cargo_deny(workspace, toolbox)?;
    command::run(deny.args(["check", "--disable-fetch", "advisories"]))?;
    Ok(Outcome::Passed(String::new()))
}

fn cargo_deny(workspace: &Workspace, toolbox: &Toolbox) -> Result<Command> {
    let mut deny = Command::new(program(toolbox, Tool::CargoDeny)?);
    // The table of duplicates fills screens; they are warnings, and one line each is enough.
    deny.current_dir(workspace.root()).args(["--log-level", "error"]);
    Ok(deny)
}

fn program(toolbox: &Toolbox, tool: Tool) -> Result<std::path::PathBuf> {
    match toolbox.program(tool) {
        Ok(program) => Ok(program),
        Err(reason) => bail!("{reason}"),
    }
}
