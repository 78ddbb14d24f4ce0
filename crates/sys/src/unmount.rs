//! Idempotent unmounting.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::file::descriptor_path;
use crate::inspect::{INSPECT, identity, inspect_at};

/// How often a busy mount is tried before it is detached.
const TRIES: u32 = 3;
/// Between two tries: a reader that is just closing its last file needs no longer.
const PAUSE: Duration = Duration::from_millis(30);
/// Nobody stacks so many mounts; a bound on a loop that another process could feed.
const MOST_LAYERS: usize = 64;

/// What unmounting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// The mount is gone and nobody uses it.
    Gone,
    /// The mount was busy: its path is free, but whoever had it open still reads it. Keep its data for a while.
    Detached,
    /// Nothing was mounted there.
    NotMounted,
}

/// A path cannot be unmounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// The kernel refuses.
    #[error("cannot unmount {path}: {source}", path = path.display())]
    Kernel {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The path names no directory entry, such as `/` or one that ends in `..`.
    #[error("{path} cannot be unmounted: it has no last component", path = path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// Mounts come back as fast as they are removed.
    #[error("{path} is still mounted after {MOST_LAYERS} mounts were removed from it: something mounts it again", path = path.display())]
    Endless {
        /// The path.
        path: PathBuf,
    },
}

/// Unmounts everything that is mounted at `path`; a path that is absent or no mount is no error.
///
/// A symlink as the last component is not followed. A busy mount is tried three times, then detached (`MNT_DETACH`).
/// Symlinks further up are followed: for paths from outside use [`crate::TargetRoot::find`] and [`crate::Target::unmount`].
pub fn unmount(path: &Path) -> Result<Unmounted, UnmountError> {
    let name = path.file_name().ok_or_else(|| UnmountError::NoName { path: path.to_owned() })?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, parent, flags, Mode::empty()) {
        Ok(parent) => unmount_at(parent.as_fd(), name, path),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(Unmounted::NotMounted),
        Err(error) => Err(UnmountError::Kernel { path: path.to_owned(), source: error.into() }),
    }
}

/// As `unmount`, for the entry `name` of an open directory; `path` is for messages.
pub(crate) fn unmount_at(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
) -> Result<Unmounted, UnmountError> {
    let mut outcome = Unmounted::NotMounted;
    for _ in 0..MOST_LAYERS {
        if !may_be_mounted(parent, name, path) {
            return Ok(outcome);
        }
        match unmount_top(parent, name) {
            Ok(done) if outcome != Unmounted::Detached => outcome = done,
            Ok(_) => {}
            // EINVAL: no mount after all, or one that a user namespace locks to its parent.
            Err(Errno::NOENT) => return Ok(outcome),
            Err(Errno::INVAL) if !is_mounted(parent, name, path) => return Ok(outcome),
            Err(error) => return Err(UnmountError::Kernel { path: path.to_owned(), source: error.into() }),
        }
    }
    Err(UnmountError::Endless { path: path.to_owned() })
}

/// Removes the topmost mount.
fn unmount_top(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Unmounted, Errno> {
    let entry = Path::new(&descriptor_path(parent)).join(name);
    for attempt in 1..=TRIES {
        match rustix::mount::unmount(&entry, UnmountFlags::NOFOLLOW) {
            Ok(()) => return Ok(Unmounted::Gone),
            Err(Errno::BUSY) if attempt < TRIES => std::thread::sleep(PAUSE),
            Err(Errno::BUSY) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::mount::unmount(&entry, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
    Ok(Unmounted::Detached)
}

/// Counts as mounted when that cannot be told: the unmount itself then says.
fn may_be_mounted(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> bool {
    match open(parent, name) {
        Ok(file) => is_root(&file, path).unwrap_or(true),
        Err(Errno::NOENT | Errno::NOTDIR) => false,
        Err(_) => true,
    }
}

fn is_mounted(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> bool {
    open(parent, name).is_ok_and(|file| is_root(&file, path).unwrap_or(true))
}

fn open(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, INSPECT, Mode::empty())
}

fn is_root(file: &OwnedFd, path: &Path) -> Option<bool> {
    match identity(file.as_fd()).ok()?.mount_root {
        Some(known) => Some(known),
        None => Some(inspect_at(file, path).ok()?.is_some()),
    }
}
