//! Fail points and the log of operations, for tests.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Which call a [`Fault`] hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The call with this number, counted from 1 over everything the probe has seen.
    Nth(u64),
    /// The call with this number at one point, counted from 1.
    At(&'static str, u64),
    /// Every call at one point.
    Every(&'static str),
}

/// What happens to a call that a [`Fault`] hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call does nothing and fails with this error number.
    Errno(i32),
    /// The process dies before the call: neither it nor any later call does anything.
    Crash,
    /// As [`Outcome::Crash`], but a write has put half of its bytes down.
    CrashTorn,
}

/// One fault to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which call.
    pub when: When,
    /// What happens to it.
    pub outcome: Outcome,
}

/// One logged operation that changed the disk or made a change durable. Paths are relative to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new directory.
    MakeDir(PathBuf, u32),
    /// A new file, which later operations call by this number.
    Create(PathBuf, u64, u32),
    /// An existing file was opened for writing under this number.
    Open(PathBuf, u64),
    /// Bytes at an offset.
    Write(u64, u64, Arc<[u8]>),
    /// A new length.
    SetLength(u64, u64),
    /// The mode of a file.
    FileMode(u64, u32),
    /// The mode of a path.
    Mode(PathBuf, u32),
    /// A file's bytes and mode are on the disk.
    SyncFile(u64),
    /// A directory's names are on the disk.
    SyncDir(PathBuf),
    /// A new name for what was at the old one.
    Rename(PathBuf, PathBuf),
    /// A second name.
    Link(PathBuf, PathBuf),
    /// One name less.
    Unlink(PathBuf),
    /// One directory less.
    RemoveDir(PathBuf),
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    at: std::collections::HashMap<&'static str, u64>,
    faults: Vec<Fault>,
    crashed: bool,
    torn: bool,
    log: Option<Vec<Op>>,
    files: u64,
}

/// Watches the operations of one [`super::Io`], in a test.
///
/// With a probe nothing is synced for real: what is durable follows from the log, and [`super::replay`] knows.
#[derive(Debug, Default)]
pub struct Probe(Mutex<State>);

impl Probe {
    /// A probe that injects nothing and logs nothing.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A probe with one fault.
    pub fn with_fault(when: When, outcome: Outcome) -> Arc<Self> {
        let probe = Self::new();
        probe.inject(when, outcome);
        probe
    }

    /// A probe that keeps a log.
    pub fn logging() -> Arc<Self> {
        let probe = Self::new();
        probe.state().log = Some(Vec::new());
        probe
    }

    /// Adds a fault.
    pub fn inject(&self, when: When, outcome: Outcome) {
        self.state().faults.push(Fault { when, outcome });
    }

    /// Takes every fault away; a crash stays.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How many calls there have been.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How many calls there have been at one point.
    pub fn calls_at(&self, point: &'static str) -> u64 {
        self.state().at.get(point).copied().unwrap_or(0)
    }

    /// Every point that has been passed.
    pub fn points(&self) -> Vec<&'static str> {
        let mut points: Vec<_> = self.state().at.keys().copied().collect();
        points.sort_unstable();
        points
    }

    /// The process dies now.
    pub fn crash(&self) {
        self.state().crashed = true;
    }

    /// Whether a crash was injected and has happened.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// The log so far.
    pub fn log(&self) -> Vec<Op> {
        self.state().log.clone().unwrap_or_default()
    }

    /// A number for a file that is being opened.
    pub(super) fn next_file(&self) -> u64 {
        let mut state = self.state();
        state.files += 1;
        state.files
    }

    /// Whether the write that is about to run is torn by a crash. Only the first half of it may be done.
    pub(super) fn tears(&self) -> bool {
        self.state().torn
    }

    /// Counts the call, lets a fault hit it, or runs and logs it. One call at a time.
    pub(super) fn run<T>(
        &self,
        point: &'static str,
        path: &Path,
        operation: impl FnOnce() -> io::Result<T>,
        log: impl FnOnce(&T) -> Option<Op>,
    ) -> io::Result<T> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.crashed {
            state.torn = false;
            return Err(crash());
        }
        state.calls += 1;
        let count = state.at.entry(point).or_default();
        *count += 1;
        let (nth, nth_here) = (state.calls, *count);
        let hit = state.faults.iter().find(|fault| match fault.when {
            When::Nth(number) => number == nth,
            When::At(name, number) => name == point && number == nth_here,
            When::Every(name) => name == point,
        });
        match hit.map(|fault| fault.outcome) {
            Some(Outcome::Errno(number)) => {
                tracing::debug!(point, path = %path.display(), number, "fail point");
                return Err(io::Error::from_raw_os_error(number));
            }
            Some(Outcome::Crash) => {
                state.crashed = true;
                return Err(crash());
            }
            Some(Outcome::CrashTorn) => {
                state.crashed = true;
                state.torn = true;
                return Err(crash());
            }
            None => {}
        }
        let done = operation()?;
        if let (Some(entries), Some(entry)) = (state.log.as_mut(), log(&done)) {
            entries.push(entry);
        }
        Ok(done)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a torn write has put down.
    pub(super) fn log_torn(&self, entry: Op) {
        let mut state = self.state();
        state.torn = false;
        if let Some(entries) = state.log.as_mut() {
            entries.push(entry);
        }
    }
}

fn crash() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the process was stopped by a test")
}
