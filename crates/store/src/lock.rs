//! `node.lock`: one writer per store.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::OpenError;
use crate::io::{Dir, IoError};
use crate::names::LOCK;

/// The exclusive lock; it goes with the value, or with the process.
#[derive(Debug)]
pub(crate) struct NodeLock {
    _file: Flock<File>,
}

impl NodeLock {
    /// Takes the lock of the store at `root`, or says who has it.
    pub(crate) fn take(dir: &Dir, root: &Path) -> Result<Self, OpenError> {
        let file = match dir.open_write("lock.open", LOCK) {
            Err(error) if error.is_not_found() => match dir.create("lock.create", LOCK) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    dir.open_write("lock.open", LOCK)?
                }
                created => created?,
            },
            opened => opened?,
        };
        let pid = format!("{}\n", std::process::id());
        let holder = file.metadata()?;
        let locked = match Flock::lock(file.into_file(), FlockArg::LockExclusiveNonblock) {
            Ok(locked) => locked,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::Locked { path: root.join(LOCK), pid });
            }
            Err((_, Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL)) => {
                return Err(OpenError::Filesystem { path: root.to_owned(), missing: "flock" });
            }
            Err((_, errno)) => return Err(IoError::new("lock", root.join(LOCK), errno.into()).into()),
        };
        // A lock on a file that somebody has removed keeps nobody out.
        let same = dir.stat(LOCK)?.is_some_and(|found| {
            use std::os::unix::fs::MetadataExt as _;
            found.dev_ino == (holder.dev(), holder.ino())
        });
        if !same {
            return Err(OpenError::Locked { path: root.join(LOCK), pid: None });
        }
        note_pid(dir, &pid);
        Ok(Self { _file: locked })
    }
}

/// The number is for messages only, so a full disk does not matter.
fn note_pid(dir: &Dir, pid: &str) {
    let write = || {
        let file = dir.open_write("lock.open", LOCK)?;
        file.set_len("lock.pid", 0)?;
        file.write_at("lock.pid", 0, pid.as_bytes())
    };
    if let Err(error) = write() {
        tracing::debug!(%error, "the lock file does not name this process");
    }
}
