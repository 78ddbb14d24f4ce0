//! An open file of the store.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, PosixFadviseAdvice};
use nix::sys::stat::Mode;

use super::{Io, IoError, Op, Step};
use crate::times::FIXED_TIME;

/// A file that the store reads or writes; offsets are explicit, so that threads can share it.
#[derive(Debug)]
pub struct IoFile {
    pub(super) file: File,
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) io: Io,
}

impl IoFile {
    /// The path relative to the store, as it was when the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file itself, for reading.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write_at(&self, point: &'static str, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let outcome = self.io.perform(
            Step::new(point, "write", &self.path),
            || self.file.write_all_at(bytes, offset),
            |()| Some(Op::Write(self.id, offset, Arc::from(bytes))),
        );
        if outcome.is_err()
            && let Some(probe) = &self.io.probe
            && probe.tears()
        {
            let half = &bytes[..bytes.len() / 2];
            if self.file.write_all_at(half, offset).is_ok() {
                probe.log_torn(Op::Write(self.id, offset, Arc::from(half)));
            }
        }
        outcome
    }

    /// Fills `buffer` from `offset`; a file that ends before is an error.
    pub fn read_at(&self, point: &'static str, offset: u64, buffer: &mut [u8]) -> Result<(), IoError> {
        self.io.perform(
            Step::new(point, "read", &self.path),
            || self.file.read_exact_at(buffer, offset),
            |()| None,
        )
    }

    /// Cuts or extends the file.
    pub fn set_len(&self, point: &'static str, length: u64) -> Result<(), IoError> {
        self.io.perform(
            Step::new(point, "set the length of", &self.path),
            || self.file.set_len(length),
            |()| Some(Op::SetLength(self.id, length)),
        )
    }

    /// Reserves blocks for the first `length` bytes with fallocate(2) and makes the file that long.
    pub fn allocate(&self, point: &'static str, length: u64) -> Result<(), IoError> {
        let reserve = || {
            let length = i64::try_from(length).map_err(|_| std::io::Error::from_raw_os_error(libc::EFBIG))?;
            Ok(nix::fcntl::fallocate(&self.file, FallocateFlags::empty(), 0, length)?)
        };
        self.io.perform(Step::new(point, "reserve space for", &self.path), reserve, |()| {
            Some(Op::SetLength(self.id, length))
        })
    }

    /// The length in bytes.
    pub fn length(&self) -> Result<u64, IoError> {
        Ok(self.metadata()?.len())
    }

    /// What fstat(2) says.
    pub fn metadata(&self) -> Result<std::fs::Metadata, IoError> {
        self.file.metadata().map_err(|error| IoError::new("stat", self.io.full(&self.path), error))
    }

    /// Sets the permission bits.
    pub fn chmod(&self, point: &'static str, mode: u32) -> Result<(), IoError> {
        self.io.perform(
            Step::new(point, "change the mode of", &self.path),
            || Ok(nix::sys::stat::fchmod(&self.file, Mode::from_bits_truncate(mode))?),
            |()| Some(Op::FileMode(self.id, mode)),
        )
    }

    /// Sets the fixed modification time of everything that a volume shows.
    pub fn fix_times(&self, point: &'static str) -> Result<(), IoError> {
        self.io.perform(
            Step::new(point, "set the times of", &self.path),
            || Ok(nix::sys::stat::futimens(&self.file, &FIXED_TIME, &FIXED_TIME)?),
            |()| None,
        )
    }

    /// fsync(2).
    pub fn sync(&self, point: &'static str) -> Result<(), IoError> {
        let real = self.io.syncs_for_real();
        self.io.perform(
            Step::new(point, "sync", &self.path),
            || if real { self.file.sync_all() } else { Ok(()) },
            |()| Some(Op::SyncFile(self.id)),
        )
    }

    /// fdatasync(2).
    pub fn sync_data(&self, point: &'static str) -> Result<(), IoError> {
        let real = self.io.syncs_for_real();
        self.io.perform(
            Step::new(point, "sync", &self.path),
            || if real { self.file.sync_data() } else { Ok(()) },
            |()| Some(Op::SyncFile(self.id)),
        )
    }

    /// Starts to write a range to the disk; makes nothing durable. A filesystem that cannot is no error.
    pub fn write_back(&self, point: &'static str, offset: u64, length: u64) -> Result<(), IoError> {
        let start = || match stowage_sys::write_back(&self.file, offset, length) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP)
                ) =>
            {
                Ok(())
            }
            outcome => outcome,
        };
        self.io.perform(Step::new(point, "write back", &self.path), start, |()| None)
    }

    /// Drops the file's clean pages, so that what is read next comes from the disk.
    pub fn drop_cache(&self, point: &'static str) -> Result<(), IoError> {
        self.io.perform(
            Step::new(point, "drop the cached pages of", &self.path),
            || {
                let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
                Ok(nix::fcntl::posix_fadvise(&self.file, 0, 0, advice)?)
            },
            |()| None,
        )
    }
}
