//! Other people's clients, for the tests of interoperability: `oras`, `crane`, `skopeo`, and what else is there.
//!
//! A tool is looked for in `STOWAGE_TOOLS` (a directory, set by `cargo xtask test`), then where `cargo xtask tools`
//! installs, then in `PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not on this machine.
    #[error(
        "{name} is not on this machine: run `cargo xtask tools`, or set STOWAGE_TOOLS to the directory that holds it"
    )]
    Missing {
        /// Its name.
        name: String,
    },
    /// It could not be started.
    #[error("{name} could not be started: {source}")]
    Start {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("`{command}` ended with {status}: {stderr}")]
    Failed {
        /// The tool and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
}

/// A tool that the tests of `group` need; `None` where it is missing and `STOWAGE_SKIP` leaves that group out.
///
/// # Panics
/// When it is missing and nobody said that it may be.
#[expect(clippy::print_stdout, reason = "a test that is not run says so")]
pub fn needed_by(group: &str, name: &str) -> Option<Tool> {
    let skipped = std::env::var("STOWAGE_SKIP").unwrap_or_default();
    match Tool::find(name) {
        Ok(tool) => Some(tool),
        Err(error) if skipped.split(',').any(|one| one.trim() == group) => {
            println!("not run, STOWAGE_SKIP names {group}: {error}");
            None
        }
        Err(error) => panic!("{error}; or leave the test out with STOWAGE_SKIP={group}"),
    }
}

/// A tool that is on this machine.
#[derive(Clone, Debug)]
pub struct Tool {
    name: String,
    path: PathBuf,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
}

impl Tool {
    /// Finds a tool, or says how to get it.
    pub fn find(name: &str) -> Result<Self, ToolError> {
        let listed = std::env::var_os("PATH").unwrap_or_default();
        let own = std::env::var_os("STOWAGE_TOOLS").map(PathBuf::from);
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
        let path = own
            .into_iter()
            .chain([target.join("tools/bin")])
            .chain(std::env::split_paths(&listed))
            .map(|directory| directory.join(name))
            .find(|path| is_executable(path));
        match path {
            Some(path) => Ok(Self { name: name.into(), path, environment: Vec::new(), directory: None }),
            None => Err(ToolError::Missing { name: name.into() }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// Runs it in this directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs it to its end; returns what it wrote to its output.
    pub async fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String, ToolError> {
        self.run_with_input(arguments, "").await
    }

    /// Runs it to its end with something to read.
    pub async fn run_with_input<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        input: &str,
    ) -> Result<String, ToolError> {
        let failed = |source| ToolError::Start { name: self.name.clone(), source };
        let mut command = Command::new(&self.path);
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A tool that does not read ends the pipe; its exit status tells whether that matters.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words: Vec<String> =
            arguments.iter().map(|argument| argument.as_ref().to_string_lossy().into_owned()).collect();
        Err(ToolError::Failed {
            command: format!("{} {}", self.name, words.join(" ")),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_says_how_to_get_it() {
        let error = Tool::find("no-such-tool-of-ours").unwrap_err().to_string();
        assert!(error.contains("no-such-tool-of-ours is not on this machine"), "{error}");
        assert!(error.contains("cargo xtask tools"), "{error}");
    }

    #[tokio::test]
    async fn a_failing_tool_is_quoted() {
        let shell = Tool::find("sh").unwrap();
        assert_eq!(shell.run_with_input(&["-c", "cat"], "hello").await.unwrap(), "hello");
        let error = shell.run(&["-c", "echo oh dear >&2; exit 3"]).await.unwrap_err().to_string();
        assert!(error.contains("oh dear") && error.contains('3'), "{error}");
    }
}
