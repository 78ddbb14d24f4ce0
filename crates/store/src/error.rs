//! How operations on the store fail.

use std::path::PathBuf;

use stowage_artifact::digest::Digest;

use crate::io::IoError;

/// Why a store could not be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the store.
    #[error("the store {} is in use by {}; stop that process, or let it do the work over admin.sock",
        path.display(), holder(*pid))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// The wait for the lock was given up.
    #[error("gave up waiting for the store {}, which is in use by {}", path.display(), holder(*pid))]
    GaveUp {
        /// The lock file.
        path: PathBuf,
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// The filesystem lacks something that the store is built on.
    #[error("the filesystem of {} has no {missing}, which the store needs; use ext4, xfs or btrfs", path.display())]
    Filesystem {
        /// The store.
        path: PathBuf,
        /// Hard links, fallocate or flock.
        missing: &'static str,
    },
    /// A part of the store is on another filesystem.
    #[error("{} is on another filesystem than the store {}; a store is one filesystem, so unmount it", part.display(), path.display())]
    CrossesFilesystems {
        /// The store.
        path: PathBuf,
        /// The directory beneath it.
        part: PathBuf,
    },
    /// The directory belongs to somebody else.
    #[error("the store {} belongs to user {owner}, not to user {user}, who could change it; give it a directory of its own", path.display())]
    Owner {
        /// The store.
        path: PathBuf,
        /// Who owns the directory.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// The directory holds something else.
    #[error("{} is not a store and is not empty (it holds `{entry}`); name an empty directory", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// Something that is in it.
        entry: String,
    },
    /// `format.json` cannot be read.
    #[error("{} cannot be understood ({reason}); restore it, or remove the store", path.display())]
    BadFormat {
        /// `format.json`.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store is of another version.
    #[error("the store {} has format version {found}, and this program knows version {known}; use the program that wrote it", path.display())]
    Version {
        /// The store.
        path: PathBuf,
        /// The version on the disk.
        found: u32,
        /// The version of this program.
        known: u32,
    },
    /// The store has a feature that this program does not know.
    #[error("the store {} uses `{flag}`, which this program does not know; use the program that wrote it", path.display())]
    UnknownFeature {
        /// The store.
        path: PathBuf,
        /// The incompatible flag.
        flag: String,
    },
    /// The disk.
    #[error("cannot open the store: {0}")]
    Io(#[from] IoError),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A file of the store could not be read.
    #[error("cannot read a file of the store: {0}")]
    Read(#[from] std::io::Error),
    /// No such blob.
    #[error("blob {0} is not in the store")]
    NoSuchBlob(Digest),
    /// No such view.
    #[error("view {0} is not in the store")]
    NoSuchView(String),
    /// Bytes that are not those of the digest.
    #[error("the bytes given for blob {expected} have the digest {found}; they were not stored")]
    DigestMismatch {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// Something refers to it.
    #[error("{what} is in use by {by}; remove that first")]
    InUse {
        /// What was to be removed.
        what: String,
        /// A volume, a view or a download.
        by: String,
    },
    /// Neither a digest nor the id of a view.
    #[error("`{0}` is neither the digest of a blob nor the id of a view; `stowage store ls` lists both")]
    BadName(String),
    /// A file of the store does not have the form that it should.
    #[error("{} cannot be understood: {reason}; run `stowage store fsck --repair`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    /// Whether the disk, or the quota on it, is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io(error) => error.is_no_space(),
            Self::Read(error) => matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)),
            Self::NoSuchBlob(_)
            | Self::NoSuchView(_)
            | Self::DigestMismatch { .. }
            | Self::InUse { .. }
            | Self::BadName(_)
            | Self::Unreadable { .. } => false,
        }
    }
}
