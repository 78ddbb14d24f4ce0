//! A file that a filesystem is made of: an image, or a tar.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};

use crate::detached::MountError;

/// An open file, and its path for messages.
pub(crate) struct Source {
    file: File,
    path: PathBuf,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, MountError> {
        // Nobody must wait here for the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let error = |error| MountError::kernel("open", path, error);
        let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(error)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(error)?.st_mode);
        if !kind.is_file() {
            return Err(MountError::NotAFile { path: path.to_owned() });
        }
        Ok(Self { file: file.into(), path: path.to_owned() })
    }

    /// A file that has no name any more; `path` is where it was.
    pub(crate) fn unnamed(file: File, path: PathBuf) -> Self {
        Self { file, path }
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether direct reads of any block of 512 bytes are possible (`STATX_DIOALIGN`, 6.1).
    pub(crate) fn takes_direct_blocks(&self) -> bool {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let Ok(answer) = rustix::fs::statx(self.file(), "", flags, StatxFlags::DIOALIGN) else {
            return false;
        };
        answer.stx_mask & StatxFlags::DIOALIGN.bits() != 0
            // 0 stands for a file without direct I/O.
            && (1..=512).contains(&answer.stx_dio_offset_align)
            && (1..=512).contains(&answer.stx_dio_mem_align)
    }
}
