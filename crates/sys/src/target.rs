//! Target paths: below one directory, without following a symlink (`csi.md`, "Duties of the node").

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::inspect::{INSPECT, InspectError, MountPoint, inspect_at};
use crate::unmount::{UnmountError, Unmounted, unmount_at};

/// The directory beneath which volumes may be mounted.
#[derive(Debug)]
pub struct TargetRoot {
    directory: OwnedFd,
    /// As it was given, and with its symlinks resolved: callers may use either.
    prefixes: [PathBuf; 2],
}

/// A directory below a [`TargetRoot`] that a volume is or will be mounted on.
#[derive(Debug)]
pub struct Target {
    /// The parent and not the target: an open mount could not be unmounted.
    parent: OwnedFd,
    name: OsString,
    path: PathBuf,
    created: bool,
}

/// A path cannot be used as a target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The directory for all targets cannot be opened.
    #[error("cannot open the kubelet directory {path}: {source}", path = path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The path is relative, has `..` in it, or lies elsewhere.
    #[error("the target {path} does not lie beneath the kubelet directory {root}", path = path.display(), root = root.display())]
    Outside {
        /// The target.
        path: PathBuf,
        /// The kubelet directory.
        root: PathBuf,
    },
    /// A component of the path is a symlink, or leads out of the directory.
    #[error("the target {path} leads through a symlink, which is not followed below the kubelet directory", path = path.display())]
    Symlink {
        /// The target.
        path: PathBuf,
    },
    /// The directory that should hold the target is missing; kubelet makes it.
    #[error("the parent directory of the target {path} does not exist", path = path.display())]
    NoParent {
        /// The target.
        path: PathBuf,
    },
    /// The target, or a component of its path, is a file.
    #[error("the target {path} is not a directory", path = path.display())]
    NotADirectory {
        /// The target.
        path: PathBuf,
    },
    /// Something else went wrong.
    #[error("cannot {action} the target {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The target.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl TargetRoot {
    /// Opens the directory; its own path may contain symlinks.
    pub fn open(directory: &Path) -> Result<Self, TargetError> {
        let error = |source| TargetError::Root { path: directory.to_owned(), source };
        let resolved = std::fs::canonicalize(directory).map_err(error)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, &resolved, flags, Mode::empty()).map_err(|e| error(e.into()))?;
        let given = std::path::absolute(directory).map_err(error)?;
        Ok(Self { directory: opened, prefixes: [given, resolved] })
    }

    /// The directory as it was given, made absolute.
    pub fn path(&self) -> &Path {
        &self.prefixes[0]
    }

    /// Finds the target and makes its last component (0750) where it is missing.
    pub fn prepare(&self, path: &Path) -> Result<Target, TargetError> {
        let (parent, name) = self.parent_of(path)?;
        let parent = parent.ok_or_else(|| TargetError::NoParent { path: path.to_owned() })?;
        let made = rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o750));
        let created = match made {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(io_error("create", path, error)),
        };
        let target = Target { parent, name, path: path.to_owned(), created };
        // Whatever stood there already must be a directory.
        target.open_directory()?;
        Ok(target)
    }

    /// Finds the target without making anything; `None` when it or its parent is absent.
    pub fn find(&self, path: &Path) -> Result<Option<Target>, TargetError> {
        let (parent, name) = self.parent_of(path)?;
        let Some(parent) = parent else { return Ok(None) };
        let target = Target { parent, name, path: path.to_owned(), created: false };
        match target.open_directory() {
            Ok(_) => Ok(Some(target)),
            Err(TargetError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The open parent (`None` when absent) and the last component.
    fn parent_of(&self, path: &Path) -> Result<(Option<OwnedFd>, OsString), TargetError> {
        let outside = || TargetError::Outside { path: path.to_owned(), root: self.prefixes[0].clone() };
        let relative =
            self.prefixes.iter().find_map(|prefix| path.strip_prefix(prefix).ok()).ok_or_else(outside)?;
        if !relative.components().all(|component| matches!(component, Component::Normal(_))) {
            return Err(outside());
        }
        let name = relative.file_name().ok_or_else(outside)?.to_owned();
        let between = match relative.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        match open_beneath(self.directory.as_fd(), between.as_os_str()) {
            Ok(parent) => Ok((Some(parent), name)),
            Err(Errno::NOENT) => Ok((None, name)),
            Err(error) => Err(refusal("open the parent of", path, error)),
        }
    }
}

impl Target {
    /// The path as the caller gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether [`TargetRoot::prepare`] made the directory.
    pub fn created(&self) -> bool {
        self.created
    }

    /// What is mounted here.
    pub fn inspect(&self) -> Result<Option<MountPoint>, InspectError> {
        match rustix::fs::openat(&self.parent, &self.name, INSPECT, Mode::empty()) {
            Ok(file) => inspect_at(&file, &self.path),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(InspectError::Path { path: self.path.clone(), source: error.into() }),
        }
    }

    /// Unmounts everything that is mounted here, as [`crate::unmount`] does.
    pub fn unmount(&self) -> Result<Unmounted, UnmountError> {
        unmount_at(self.parent.as_fd(), &self.name, &self.path)
    }

    /// Removes the directory; `false` when it was gone already. Never removes anything in it.
    pub fn remove(&self) -> Result<bool, TargetError> {
        match rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(io_error("remove", &self.path, error)),
        }
    }

    /// The directory as it is now: the root of the topmost mount where there is one.
    pub(crate) fn open_directory(&self) -> Result<OwnedFd, TargetError> {
        open_beneath(self.parent.as_fd(), &self.name).map_err(|error| refusal("open", &self.path, error))
    }
}

/// Opens a directory below another without a symlink on the way and without leaving it.
fn open_beneath(directory: BorrowedFd<'_>, path: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // openat2 answers EAGAIN when a rename or mount elsewhere raced with it.
    for _ in 0..64 {
        match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn refusal(action: &'static str, path: &Path, error: Errno) -> TargetError {
    match error {
        Errno::LOOP | Errno::XDEV => TargetError::Symlink { path: path.to_owned() },
        Errno::NOTDIR => TargetError::NotADirectory { path: path.to_owned() },
        other => io_error(action, path, other),
    }
}

fn io_error(action: &'static str, path: &Path, error: Errno) -> TargetError {
    TargetError::Io { action, path: path.to_owned(), source: error.into() }
}
