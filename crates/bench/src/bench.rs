//! What every scenario works with: sizes, directories, programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stowage_testkit::tools::Tool;
use tokio::runtime::Runtime;

use crate::cli::{Scale, Work};
use crate::disk;
use crate::image::Image;
use crate::peers::{Peer, Peers};
use crate::process::{Usage, measure};

/// One run of the benchmark.
pub(crate) struct Bench {
    /// How large everything is.
    pub(crate) scale: Scale,
    /// Other people's programs.
    pub(crate) peers: Peers,
    /// For the calls over CSI; its threads are in the same mount namespace.
    pub(crate) runtime: Runtime,
    started: Instant,
    runs: Option<u32>,
    stowage: PathBuf,
    scratch: PathBuf,
    sockets: PathBuf,
    cgroup: String,
    /// What `stowage pull --help` says.
    help: String,
    /// Why programs are not here, as far as the caller knows.
    missing: Vec<(String, String)>,
}

impl Bench {
    pub(crate) fn new(work: &Work) -> Result<Self> {
        let mut bench = Self {
            scale: work.plan.scale,
            peers: Peers::find(&work.plan.missing),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
            started: Instant::now(),
            runs: work.plan.runs,
            stowage: work.plan.stowage.clone(),
            scratch: work.scratch.clone(),
            sockets: work.sockets.clone(),
            cgroup: work.cgroup.clone(),
            help: String::new(),
            missing: work.plan.missing.clone(),
        };
        for name in ["home", "tmp"] {
            disk::fresh(&bench.dir(name))?;
        }
        let help = bench.clean(Command::new(&bench.stowage)).args(["pull", "--help"]).output();
        let help = help.with_context(|| format!("cannot start {}", bench.stowage.display()))?;
        bench.help = String::from_utf8_lossy(&help.stdout).into_owned();
        Ok(bench)
    }

    /// A path in the directory on the disk.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A short path, for sockets.
    pub(crate) fn short_dir(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }

    /// What a cgroup is called.
    pub(crate) fn cgroup_name(&self, name: &str) -> String {
        format!("{}-{name}", self.cgroup)
    }

    /// How often something is run: what the caller asked for, or this scale's number.
    pub(crate) fn runs(&self, full: u32, quick: u32) -> u32 {
        self.runs.unwrap_or_else(|| self.scale.pick(full, quick, 1))
    }

    /// Says what goes on, and when.
    pub(crate) fn say(&self, what: impl AsRef<str>) {
        eprintln!("bench {:6.1} s: {}", self.started.elapsed().as_secs_f64(), what.as_ref());
    }

    /// The program under test, in an environment of its own.
    pub(crate) fn stowage(&self) -> Command {
        let mut command = self.clean(Command::new(&self.stowage));
        // Mirrors of this machine would answer in place of the registry.
        command.env("STOWAGE_HOSTS_DIR", "none");
        command
    }

    /// This program, in an environment of its own.
    pub(crate) fn this_program(&self) -> Result<Command> {
        Ok(self.clean(Command::new(std::env::current_exe().context("cannot find this program")?)))
    }

    /// Neither proxies nor settings of the machine belong in a comparison, and temporary files go to the same disk.
    pub(crate) fn clean(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // How full this disk is belongs in no figure.
        command.env("STOWAGE_MIN_FREE", "1");
        command.env("HOME", self.dir("home")).env("TMPDIR", self.dir("tmp")).env("LANG", "C");
        command
    }

    /// `stowage pull` of the image into a store.
    pub(crate) fn pull(&self, image: &Image, store: &Path, flags: &[String]) -> Command {
        let mut command = self.stowage();
        command.arg("pull").arg("--store").arg(store).args(flags).arg(image.reference());
        command
    }

    /// The flags that limit a pull to so many connections for each blob, if it has them.
    pub(crate) fn connections(&self, number: usize) -> Option<Vec<String>> {
        const FLAG: &str = "--connections-per-blob";
        self.help.contains(FLAG).then(|| vec![FLAG.to_owned(), number.to_string()])
    }

    /// What a peer is asked to run for a pull, or why it cannot be.
    pub(crate) fn peer(&self, peer: Peer, image: &Image, into: &Path) -> Result<Vec<Command>, String> {
        let program = self.peers.program(peer)?;
        let commands = peer.pull(program, image, into).into_iter();
        Ok(commands.map(|command| self.clean(command)).collect())
    }

    /// Another program than those that pull, or why it is not here.
    pub(crate) fn program(&self, name: &str) -> Result<Command, String> {
        let known = || self.missing.iter().find(|(missing, _)| missing == name);
        let found = Tool::find(name).map_err(|error| match known() {
            Some((_, why)) => format!("not installed: {why}"),
            None => format!("not installed: {error}"),
        })?;
        Ok(self.clean(Command::new(found.path())))
    }

    /// Brings the disk to rest, then measures the commands.
    pub(crate) fn measure(&self, commands: Vec<Command>) -> Result<Usage> {
        disk::sync(&self.scratch)?;
        measure(commands, &self.log(), self.limit())
    }

    /// What the program that was measured last has said.
    pub(crate) fn said(&self) -> Result<String> {
        fs::read_to_string(self.log()).context("cannot read what a program said")
    }

    /// A program that hangs must not hang the benchmark.
    fn limit(&self) -> Duration {
        self.scale.pick(Duration::from_mins(15), Duration::from_mins(2), Duration::from_mins(2))
    }

    fn log(&self) -> PathBuf {
        self.dir("log")
    }
}
