//! Reading every file beneath a directory, and taking files out of memory.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::disk;
use crate::quantity::MIB;

/// Reads every file beneath `root` by one thread, in the order of their names; the bytes, and the seconds that it took.
pub(super) fn read_all(root: &Path) -> Result<(u64, f64)> {
    let mut buffer = vec![0; MIB as usize];
    let started = Instant::now();
    let mut bytes = 0;
    each(root, &mut |path| {
        let failed = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(failed)?;
        loop {
            match file.read(&mut buffer).with_context(failed)? {
                0 => return Ok(()),
                read => bytes += read as u64,
            }
        }
    })?;
    Ok((bytes, started.elapsed().as_secs_f64()))
}

/// Takes what is below these paths out of memory, with everything else where that is wished and allowed; says how.
pub(super) fn empty_memory(paths: &[&Path], with_all: bool) -> Result<&'static str> {
    if with_all && fs::write("/proc/sys/vm/drop_caches", "3").is_ok() {
        return Ok("drop_caches");
    }
    forget(paths)?;
    Ok("posix_fadvise, which leaves names and inodes")
}

fn forget(paths: &[&Path]) -> Result<()> {
    paths.iter().try_for_each(|path| each(path, &mut |file| disk::forget(file)))
}

/// Calls for the path itself, or every file beneath it, in the order of their names.
fn each(path: &Path, call: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    let about = fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if !about.is_dir() {
        return call(path);
    }
    let failed = || format!("cannot list {}", path.display());
    let entries = fs::read_dir(path).with_context(failed)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>().with_context(failed)?;
    paths.sort_unstable();
    paths.iter().try_for_each(|path| each(path, call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("b")).unwrap();
        for (name, content) in [("c", "12"), ("a", "345"), ("b/z", "6789")] {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let mut seen = Vec::new();
        each(directory.path(), &mut |path| {
            seen.push(path.strip_prefix(directory.path())?.to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["a", "b/z", "c"].map(PathBuf::from));
        forget(&[directory.path()]).unwrap();
        assert_eq!(read_all(directory.path()).unwrap().0, 9);
        assert!(read_all(&directory.path().join("nothing")).is_err());
    }
}
