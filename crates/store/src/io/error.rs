//! A failed operation on the disk.

use std::io;
use std::path::{Path, PathBuf};

/// A failed system call with what it was to do, and to which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct IoError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl IoError {
    /// Puts the action (a verb, "rename") and the path to what the kernel said.
    pub fn new(action: &'static str, path: PathBuf, source: io::Error) -> Self {
        Self { action, path, source }
    }

    /// The path that the call was about.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the kernel said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The error number, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether the disk, or the quota on it, is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOSPC | libc::EDQUOT))
    }

    /// Whether the path is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// The same failure for a second reader; the kernel's error number is kept.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let source = match self.errno() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(self.kind(), self.source.to_string()),
        };
        Self { action: self.action, path: self.path.clone(), source }
    }
}

/// Treats "is not there" as done: for removals that may run twice.
pub(crate) fn gone_is_fine(outcome: Result<(), IoError>) -> Result<(), IoError> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
