//! The disk below the benchmark: what lies on it, and bringing it to rest.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Bytes that a directory takes on the disk; an inode with several names counts once, nothing mounted is entered.
pub(crate) fn used(directory: &Path) -> Result<u64> {
    let device = fs::symlink_metadata(directory)
        .with_context(|| format!("cannot look at {}", directory.display()))?
        .dev();
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let about =
            fs::symlink_metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
        if about.dev() != device || !seen.insert(about.ino()) {
            continue;
        }
        bytes += about.blocks() * 512;
        if about.is_dir() {
            let entries = fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
            for entry in entries {
                left.push(entry.with_context(|| format!("cannot list {}", path.display()))?.path());
            }
        }
    }
    Ok(bytes)
}

/// Waits until everything written to the filesystem of `path` is on the disk.
pub(crate) fn sync(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    nix::unistd::syncfs(file).with_context(|| format!("cannot sync the filesystem of {}", path.display()))
}

/// Makes an empty directory, whatever was there before.
pub(crate) fn fresh(directory: &Path) -> Result<()> {
    remove(directory)?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}

/// Removes a directory with all that is in it, if it is there.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Takes what memory holds of the file away, so that it is read from the disk again. Pages that are not on the disk yet stay.
pub(crate) fn forget(path: &Path) -> Result<()> {
    let failed = || format!("cannot take {} out of the page cache", path.display());
    let file = File::open(path).with_context(failed)?;
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .with_context(failed)
}

/// Brings the file into memory.
pub(crate) fn warm(path: &Path) -> Result<()> {
    let read = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
    read.map(|_| ()).with_context(|| format!("cannot read {}", path.display()))
}

/// Bytes that are free for us on the filesystem of `path`.
pub(crate) fn free(path: &Path) -> Result<u64> {
    let about = nix::sys::statvfs::statvfs(path)
        .with_context(|| format!("cannot ask for the space below {}", path.display()))?;
    Ok(about.blocks_available() * about.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_name_takes_no_second_place() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs::write(&one, vec![1; 1 << 20]).unwrap();
        sync(directory.path()).unwrap();
        let before = used(directory.path()).unwrap();
        assert!(before >= 1 << 20, "{before}");
        fs::hard_link(&one, &two).unwrap();
        assert!(used(directory.path()).unwrap() < before + (1 << 20));
    }

    #[test]
    fn what_is_forgotten_is_still_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "content").unwrap();
        forget(&file).unwrap();
        warm(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "content");
        assert!(forget(&directory.path().join("nothing")).is_err());
    }

    #[test]
    fn fresh_means_empty() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a");
        fresh(&inner).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        fresh(&inner).unwrap();
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
        remove(&inner).unwrap();
        remove(&inner).unwrap();
        assert!(free(directory.path()).unwrap() > 0);
    }
}
