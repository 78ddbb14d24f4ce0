//! The one way to the disk: every write of the store is a call on [`Io`], [`Dir`] or [`IoFile`].
//!
//! Each call names its *point*, for example `blob.rename`. A [`Probe`] can then fail the Nth call or the calls
//! of one point, stop everything as SIGKILL would, and keep a log of what was done, from which [`replay`] makes
//! the disk as a power cut may leave it. Without a probe the calls go straight to the kernel.
//!
//! Everything is opened with `O_CLOEXEC` and without following a symlink in the last component.

mod dir;
mod error;
mod file;
mod probe;
pub mod replay;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use dir::{Dir, Kind, Metadata};
pub use error::IoError;
pub(crate) use error::gone_is_fine;
pub use file::IoFile;
pub use probe::{Fault, Op, Outcome, Probe, When};

/// The disk beneath one store.
#[derive(Clone, Debug)]
pub struct Io {
    root: Arc<Path>,
    probe: Option<Arc<Probe>>,
    /// Marks the temporary names of this run.
    run: u32,
}

impl Io {
    /// The disk beneath `root`, an absolute path, with a probe in a test.
    pub fn new(root: &Path, probe: Option<Arc<Probe>>) -> Self {
        Self { root: root.into(), probe, run: rand::random() }
    }

    /// The store's directory, which every path of an operation is relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the store's own directory.
    pub fn open_root(&self) -> Result<Dir, IoError> {
        Dir::open_path(self.clone(), &self.root, PathBuf::new())
    }

    /// A name for something that is to be renamed or removed soon.
    pub(crate) fn temporary(&self, hint: &str) -> String {
        crate::names::temporary(self.run, hint)
    }

    /// Whether a name is temporary and of this run.
    pub(crate) fn is_own_temporary(&self, name: &str) -> bool {
        crate::names::is_temporary_of(self.run, name)
    }

    /// The full path of what is at `relative`.
    pub(crate) fn full(&self, relative: &Path) -> PathBuf {
        self.root.join(relative)
    }

    /// Runs one operation through the probe, if there is one.
    fn perform<T>(
        &self,
        step: Step<'_>,
        operation: impl FnOnce() -> std::io::Result<T>,
        log: impl FnOnce(&T) -> Option<Op>,
    ) -> Result<T, IoError> {
        let outcome = match &self.probe {
            None => operation(),
            Some(probe) => probe.run(step.point, step.path, operation, log),
        };
        outcome.map_err(|source| IoError::new(step.action, self.full(step.path), source))
    }

    /// Whether a sync has to reach the disk; a probe keeps its own account of what is durable.
    fn syncs_for_real(&self) -> bool {
        self.probe.is_none()
    }
}

/// What an operation is called in a fail point and in a message, and what it is done to.
#[derive(Clone, Copy)]
struct Step<'a> {
    point: &'static str,
    action: &'static str,
    path: &'a Path,
}

impl<'a> Step<'a> {
    const fn new(point: &'static str, action: &'static str, path: &'a Path) -> Self {
        Self { point, action, path }
    }
}
