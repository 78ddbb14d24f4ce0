//! Mounts that are built where nobody sees them and then put onto their target in one step.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::file::descriptor_path;
use crate::inspect::{INSPECT, InspectError, MountPoint, identity, inspect_at, mount_id};
use crate::kernel::Features;
use crate::overlay::{self, Layers, Naming};
use crate::raw;
use crate::staging::{Staged, sweep};
use crate::target::{Target, TargetError};

/// What every volume's mount carries besides being read-only.
pub(crate) const VOLUME_FLAGS: u64 =
    libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Where the old way stages its mounts when no [`Mounter`] says otherwise.
const DEFAULT_STAGING: &str = "/run/stowage/staging";

/// Which system calls build the mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountApi {
    /// `open_tree`, fsmount, `mount_setattr` and `move_mount` where the kernel has them (5.12), else the old way.
    #[default]
    Auto,
    /// mount(2) only, by way of a staging directory.
    Legacy,
}

/// Builds detached mounts.
#[derive(Debug, Clone)]
pub struct Mounter {
    legacy: bool,
    pub(crate) staging: PathBuf,
}

/// A mount that nobody sees yet; dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Detached {
    form: Form,
    /// What it shows, for messages.
    source: PathBuf,
    dev: u64,
    ino: u64,
}

#[derive(Debug)]
pub(crate) enum Form {
    /// The descriptor of its root, which fsmount or `open_tree` gave.
    Tree(OwnedFd),
    /// The old way.
    Staged(Staged),
}

/// A mount in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// `st_dev` of its root directory.
    pub dev: u64,
    /// `st_ino` of its root directory.
    pub ino: u64,
    /// The id as in the mount table.
    pub mount_id: u64,
    /// Whether the superblock itself refuses writes, and not only this mount of it.
    pub superblock_readonly: bool,
}

/// A mount cannot be built or put in place.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel refuses one step.
    #[error("cannot {step} {path}: {source}{kernel}", path = path.display())]
    Kernel {
        /// The step, such as `bind the tree`.
        step: &'static str,
        /// The path the step is about.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
        /// What the kernel wrote about it, in brackets; often empty.
        kernel: String,
    },
    /// The kernel has no such filesystem or call.
    #[error("cannot mount {path}: this kernel offers no {what}", path = path.display())]
    Unsupported {
        /// What is missing.
        what: &'static str,
        /// What was to be mounted.
        path: PathBuf,
    },
    /// The namespace holds as many mounts as the kernel allows.
    #[error("cannot mount onto {path}: the mount table is full; raise the sysctl fs.mount-max", path = path.display())]
    TableFull {
        /// The target or staging path.
        path: PathBuf,
    },
    /// Something is mounted there; a second mount would hide it.
    #[error("something is already mounted at {path}", path = path.display())]
    AlreadyMounted {
        /// The target.
        path: PathBuf,
    },
    /// An EROFS image or one of its devices is a directory, a pipe or the like.
    #[error("{path} is no regular file, as images and their devices must be", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A loop device was needed, and its node is missing: `/dev` is a container's own.
    #[error("there is no {node} here: loop devices need the kernel's loop driver and the host's /dev", node = node.display())]
    NoLoopNode {
        /// The device node.
        node: PathBuf,
    },
    /// An image from elsewhere expects its data in further devices, and it comes alone.
    #[error("the EROFS image {path} keeps its data in further devices, and there are none", path = path.display())]
    NeedsDevices {
        /// The image.
        path: PathBuf,
    },
    /// An overlay cannot have this number of layers.
    #[error(
        "cannot stack {layers} layers, {path} on top: overlayfs takes two to 500, and before Linux 6.8 about 150",
        path = path.display()
    )]
    LayerCount {
        /// How many there are.
        layers: usize,
        /// What the topmost shows; empty where there is none.
        path: PathBuf,
    },
    /// A mount was to be cloned, and there is none.
    #[error("nothing is mounted at {path}, so there is no mount to clone", path = path.display())]
    NotAMount {
        /// The path.
        path: PathBuf,
    },
    /// The mount came out writable and was taken away again.
    #[error("the mount at {path} would have been writable and was removed", path = path.display())]
    NotReadOnly {
        /// The target.
        path: PathBuf,
    },
    /// The staging directory of the old way cannot be trusted.
    #[error("the staging directory {path} is not a directory that belongs to this user alone", path = path.display())]
    Staging {
        /// The directory.
        path: PathBuf,
    },
    /// The target has changed under us.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The result cannot be checked.
    #[error(transparent)]
    Inspect(#[from] InspectError),
}

impl MountError {
    pub(crate) fn kernel(step: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        let source = error.into();
        match source.raw_os_error() {
            Some(libc::ENOSPC) => Self::TableFull { path: path.to_owned() },
            _ => Self::Kernel { step, path: path.to_owned(), source, kernel: String::new() },
        }
    }
}

impl Default for Mounter {
    fn default() -> Self {
        Self::new(MountApi::Auto, Path::new(DEFAULT_STAGING))
    }
}

impl Mounter {
    /// `staging` is a directory for this process alone; it is made when it is first needed, and only by the old way.
    pub fn new(api: MountApi, staging: &Path) -> Self {
        static CAN_BUILD_DETACHED: OnceLock<bool> = OnceLock::new();
        let legacy = match api {
            MountApi::Legacy => true,
            MountApi::Auto => !*CAN_BUILD_DETACHED
                .get_or_init(|| Features::detect().is_ok_and(|features| features.can_build_detached())),
        };
        Self { legacy, staging: staging.to_owned() }
    }

    /// Whether mounts take the way through the staging directory.
    pub fn is_legacy(&self) -> bool {
        self.legacy
    }

    /// A read-only bind of a directory: the flag is the mount's alone (`csi.md`, for requests with `readonly = true`).
    pub fn bind_readonly(&self, tree: &Path) -> Result<Detached, MountError> {
        if self.legacy {
            return Detached::staged(Staged::bind(&self.staging, tree)?, tree);
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let clone = rustix::mount::open_tree(CWD, tree, flags)
            .map_err(|error| MountError::kernel("bind", tree, error))?;
        Detached::protected(clone, tree)
    }

    /// A directory behind an overlay without an upper layer: the superblock itself is read-only.
    ///
    /// `empty` is an empty directory outside `tree`; overlayfs demands a second layer. Inode numbers stay those of `tree`
    /// where both are on one filesystem.
    pub fn overlay_readonly(&self, tree: &Path, empty: &Path) -> Result<Detached, MountError> {
        self.overlay(&Layers::open(tree, empty, None)?)
    }

    /// As [`Self::overlay_readonly`], and every file carries this SELinux label.
    pub fn overlay_readonly_labelled(
        &self,
        tree: &Path,
        empty: &Path,
        label: &str,
    ) -> Result<Detached, MountError> {
        self.overlay(&Layers::open(tree, empty, Some(label))?)
    }

    fn overlay(&self, layers: &Layers<'_>) -> Result<Detached, MountError> {
        self.overlay_named(layers, Naming::of_this_kernel())
    }

    pub(crate) fn overlay_named(&self, layers: &Layers<'_>, naming: Naming) -> Result<Detached, MountError> {
        if self.legacy || !layers.fit(naming) {
            return Detached::staged(Staged::overlay(&self.staging, layers)?, layers.top());
        }
        let mount = overlay::mount_detached(layers, naming)?;
        Detached::protected(mount, layers.top())
    }

    /// A second mount of the same superblock as a live volume's.
    ///
    /// Whether the volume is still the expected one is for the caller to check: [`Detached::dev`] and [`Detached::ino`].
    pub fn clone_of(&self, live_target: &Path) -> Result<Detached, MountError> {
        let not_there = || MountError::NotAMount { path: live_target.to_owned() };
        let live = match rustix::fs::openat(CWD, live_target, INSPECT, Mode::empty()) {
            Ok(live) => live,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(not_there()),
            Err(error) => return Err(MountError::kernel("open", live_target, error)),
        };
        inspect_at(&live, live_target)?.ok_or_else(not_there)?;
        if self.legacy {
            let staged = Staged::bind(&self.staging, Path::new(&descriptor_path(&live)))?;
            return Detached::staged(staged, live_target);
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let clone = rustix::mount::open_tree(&live, "", flags)
            .map_err(|error| MountError::kernel("clone the mount at", live_target, error))?;
        Detached::protected(clone, live_target)
    }

    /// Removes what a killed process left in the staging directory; only while no other thread builds mounts there.
    pub fn sweep_staging(&self) -> io::Result<()> {
        sweep(&self.staging)
    }
}

impl Detached {
    /// [`Mounter::bind_readonly`] of the default mounter.
    pub fn bind_readonly(tree: &Path) -> Result<Self, MountError> {
        Mounter::default().bind_readonly(tree)
    }

    /// [`Mounter::overlay_readonly`] of the default mounter.
    pub fn overlay_readonly(tree: &Path, empty: &Path) -> Result<Self, MountError> {
        Mounter::default().overlay_readonly(tree, empty)
    }

    /// [`Mounter::clone_of`] of the default mounter.
    pub fn clone_of(live_target: &Path) -> Result<Self, MountError> {
        Mounter::default().clone_of(live_target)
    }

    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    pub(crate) fn into_form(self) -> Form {
        self.form
    }

    /// `st_dev` of its root directory.
    pub fn dev(&self) -> u64 {
        self.dev
    }

    /// `st_ino` of its root directory.
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// Puts the mount onto its target in one step, or changes nothing.
    ///
    /// The caller holds the target's lock: the check that nothing is mounted there and the move are two calls. A mount that
    /// came in between all the same is found afterwards, and ours is taken back.
    pub fn attach(self, target: &Target) -> Result<Attached, MountError> {
        let directory = target.open_directory()?;
        let taken = || MountError::AlreadyMounted { path: target.path().to_owned() };
        if inspect_here(&directory, target)?.is_some() {
            return Err(taken());
        }
        let below = mount_id(directory.as_fd())
            .map_err(|error| MountError::kernel("find the mount below", target.path(), error))?;
        let placed = match &self.form {
            Form::Tree(tree) => move_onto(tree, &directory, target)?,
            Form::Staged(staged) => self.bind_onto(staged, &directory, target)?,
        };
        let failure = if placed.mount.parent_id != below {
            taken()
        } else if !placed.mount.readonly {
            MountError::NotReadOnly { path: target.path().to_owned() }
        } else {
            return Ok(Attached {
                dev: placed.mount.dev,
                ino: placed.mount.ino,
                mount_id: placed.mount.mount_id,
                superblock_readonly: placed.mount.superblock_readonly,
            });
        };
        placed.take_back(target)?;
        Err(failure)
    }

    /// Sets a new mount's flags and keeps it out of every peer group, so that mounts below the source never show up in it.
    pub(crate) fn protected(mount: OwnedFd, source: &Path) -> Result<Self, MountError> {
        raw::mount_setattr(mount.as_fd(), VOLUME_FLAGS, 0, libc::MS_PRIVATE)
            .map_err(|error| MountError::kernel("make read-only the mount of", source, error))?;
        let identity = identity(mount.as_fd())
            .map_err(|error| MountError::kernel("examine the mount of", source, error))?;
        Ok(Self { form: Form::Tree(mount), source: source.to_owned(), dev: identity.dev, ino: identity.ino })
    }

    fn staged(staged: Staged, source: &Path) -> Result<Self, MountError> {
        let root = rustix::fs::openat(CWD, staged.path(), INSPECT, Mode::empty())
            .map_err(|error| MountError::kernel("examine the mount of", source, error))?;
        let identity = identity(root.as_fd())
            .map_err(|error| MountError::kernel("examine the mount of", source, error))?;
        Ok(Self {
            form: Form::Staged(staged),
            source: source.to_owned(),
            dev: identity.dev,
            ino: identity.ino,
        })
    }

    /// The old way: a bind copies the flags of the staged mount.
    fn bind_onto(&self, staged: &Staged, directory: &OwnedFd, target: &Target) -> Result<Placed, MountError> {
        rustix::mount::mount_bind(staged.path(), descriptor_path(directory))
            .map_err(|error| MountError::kernel("mount onto", target.path(), error))?;
        let root = target.open_directory()?;
        let taken = || MountError::AlreadyMounted { path: target.path().to_owned() };
        let mount = inspect_here(&root, target)?.ok_or_else(taken)?;
        if (mount.dev, mount.ino) != (self.dev, self.ino) {
            return Err(taken());
        }
        Ok(Placed { root, mount })
    }
}

/// A mount that was put in place and not yet found good.
struct Placed {
    root: OwnedFd,
    mount: MountPoint,
}

impl Placed {
    /// By descriptor, so that it is this mount that goes; detached, because the descriptor itself keeps it busy.
    fn take_back(&self, target: &Target) -> Result<(), MountError> {
        match rustix::mount::unmount(descriptor_path(&self.root), UnmountFlags::DETACH) {
            // Another that lost the same race has removed it with its own.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(MountError::kernel("take back the mount at", target.path(), error)),
        }
    }
}

fn move_onto(tree: &OwnedFd, directory: &OwnedFd, target: &Target) -> Result<Placed, MountError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", directory, "", flags)
        .map_err(|error| MountError::kernel("mount onto", target.path(), error))?;
    let root = tree
        .try_clone()
        .map_err(|error| MountError::kernel("keep a descriptor of the mount at", target.path(), error))?;
    let mount = inspect_here(&root, target)?
        .ok_or_else(|| MountError::AlreadyMounted { path: target.path().to_owned() })?;
    Ok(Placed { root, mount })
}

/// A mount that goes while we look at it is one of another who wanted this target.
fn inspect_here(file: &OwnedFd, target: &Target) -> Result<Option<MountPoint>, MountError> {
    match inspect_at(file, target.path()) {
        Err(InspectError::Gone { path }) => Err(MountError::AlreadyMounted { path }),
        other => Ok(other?),
    }
}
