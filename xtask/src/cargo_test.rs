//! `cargo xtask test`: the tests, and with `--ci` every check beside them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::checks::Check;
use crate::command;
use crate::counts::{self, Counts};
use crate::erofs;
use crate::privilege::Privilege;
use crate::report::{Outcome, Report};
use crate::skips::{self, Group, Skips};
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

/// A run that hangs ends before the machine it runs on is taken away.
const LIMIT_OF_TESTS_IN_CI: &str = "45m";

/// What to run.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Run every check too, and fail when anything is missing.
    #[arg(long)]
    ci: bool,
    /// Arguments for `cargo test` in place of `--workspace`, such as `-- -p stowage-store journal`.
    #[arg(last = true, conflicts_with = "ci")]
    arguments: Vec<String>,
}

/// Runs the tests; false says that something failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let mut skips = Skips::asked_for()?;
    if options.ci
        && let Some((group, _)) = skips.iter().next()
    {
        bail!("--ci runs everything, but {} leaves out {group}: unset it", skips::VARIABLE);
    }
    let privilege = Privilege::find()?;
    if let Privilege::None(reason) = &privilege {
        if options.ci {
            bail!("the tests mount, and this process cannot: {reason}");
        }
        skips.add(Group::Mounts, reason.clone());
    }
    if let Some(reason) = erofs::obstacle(&privilege)? {
        if options.ci {
            bail!("the tests mount EROFS, and here they cannot: {reason}");
        }
        skips.add(Group::Erofs, reason.clone());
        skips.add(Group::ErofsTools, reason);
    }

    let mut report = Report::default();
    let mut counts = Counts::default();
    let toolbox = prepare(workspace, options, &skips, &mut report);
    skip_what_is_missing(&toolbox, &mut skips);
    if report.failed().contains(&BUILD) {
        report.record("tests", Outcome::Skipped("the build failed".to_owned()), Duration::ZERO);
    } else {
        report.phase("tests", || {
            let mut tests = cargo_test(workspace, options);
            privilege.apply(workspace, &mut tests)?;
            tests.env("STOWAGE_TOOLS", toolbox.bin()).env(skips::VARIABLE, skips.value());
            tests.args(["--no-fail-fast", "--"]).args(skips.arguments());
            stream(tests, &mut counts)
        });
    }
    if options.ci {
        for check in [Check::Chart, Check::Typos, Check::Deny, Check::Advisories, Check::Clippy, Check::Doc] {
            report.phase(check.name(), || check.run(workspace, &toolbox));
        }
    }

    report.print();
    for (group, reason) in skips.iter() {
        println!("not run: the {group} tests: {reason}");
    }
    let failed = report.failed();
    if !failed.is_empty() {
        println!("FAILED: {}", failed.join(", "));
    }
    println!("\n{}", counts.closing_line());
    Ok(failed.is_empty())
}

const BUILD: &str = "build";

/// Checks that need no build, then the build; the tools come in beside it.
fn prepare(workspace: &Workspace, options: &Options, skips: &Skips, report: &mut Report) -> Toolbox {
    let mut wanted: Vec<Tool> = Vec::new();
    if options.ci {
        wanted.extend(Tool::ALL);
    } else {
        let groups = Group::ALL.into_iter().filter(|group| !skips.contains(*group));
        wanted.extend(groups.flat_map(Group::tools));
    }
    thread::scope(|scope| {
        let tools = scope.spawn(|| {
            let start = Instant::now();
            (Toolbox::provide(workspace, &wanted), start.elapsed())
        });
        if options.ci {
            for check in [Check::Format, Check::Paths] {
                // Neither needs a tool: an empty box serves.
                report.phase(check.name(), || check.run(workspace, &Toolbox::default()));
            }
        }
        report.phase(BUILD, || {
            command::run(cargo_test(workspace, options).arg("--no-run"))?;
            Ok(Outcome::Passed(String::new()))
        });
        match tools.join() {
            Ok((toolbox, took)) => {
                let outcome = match toolbox.missing_line() {
                    None => Outcome::Passed("beside the build".to_owned()),
                    Some(missing) if options.ci => Outcome::Failed(missing),
                    Some(missing) => Outcome::Skipped(missing),
                };
                report.record("tools", outcome, took);
                toolbox
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A group whose tools could not be had is left out.
fn skip_what_is_missing(toolbox: &Toolbox, skips: &mut Skips) {
    for group in Group::ALL {
        let lacks = |tool: &&Tool| toolbox.program(**tool).is_err();
        if let Some(tool) = group.tools().iter().find(lacks)
            && let Err(reason) = toolbox.program(*tool)
        {
            skips.add(group, reason);
        }
    }
}

/// The same command for building and for running, so that nothing is built twice.
fn cargo_test(workspace: &Workspace, options: &Options) -> Command {
    let mut command = workspace.cargo();
    if options.ci {
        let cargo = command.get_program().to_owned();
        command = Command::new("timeout");
        command.args(["--kill-after=30s", LIMIT_OF_TESTS_IN_CI]).arg(cargo).current_dir(workspace.root());
    }
    command.arg("test");
    if options.arguments.is_empty() {
        command.arg("--workspace");
    } else {
        command.args(&options.arguments);
    }
    if options.ci {
        command.arg("--locked");
    }
    command
}

/// Runs the tests, passes on what they print, and counts it.
fn stream(mut tests: Command, counts: &mut Counts) -> Result<Outcome> {
    let name = command::line(&tests);
    let mut running = tests
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    let output = running.stdout.take().context("the standard output of cargo is a pipe")?;
    let mut failed = Vec::new();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what cargo prints")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        failed.extend(counts::failed_test(&line).map(str::to_owned));
        if let Some(more) = Counts::from_line(&line) {
            *counts += more;
        }
    }
    let status = running.wait().with_context(|| format!("cannot wait for `{name}`"))?;
    if status.success() {
        return Ok(Outcome::Passed(counts.closing_line()));
    }
    if counts.failed == 0 {
        // A test program that was killed closes with no line of its own.
        counts.failed = 1;
        failed.push(format!("`{name}` ended with {status}"));
    }
    Ok(Outcome::Failed(failed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Outcome, Counts) {
        let mut counts = Counts::default();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let outcome = stream(command, &mut counts).unwrap();
        (outcome, counts)
    }

    #[test]
    fn output_is_counted_over_all_programs() {
        let (outcome, counts) = shell(
            "echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s'
             echo 'test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s'",
        );
        assert_eq!(counts, Counts { passed: 5, failed: 0, skipped: 1 });
        assert_eq!(outcome, Outcome::Passed("5 passed, 0 failed, 1 skipped".to_owned()));
    }

    #[test]
    fn failed_tests_are_named() {
        let (outcome, counts) = shell(
            "echo 'test a::b ... FAILED'
             echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s'
             exit 101",
        );
        assert_eq!(counts.failed, 1);
        assert_eq!(outcome, Outcome::Failed("a::b".to_owned()));
    }

    #[test]
    fn a_program_that_dies_without_a_line_is_a_failure() {
        let (outcome, counts) = shell("kill -9 $$");
        assert_eq!(counts, Counts { passed: 0, failed: 1, skipped: 0 });
        assert!(matches!(outcome, Outcome::Failed(why) if why.contains("signal: 9")));
    }
}
