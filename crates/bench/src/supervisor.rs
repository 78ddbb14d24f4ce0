//! Starts the part that measures, and leaves nothing behind however that ends.
//!
//! The worker leads a process group and has a mount namespace of its own. Once every process of the group is gone,
//! so are the mounts, and the directories can be removed without looking into any volume.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, Uid};
use stowage_testkit::namespace::in_private_mounts;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Plan;
use crate::{cgroup, disk};

/// Runs the plan; fails when the worker does.
pub(crate) fn run(plan: &Plan) -> Result<ExitCode> {
    if !Uid::effective().is_root() {
        bail!("the benchmark mounts volumes and limits memory: run it as root");
    }
    let places = Places::make(&plan.dir)?;
    let ended = supervise(&places);
    places.remove()?;
    Ok(match ended? {
        Ended::ByItself(status) if status.success() => ExitCode::SUCCESS,
        Ended::ByItself(status) => {
            if status.code().is_none() {
                eprintln!("error: the worker ended with {status}");
            }
            ExitCode::FAILURE
        }
        Ended::ByUs => {
            eprintln!("interrupted; everything was removed");
            ExitCode::from(130)
        }
    })
}

enum Ended {
    ByItself(ExitStatus),
    ByUs,
}

/// The directories of one run.
struct Places {
    scratch: PathBuf,
    sockets: PathBuf,
    cgroup: String,
}

impl Places {
    fn make(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let dir = fs::canonicalize(dir).with_context(|| format!("cannot find {}", dir.display()))?;
        sweep(&dir);
        let pid = std::process::id();
        let places = Self {
            scratch: dir.join(format!("{PREFIX}{pid}")),
            // Socket paths end at 107 bytes, so they cannot be beneath any directory.
            sockets: std::env::temp_dir().join(format!("stw-bench-{pid}")),
            cgroup: format!("stowage-bench-{pid}"),
        };
        disk::fresh(&places.scratch)?;
        disk::fresh(&places.sockets)?;
        Ok(places)
    }

    fn remove(&self) -> Result<()> {
        cgroup::remove(&self.cgroup);
        disk::remove(&self.sockets)?;
        disk::remove(&self.scratch)
    }
}

const PREFIX: &str = "run-";

/// Removes what a benchmark that was killed with SIGKILL has left.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Somebody else's, perhaps; then it stays.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn supervise(places: &Places) -> Result<Ended> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot adopt what the worker leaves behind")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the worker exists, so that no signal is missed.
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.arg("work").args(std::env::args_os().skip(2));
        command.arg("--scratch").arg(&places.scratch).arg("--sockets").arg(&places.sockets);
        command.arg("--cgroup").arg(&places.cgroup);
        in_private_mounts(&mut command).process_group(0);
        let mut worker = tokio::process::Command::from(command).spawn().context("cannot start the worker")?;
        let group = Pid::from_raw(worker.id().context("the worker has no process id")?.cast_signed());
        let ended = tokio::select! {
            status = worker.wait() => Ended::ByItself(status.context("cannot wait for the worker")?),
            _ = interrupted.recv() => Ended::ByUs,
            _ = terminated.recv() => Ended::ByUs,
            _ = hung_up.recv() => Ended::ByUs,
        };
        end(group);
        Ok(ended)
    })
}

/// Kills the whole group and waits until it is empty: what the worker has started is ours to reap once the worker is gone.
fn end(group: Pid) {
    // Nobody left to kill is how it should be.
    let _ = killpg(group, Signal::SIGKILL);
    let members = Pid::from_raw(-group.as_raw());
    while matches!(waitpid(members, None), Ok(_) | Err(Errno::EINTR)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_dead_runs_are_swept_and_those_of_living_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let name = |name: &str| directory.path().join(name);
        // Process ids end at 2^22.
        let (dead, alive, other) =
            (name("run-99999999"), name(&format!("run-{}", std::process::id())), name("else"));
        for path in [&dead, &alive, &other] {
            fs::create_dir(path).unwrap();
        }
        sweep(directory.path());
        assert!(!dead.exists() && alive.exists() && other.exists());
    }
}
