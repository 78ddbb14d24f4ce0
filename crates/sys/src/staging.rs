//! The old way: mounts made in a private directory, made read-only there, and only then bound onto their target.
//!
//! Kernels before 5.12 cannot change the flags of a detached mount. Staged mounts live for milliseconds; what a killed
//! process leaves is swept at the next start.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags};

use crate::detached::MountError;
use crate::overlay::{Layers, SOURCE};
use crate::unmount::unmount;

/// What mount(2) reads of its options with the zero at the end: a page, which has at least so many bytes.
const OPTIONS_SIZE: usize = 4096;

/// Every entry of ours in the staging directory starts so.
const PREFIX: &str = "stage-";

/// A mount in the staging directory; dropping it removes both.
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
}

impl Staged {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A read-only bind of a directory, or of whatever `/proc/thread-self/fd/N` points to.
    pub(crate) fn bind(staging: &Path, source: &Path) -> Result<Self, MountError> {
        let staged = Self::directory(staging)?;
        rustix::mount::mount_bind(source, &staged.path)
            .map_err(|error| MountError::kernel("bind", source, error))?;
        staged.protect(source)?;
        Ok(staged)
    }

    pub(crate) fn overlay(staging: &Path, layers: &Layers<'_>) -> Result<Self, MountError> {
        let options = layers.options();
        // The kernel would cut them off without a word.
        if options.len() >= OPTIONS_SIZE {
            return Err(layers.wrong_count());
        }
        let staged = Self::directory(staging)?;
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        let options = std::ffi::CString::new(options).map_err(|_| {
            MountError::kernel(
                "name the layers of",
                layers.top(),
                io::Error::from(io::ErrorKind::InvalidInput),
            )
        })?;
        rustix::mount::mount(SOURCE, &staged.path, "overlay", flags, options.as_c_str()).map_err(
            |error| match error {
                rustix::io::Errno::NODEV => {
                    MountError::Unsupported { what: "overlayfs", path: layers.top().to_owned() }
                }
                other => MountError::kernel("make a read-only overlay of", layers.top(), other),
            },
        )?;
        staged.protect(layers.top())?;
        Ok(staged)
    }

    /// Puts a detached mount, whose flags are set already, into the staging directory.
    pub(crate) fn detached(staging: &Path, mount: OwnedFd) -> Result<Self, MountError> {
        let staged = Self::directory(staging)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(mount, "", CWD, &staged.path, flags)
            .map_err(|error| MountError::kernel("stage a mount at", &staged.path, error))?;
        Ok(staged)
    }

    /// A fresh directory; nothing is mounted on it yet.
    fn directory(staging: &Path) -> Result<Self, MountError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Not by way of `MountError::kernel`: ENOSPC is a full disk here.
        let error = |source: io::Error| MountError::Kernel {
            step: "make the staging directory",
            path: staging.to_owned(),
            source,
            kernel: String::new(),
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(staging).map_err(error)?;
        let metadata = std::fs::symlink_metadata(staging).map_err(error)?;
        let ours = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
        if !metadata.is_dir() || !ours {
            return Err(MountError::Staging { path: staging.to_owned() });
        }
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = staging.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                // Left by a killed process with our id.
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
                Err(other) => return Err(error(other)),
            }
        }
    }

    /// Makes the mount private and read-only; flags it inherited stay, since a user namespace may not clear them.
    fn protect(&self, source: &Path) -> Result<(), MountError> {
        let error =
            |error: rustix::io::Errno| MountError::kernel("make read-only the mount of", source, error);
        rustix::mount::mount_change(&self.path, MountPropagationFlags::PRIVATE).map_err(error)?;
        let inherited = rustix::fs::statvfs(&self.path).map_err(error)?.f_flag;
        let mut flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        for (has, keep) in [
            (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
            (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
            (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
            (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
        ] {
            flags.set(keep, inherited.contains(has));
        }
        rustix::mount::mount_remount(&self.path, flags, "").map_err(error)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let detach = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
        // EINVAL: it failed before anything was mounted.
        match rustix::mount::unmount(&self.path, detach) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "a staged mount stays"),
        }
        if let Err(error) = std::fs::remove_dir(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a staging directory stays");
        }
    }
}

/// Removes every entry of ours and what is mounted there.
pub(crate) fn sweep(staging: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(staging) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            unmount(&entry.path()).map_err(io::Error::other)?;
            std::fs::remove_dir(entry.path())?;
        }
    }
    Ok(())
}
