//! An open directory of the store; names are resolved from it, never from the root of the filesystem.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{AtFlags, OFlag, RenameFlags};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::UnlinkatFlags;

use super::{Io, IoError, IoFile, Op, Step};
use crate::times::FIXED_TIME;

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// What fstatat(2) says about a name, without following it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// File, directory or else.
    pub kind: Kind,
    /// Length in bytes.
    pub len: u64,
    /// Bytes that it takes on the disk.
    pub disk_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// How many names it has.
    pub links: u64,
    /// Device and inode.
    pub dev_ino: (u64, u64),
    /// Modification time in nanoseconds since 1970.
    pub modified: u64,
    /// Time of the last change of the inode in nanoseconds since 1970.
    pub changed: u64,
}

/// An open directory.
#[derive(Clone, Debug)]
pub struct Dir {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    io: Io,
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Dir {
    pub(super) fn open_path(io: Io, full: &Path, path: PathBuf) -> Result<Self, IoError> {
        // The store's own directory may be a symlink that the administrator made.
        let flags = DIRECTORY.difference(OFlag::O_NOFOLLOW);
        let fd = nix::fcntl::open(full, flags, Mode::empty())
            .map_err(|errno| IoError::new("open", full.to_owned(), errno.into()))?;
        Ok(Self { fd: Arc::new(fd), path, io })
    }

    /// The path relative to the store, as it was when the directory was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk that the directory is on.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// Opens a directory beneath this one.
    pub fn open_dir(&self, name: &str) -> Result<Self, IoError> {
        let path = self.path.join(name);
        let fd = nix::fcntl::openat(&self.fd, name, DIRECTORY, Mode::empty())
            .map_err(|errno| IoError::new("open", self.io.full(&path), errno.into()))?;
        Ok(Self { fd: Arc::new(fd), path, io: self.io.clone() })
    }

    /// Makes a directory with this mode, less the umask. One that is there already is an error of kind `AlreadyExists`.
    pub fn make_dir(&self, point: &'static str, name: &str, mode: u32) -> Result<(), IoError> {
        let path = self.path.join(name);
        self.io.perform(
            Step::new(point, "make the directory", &path),
            || Ok(nix::sys::stat::mkdirat(&self.fd, name, Mode::from_bits_truncate(mode))?),
            |()| Some(Op::MakeDir(path.clone(), mode)),
        )
    }

    /// Opens the directory, making it with this mode where it is missing. Says whether it was made.
    pub fn ensure_dir(&self, point: &'static str, name: &str, mode: u32) -> Result<(Self, bool), IoError> {
        match self.open_dir(name) {
            Err(error) if error.is_not_found() => {}
            found => return Ok((found?, false)),
        }
        match self.make_dir(point, name, mode) {
            Ok(()) => Ok((self.open_dir(name)?, true)),
            // Another thread was first.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok((self.open_dir(name)?, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a file that nobody else can read, for reading and writing.
    pub fn create(&self, point: &'static str, name: &str) -> Result<IoFile, IoError> {
        const MODE: u32 = 0o600;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let path = self.path.join(name);
        let id = self.next_file();
        let file = self.io.perform(
            Step::new(point, "create", &path),
            || Ok(nix::fcntl::openat(&self.fd, name, flags, Mode::from_bits_truncate(MODE))?),
            |_| Some(Op::Create(path.clone(), id, MODE)),
        )?;
        Ok(IoFile { file: File::from(file), id, path, io: self.io.clone() })
    }

    /// Opens a file for reading and writing.
    pub fn open_write(&self, point: &'static str, name: &str) -> Result<IoFile, IoError> {
        let path = self.path.join(name);
        let id = self.next_file();
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = self.io.perform(
            Step::new(point, "open", &path),
            || Ok(nix::fcntl::openat(&self.fd, name, flags, Mode::empty())?),
            |_| Some(Op::Open(path.clone(), id)),
        )?;
        Ok(IoFile { file: File::from(file), id, path, io: self.io.clone() })
    }

    /// Opens a file for reading.
    pub fn open_read(&self, point: &'static str, name: &str) -> Result<IoFile, IoError> {
        let path = self.path.join(name);
        // O_NONBLOCK: a FIFO that does not belong here must not hang the store.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = self.io.perform(
            Step::new(point, "open", &path),
            || Ok(nix::fcntl::openat(&self.fd, name, flags, Mode::empty())?),
            |_| None,
        )?;
        Ok(IoFile { file: File::from(file), id: 0, path, io: self.io.clone() })
    }

    /// Reads a whole small file.
    pub fn read(&self, point: &'static str, name: &str) -> Result<Vec<u8>, IoError> {
        let file = self.open_read(point, name)?;
        let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
        file.read_at(point, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Puts a whole small file under its name in one step: a temporary name, then a rename. Synced where asked.
    pub fn replace(&self, point: &'static str, name: &str, bytes: &[u8], sync: bool) -> Result<(), IoError> {
        let temporary = self.io.temporary(name);
        let write = || {
            let file = self.create(point, &temporary)?;
            file.write_at(point, 0, bytes)?;
            if sync {
                file.sync(point)?;
            }
            self.rename(point, &temporary, self, name)
        };
        write().inspect_err(|_| {
            let _ = self.unlink(point, &temporary);
        })?;
        if sync { self.sync(point) } else { Ok(()) }
    }

    /// What is at this name; `None` where nothing is.
    pub fn stat(&self, name: &str) -> Result<Option<Metadata>, IoError> {
        match nix::sys::stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Metadata::from(&stat))),
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(IoError::new("stat", self.io.full(&self.path.join(name)), errno.into())),
        }
    }

    /// What fstat(2) says about the directory itself.
    pub fn metadata(&self) -> Result<Metadata, IoError> {
        nix::sys::stat::fstat(&self.fd)
            .map(|stat| Metadata::from(&stat))
            .map_err(|errno| IoError::new("stat", self.io.full(&self.path), errno.into()))
    }

    /// The user who owns the directory.
    pub fn owner(&self) -> Result<u32, IoError> {
        nix::sys::stat::fstat(&self.fd)
            .map(|stat| stat.st_uid)
            .map_err(|errno| IoError::new("stat", self.io.full(&self.path), errno.into()))
    }

    /// The names in this directory, sorted; a name that is not UTF-8 is none of ours and comes out altered.
    pub fn names(&self) -> Result<Vec<String>, IoError> {
        let failed = |error| IoError::new("list", self.io.full(&self.path), error);
        // A descriptor of its own, because a listing moves the offset of the open directory.
        let fd = nix::fcntl::openat(&self.fd, ".", DIRECTORY, Mode::empty()).map_err(|e| failed(e.into()))?;
        let mut listing = nix::dir::Dir::from_fd(fd).map_err(|errno| failed(errno.into()))?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(|errno| failed(errno.into()))?;
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// rename(2), which replaces what is at the new name.
    pub fn rename(&self, point: &'static str, from: &str, to: &Self, name: &str) -> Result<(), IoError> {
        let (old, new) = (self.path.join(from), to.path.join(name));
        self.io.perform(
            Step::new(point, "rename", &old),
            || Ok(nix::fcntl::renameat(&self.fd, from, &to.fd, name)?),
            |()| Some(Op::Rename(old.clone(), new)),
        )
    }

    /// rename(2) onto a name of this directory that may be taken, without making anybody wait for the disk.
    ///
    /// Over an existing file ext4 starts to write out the new one at once (`auto_da_alloc`), and whoever replaces that
    /// one waits for it. An exchange of the two names does not. For files that need to survive the process only.
    pub fn rename_lazily(&self, point: &'static str, from: &str, name: &str) -> Result<(), IoError> {
        let (old, new) = (self.path.join(from), self.path.join(name));
        let rename = || {
            let exchanged =
                nix::fcntl::renameat2(&self.fd, from, &self.fd, name, RenameFlags::RENAME_EXCHANGE);
            match exchanged {
                Ok(()) => Ok(nix::unistd::unlinkat(&self.fd, from, UnlinkatFlags::NoRemoveDir)?),
                // Nothing to replace, or a filesystem that cannot exchange.
                Err(_) => Ok(nix::fcntl::renameat(&self.fd, from, &self.fd, name)?),
            }
        };
        self.io.perform(Step::new(point, "rename", &old), rename, |()| Some(Op::Rename(old.clone(), new)))
    }

    /// link(2); a symlink is linked itself, not what it points to.
    pub fn link(&self, point: &'static str, from: &str, to: &Self, name: &str) -> Result<(), IoError> {
        let (old, new) = (self.path.join(from), to.path.join(name));
        self.io.perform(
            Step::new(point, "link", &old),
            || Ok(nix::unistd::linkat(&self.fd, from, &to.fd, name, AtFlags::empty())?),
            |()| Some(Op::Link(old.clone(), new)),
        )
    }

    /// Removes a name that is not a directory.
    pub fn unlink(&self, point: &'static str, name: &str) -> Result<(), IoError> {
        let path = self.path.join(name);
        self.io.perform(
            Step::new(point, "remove", &path),
            || Ok(nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?),
            |()| Some(Op::Unlink(path.clone())),
        )
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, point: &'static str, name: &str) -> Result<(), IoError> {
        let path = self.path.join(name);
        self.io.perform(
            Step::new(point, "remove the directory", &path),
            || Ok(nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)?),
            |()| Some(Op::RemoveDir(path.clone())),
        )
    }

    /// Removes a name and everything beneath it; nothing there is fine. Follows no symlink.
    pub fn remove_all(&self, point: &'static str, name: &str) -> Result<(), IoError> {
        match self.stat(name)? {
            None => Ok(()),
            Some(found) if found.kind == Kind::Directory => {
                if found.mode & 0o700 != 0o700 {
                    // A published tree is 0555, which keeps an owner without CAP_DAC_OVERRIDE out.
                    self.chmod(point, name, 0o700)?;
                }
                let inner = self.open_dir(name)?;
                for entry in inner.names()? {
                    inner.remove_all(point, &entry)?;
                }
                super::error::gone_is_fine(self.remove_dir(point, name))
            }
            Some(_) => super::error::gone_is_fine(self.unlink(point, name)),
        }
    }

    /// Sets the permission bits of a name, which must not be a symlink.
    pub fn chmod(&self, point: &'static str, name: &str, mode: u32) -> Result<(), IoError> {
        let path = self.path.join(name);
        self.io.perform(
            Step::new(point, "change the mode of", &path),
            || {
                let bits = Mode::from_bits_truncate(mode);
                Ok(nix::sys::stat::fchmodat(&self.fd, name, bits, FchmodatFlags::FollowSymlink)?)
            },
            |()| Some(Op::Mode(path.clone(), mode)),
        )
    }

    /// Sets the permission bits of the directory itself.
    pub fn chmod_self(&self, point: &'static str, mode: u32) -> Result<(), IoError> {
        self.io.perform(
            Step::new(point, "change the mode of", &self.path),
            || Ok(nix::sys::stat::fchmod(&self.fd, Mode::from_bits_truncate(mode))?),
            |()| Some(Op::Mode(self.path.clone(), mode)),
        )
    }

    /// Sets the modification time of a name, in nanoseconds since 1970.
    pub fn set_modified(&self, point: &'static str, name: &str, nanoseconds: u64) -> Result<(), IoError> {
        let path = self.path.join(name);
        let time = crate::times::time_spec(nanoseconds);
        self.io.perform(
            Step::new(point, "set the times of", &path),
            || {
                let flag = UtimensatFlags::NoFollowSymlink;
                Ok(nix::sys::stat::utimensat(&self.fd, name, &TimeSpec::UTIME_OMIT, &time, flag)?)
            },
            |()| None,
        )
    }

    /// Gives the directory itself the fixed modification time of everything that a volume shows.
    pub fn fix_times_self(&self, point: &'static str) -> Result<(), IoError> {
        self.io.perform(
            Step::new(point, "set the times of", &self.path),
            || Ok(nix::sys::stat::futimens(&self.fd, &FIXED_TIME, &FIXED_TIME)?),
            |()| None,
        )
    }

    /// fsync(2) of the directory: its names are on the disk.
    pub fn sync(&self, point: &'static str) -> Result<(), IoError> {
        let real = self.io.syncs_for_real();
        self.io.perform(
            Step::new(point, "sync", &self.path),
            || if real { Ok(nix::unistd::fsync(&self.fd)?) } else { Ok(()) },
            |()| Some(Op::SyncDir(self.path.clone())),
        )
    }

    fn next_file(&self) -> u64 {
        self.io.probe.as_ref().map_or(0, |probe| probe.next_file())
    }
}

impl From<&nix::sys::stat::FileStat> for Metadata {
    fn from(stat: &nix::sys::stat::FileStat) -> Self {
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => Kind::File,
            libc::S_IFDIR => Kind::Directory,
            _ => Kind::Other,
        };
        Self {
            kind,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            disk_bytes: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
            mode: stat.st_mode & 0o7777,
            links: stat.st_nlink,
            dev_ino: (stat.st_dev, stat.st_ino),
            modified: crate::times::nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: crate::times::nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}
