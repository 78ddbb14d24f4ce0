//! Calls on files that neither the standard library nor rustix offers: write-back of ranges, fs-verity, free space.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use crate::raw;

/// Free and total space of a filesystem, as an unprivileged writer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Size of the filesystem in bytes.
    pub bytes_total: u64,
    /// Bytes that can still be written without root's reserve.
    pub bytes_free: u64,
    /// Inodes in all; 0 where the filesystem has no fixed number of them.
    pub inodes_total: u64,
    /// Inodes that can still be made; 0 together with `inodes_total` means "no fixed number".
    pub inodes_free: u64,
}

/// The space of the filesystem that holds `path`.
pub fn space(path: &Path) -> io::Result<Space> {
    let answer = rustix::fs::statvfs(path)?;
    Ok(Space {
        bytes_total: answer.f_blocks.saturating_mul(answer.f_frsize),
        bytes_free: answer.f_bavail.saturating_mul(answer.f_frsize),
        inodes_total: answer.f_files,
        inodes_free: answer.f_favail,
    })
}

/// Starts to write the dirty pages of a range to disk and returns at once. A `length` of 0 reaches to the end.
///
/// Not a sync: neither metadata nor the disk's own cache is flushed. An error means lost pages, see `store.md`.
pub fn write_back(file: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    raw::sync_file_range(file.as_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE)
}

/// Writes the dirty pages of a range to disk and waits until they are there. A `length` of 0 reaches to the end.
///
/// Not a sync: neither metadata nor the disk's own cache is flushed. An error means lost pages, see `store.md`.
pub fn sync_file_range(file: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    raw::sync_file_range(file.as_fd(), offset, length, flags)
}

/// What became of a request for fs-verity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verity {
    /// The kernel now checks every read of this file and refuses every write.
    Enabled,
    /// It was so already.
    AlreadyEnabled,
    /// The kernel or the filesystem cannot do it; nothing has changed.
    Unsupported,
}

/// Turns on fs-verity (SHA-256, blocks of 4 KiB) for a file that is open for reading and by nobody for writing.
pub fn enable_verity(file: impl AsFd) -> io::Result<Verity> {
    match raw::enable_verity(file.as_fd()) {
        Ok(()) => Ok(Verity::Enabled),
        Err(error) => verity_outcome(error),
    }
}

/// EINVAL is the answer of an ext4 whose blocks are larger than its pages allow.
fn verity_outcome(error: io::Error) -> io::Result<Verity> {
    match error.raw_os_error() {
        Some(libc::EEXIST) => Ok(Verity::AlreadyEnabled),
        Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ENOPKG) => {
            Ok(Verity::Unsupported)
        }
        _ => Err(error),
    }
}

/// What a store needs of its filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesystemSupport {
    /// link(2) works.
    pub hard_links: bool,
    /// fallocate(2) reserves blocks.
    pub fallocate: bool,
    /// flock(2) works.
    pub flock: bool,
}

/// Finds out what the filesystem under `directory` can do, with two short-lived files in that directory.
pub fn probe_filesystem(directory: &Path) -> io::Result<FilesystemSupport> {
    let first = directory.join(format!(".probe-{}-{:?}", std::process::id(), std::thread::current().id()));
    let second = first.with_extension("link");
    let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&first)?;
    let result = probe_with(&file, &first, &second);
    for path in [&second, &first] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    result
}

fn probe_with(file: &std::fs::File, first: &Path, second: &Path) -> io::Result<FilesystemSupport> {
    let flock = rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    let fallocate = rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, 4096);
    Ok(FilesystemSupport {
        hard_links: supported(std::fs::hard_link(first, second))?,
        fallocate: supported(fallocate.map_err(io::Error::from))?,
        flock: supported(flock.map_err(io::Error::from))?,
    })
}

/// Tells "cannot do it" from a real failure such as a full disk.
fn supported(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(
                libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK | libc::ENOLCK | libc::EINVAL,
            ) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Whether the kernel checks this file with fs-verity.
pub fn has_verity(file: impl AsFd) -> io::Result<bool> {
    let answer = rustix::fs::statx(
        file.as_fd(),
        "",
        rustix::fs::AtFlags::EMPTY_PATH,
        rustix::fs::StatxFlags::empty(),
    )?;
    Ok(answer.stx_attributes.contains(rustix::fs::StatxAttributes::VERITY))
}

/// The path by which the kernel reaches an open file whatever has happened to its name.
///
/// `thread-self`, because a thread may have a file table of its own.
pub(crate) fn descriptor_path(file: impl AsFd) -> String {
    format!("/proc/thread-self/fd/{}", file.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_mean_no_verity_here_are_told_from_real_ones() {
        let outcome = |code| verity_outcome(io::Error::from_raw_os_error(code)).ok();
        assert_eq!(outcome(libc::EOPNOTSUPP), Some(Verity::Unsupported));
        assert_eq!(outcome(libc::ENOTTY), Some(Verity::Unsupported));
        assert_eq!(outcome(libc::EEXIST), Some(Verity::AlreadyEnabled));
        assert_eq!(outcome(libc::EIO), None);
        assert_eq!(outcome(libc::ETXTBSY), None);
    }

    #[test]
    fn a_full_disk_is_not_a_filesystem_without_fallocate() {
        assert!(!supported(Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))).unwrap());
        assert!(supported(Err(io::Error::from_raw_os_error(libc::ENOSPC))).is_err());
    }
}
