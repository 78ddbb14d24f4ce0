//! A limit of memory for a process and its page cache, by cgroups of either version (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A cgroup with a limit; dropping it removes it, if it is empty by then.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Cgroup {
    /// Makes one; the error says why this machine has none to offer.
    pub(crate) fn with_memory(name: &str, limit: u64) -> Result<Self> {
        let Some((root, version)) = memory_root(&fs::read_to_string("/proc/mounts")?) else {
            bail!("no cgroup hierarchy with the memory controller is mounted");
        };
        if version == Version::Two {
            // Switched on already where systemd runs; where not and this fails, the limit below does too.
            let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        }
        let directory = root.join(name);
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let cgroup = Self { directory, version };
        let file = cgroup.directory.join(match version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        });
        fs::write(&file, limit.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(cgroup)
    }

    /// The file that takes the processes.
    pub(crate) fn processes(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// The most memory that was charged to it, page cache too.
    pub(crate) fn peak(&self) -> Option<u64> {
        let file = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        fs::read_to_string(self.directory.join(file)).ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // With a process in it still, the supervisor removes it later.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Removes the cgroup of this name and those that begin with it, wherever one is.
pub(crate) fn remove(name: &str) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let Some((root, _)) = memory_root(&mounts) else { return };
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|found| found.starts_with(name)) {
            // Not empty means not ours any more.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where the memory controller is: version 1 mounts it by name, version 2 lists it.
fn memory_root(mounts: &str) -> Option<(PathBuf, Version)> {
    let mut unified = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(place), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if kind == "cgroup" && options.split(',').any(|option| option == "memory") {
            return Some((place.into(), Version::One));
        }
        if kind == "cgroup2" {
            unified = Some(PathBuf::from(place));
        }
    }
    let unified = unified?;
    has_memory(&unified).then_some((unified, Version::Two))
}

fn has_memory(unified: &Path) -> bool {
    let controllers = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_found_by_its_options() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n";
        assert_eq!(memory_root(mounts), Some((PathBuf::from("/sys/fs/cgroup/memory"), Version::One)));
        assert_eq!(memory_root("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn version_2_is_found_by_its_controllers() {
        let directory = tempfile::tempdir().unwrap();
        let mounts = format!("cgroup2 {} cgroup2 rw,nsdelegate 0 0\n", directory.path().display());
        assert_eq!(memory_root(&mounts), None);
        fs::write(directory.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        assert_eq!(memory_root(&mounts), Some((directory.path().to_owned(), Version::Two)));
    }
}
