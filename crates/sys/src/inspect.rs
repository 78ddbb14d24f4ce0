//! What is mounted at a path.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};

use crate::file::descriptor_path;
use crate::mount_table::{MountEntry, MountTableError, mount_table};
use crate::raw::{self, Statmount};

/// The mount whose root a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// `st_dev` of the mount's root directory.
    pub dev: u64,
    /// `st_ino` of the mount's root directory.
    pub ino: u64,
    /// The id as in the mount table; used again once the mount is gone.
    pub mount_id: u64,
    /// The id of the mount below it.
    pub parent_id: u64,
    /// The mount's own flag, which a container runtime can clear.
    pub readonly: bool,
    /// The superblock's flag, which nothing inside a container can clear.
    pub superblock_readonly: bool,
    /// `ext4`, `overlay`, `erofs`.
    pub fs_type: String,
}

/// What is mounted at a path cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A system call failed.
    #[error("cannot find out what is mounted at {path}: {source}", path = path.display())]
    Path {
        /// The path asked about.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It was unmounted while we looked.
    #[error("what was mounted at {path} has just been unmounted", path = path.display())]
    Gone {
        /// The path asked about.
        path: PathBuf,
    },
    /// The mount table was needed and cannot be read.
    #[error(transparent)]
    Table(#[from] MountTableError),
}

/// The topmost mount whose root is `path`, or `None` when the path is absent or no root of a mount.
///
/// A symlink as the last component is not followed, and is no mount.
pub fn inspect(path: &Path) -> Result<Option<MountPoint>, InspectError> {
    match rustix::fs::openat(CWD, path, INSPECT, Mode::empty()) {
        Ok(file) => inspect_at(&file, path),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(InspectError::Path { path: path.to_owned(), source: error.into() }),
    }
}

/// Sets or clears the read-only flag of the mount at `path`, and of that mount alone, as container runtimes do.
///
/// The superblock keeps its own: this is how to show that a volume does not rest on the mount's flag.
pub fn set_readonly_flag(path: &Path, readonly: bool) -> io::Result<()> {
    let mount = rustix::fs::openat(CWD, path, INSPECT, Mode::empty())?;
    let flag = libc::MOUNT_ATTR_RDONLY;
    let (set, clear) = if readonly { (flag, 0) } else { (0, flag) };
    raw::mount_setattr(mount.as_fd(), set, clear, 0)
}

pub(crate) const INSPECT: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// As `inspect`, for something that is open already; `path` is for the message only.
pub(crate) fn inspect_at(file: &OwnedFd, path: &Path) -> Result<Option<MountPoint>, InspectError> {
    let error = |source| InspectError::Path { path: path.to_owned(), source };
    let identity = identity(file.as_fd()).map_err(error)?;
    if identity.mount_root == Some(false) {
        return Ok(None);
    }
    let mount = mount_of(file.as_fd(), identity.unique_id, path)?;
    if identity.mount_root.is_none() && !is_root_by_name(file, &mount).map_err(error)? {
        return Ok(None);
    }
    Ok(Some(MountPoint {
        dev: identity.dev,
        ino: identity.ino,
        mount_id: mount.id,
        parent_id: mount.parent_id,
        readonly: mount.readonly,
        superblock_readonly: mount.superblock_readonly,
        fs_type: mount.fs_type,
    }))
}

/// What statx says about an open file.
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// Whether it is the root of its mount; kernels before 5.8 do not say.
    pub(crate) mount_root: Option<bool>,
    /// The mount's id that is never used again (6.8).
    pub(crate) unique_id: Option<u64>,
}

pub(crate) fn identity(file: BorrowedFd<'_>) -> io::Result<Identity> {
    /// `STATX_MNT_ID_UNIQUE`, which rustix does not name.
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    // The attributes come from the kernel's own structures: no need to ask a network filesystem.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let answer = rustix::fs::statx(file, "", flags, StatxFlags::INO | StatxFlags::TYPE | UNIQUE)?;
    let says_root = answer.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
    Ok(Identity {
        dev: rustix::fs::makedev(answer.stx_dev_major, answer.stx_dev_minor),
        ino: answer.stx_ino,
        mount_root: says_root.then(|| answer.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        unique_id: (answer.stx_mask & UNIQUE.bits() != 0).then_some(answer.stx_mnt_id),
    })
}

/// The id, as in the mount table, of the mount that an open file lies on.
pub(crate) fn mount_id(file: BorrowedFd<'_>) -> io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let answer = rustix::fs::statx(file, "", flags, StatxFlags::MNT_ID)?;
    if answer.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
        return Ok(answer.stx_mnt_id);
    }
    let info = std::fs::read_to_string(descriptor_path(file).replacen("/fd/", "/fdinfo/", 1))?;
    info.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("the kernel does not say on which mount the file lies"))
}

struct Details {
    id: u64,
    parent_id: u64,
    readonly: bool,
    superblock_readonly: bool,
    fs_type: String,
    /// Known only where the mount table was read.
    place: Option<PathBuf>,
}

fn mount_of(file: BorrowedFd<'_>, unique_id: Option<u64>, path: &Path) -> Result<Details, InspectError> {
    if let Some(mount) = unique_id.and_then(by_statmount) {
        return Ok(mount);
    }
    let id = mount_id(file).map_err(|source| InspectError::Path { path: path.to_owned(), source })?;
    by_table(id)?.ok_or_else(|| InspectError::Gone { path: path.to_owned() })
}

/// One system call, where reading a table of hundreds of mounts would cost more than the mount itself.
fn by_statmount(unique_id: u64) -> Option<Details> {
    let answer = raw::statmount(unique_id).ok()?;
    let wanted = Statmount::SUPERBLOCK | Statmount::MOUNT | Statmount::FS_TYPE;
    (answer.mask() & wanted == wanted).then(|| Details {
        id: answer.mount_id(),
        parent_id: answer.parent_id(),
        readonly: answer.attributes() & libc::MOUNT_ATTR_RDONLY != 0,
        superblock_readonly: u64::from(answer.superblock_flags()) & libc::MS_RDONLY != 0,
        fs_type: answer.fs_type(),
        place: None,
    })
}

fn by_table(id: u64) -> Result<Option<Details>, MountTableError> {
    Ok(mount_table()?.into_iter().find(|entry| entry.mount_id == id).map(|entry: MountEntry| Details {
        id: entry.mount_id,
        parent_id: entry.parent_id,
        readonly: entry.readonly(),
        superblock_readonly: entry.superblock_readonly(),
        fs_type: entry.fs_type,
        place: Some(entry.mount_point),
    }))
}

/// For kernels whose statx does not tell a root of a mount: compares the two names.
fn is_root_by_name(file: &OwnedFd, mount: &Details) -> io::Result<bool> {
    let name = std::fs::read_link(descriptor_path(file))?;
    Ok(mount.place.as_deref() == Some(name.as_path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statmount_and_the_mount_table_agree() {
        let file = rustix::fs::openat(CWD, "/proc", INSPECT, Mode::empty()).unwrap();
        let identity = identity(file.as_fd()).unwrap();
        assert_eq!(identity.mount_root, Some(true));
        let by_table = by_table(mount_id(file.as_fd()).unwrap()).unwrap().unwrap();
        // A kernel before 6.8 has nothing to compare.
        if let Some(by_call) = identity.unique_id.and_then(by_statmount) {
            assert_eq!(by_call.id, by_table.id);
            assert_eq!(by_call.parent_id, by_table.parent_id);
            assert_eq!(by_call.readonly, by_table.readonly);
            assert_eq!(by_call.superblock_readonly, by_table.superblock_readonly);
            assert_eq!((by_call.fs_type.as_str(), by_table.fs_type.as_str()), ("proc", "proc"));
        }
        assert!(is_root_by_name(&file, &by_table).unwrap());
    }

    #[test]
    fn a_plain_directory_an_absent_path_and_a_symlink_to_a_mount_are_no_mounts() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        assert_eq!(inspect(directory.path()).unwrap(), None);
        assert_eq!(inspect(&directory.path().join("absent")).unwrap(), None);
        assert_eq!(inspect(&link).unwrap(), None);
        assert!(inspect(Path::new("/proc")).unwrap().is_some());
    }
}
