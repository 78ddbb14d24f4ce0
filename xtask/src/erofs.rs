//! Mounting EROFS takes more than mounting: the system's own root, and a kernel that reads images from files.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::privilege::Privilege;

/// The first kernel that does so with small blocks: 6.12.0 and 6.12.1 panic.
const KERNEL: [u32; 3] = [6, 12, 2];

/// The reason why nothing of that kind can be mounted here, if there is one.
pub(crate) fn obstacle(privilege: &Privilege) -> Result<Option<String>> {
    match privilege {
        Privilege::None(reason) => return Ok(Some(reason.clone())),
        Privilege::Namespaces => return Ok(Some(USER_NAMESPACE.to_owned())),
        Privilege::Root => {}
    }
    let read = |file: &str| fs::read_to_string(file).with_context(|| format!("cannot read {file}"));
    let mut filesystems = read("/proc/filesystems")?;
    if !has_erofs(&filesystems) && command::succeeds(Command::new("modprobe").arg("erofs")) {
        filesystems = read("/proc/filesystems")?;
    }
    Ok(judge(&read("/proc/self/uid_map")?, &read("/proc/sys/kernel/osrelease")?, &filesystems))
}

const USER_NAMESPACE: &str = "the kernel mounts EROFS only for root outside user namespaces; run as root";

fn judge(uid_map: &str, release: &str, filesystems: &str) -> Option<String> {
    if !uid_map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return Some(USER_NAMESPACE.to_owned());
    }
    let release = release.trim();
    if numbers(release) < KERNEL {
        return Some(format!("the kernel is {release}, and these tests need 6.12.2 or newer"));
    }
    (!has_erofs(filesystems))
        .then(|| format!("the kernel {release} has no EROFS, and `modprobe erofs` brings none"))
}

fn has_erofs(filesystems: &str) -> bool {
    filesystems.split_whitespace().any(|word| word == "erofs")
}

/// The three numbers that a release begins with; what is no number counts as 0.
fn numbers(release: &str) -> [u32; 3] {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYBODY: &str = "         0          0 4294967295\n";
    const FILESYSTEMS: &str = "nodev\ttmpfs\n\text4\n\terofs\n";

    #[test]
    fn kernels_that_panic_or_cannot_are_left_alone() {
        let of = |release: &str| judge(EVERYBODY, release, FILESYSTEMS);
        for good in ["6.12.2\n", "6.12.57+deb13-amd64\n", "6.18.44-fc\n", "7.0.0-rc1\n", "10.0\n"] {
            assert_eq!(of(good), None, "{good}");
        }
        // A vendor's 6.12.0 with a long tail is an unknown mixture.
        for bad in ["6.1.0-49-amd64\n", "6.12.0-55.el10.x86_64\n", "6.12.1\n", "5.15\n"] {
            assert!(of(bad).is_some_and(|reason| reason.contains(bad.trim())), "{bad}");
        }
    }

    #[test]
    fn what_else_is_missing_is_said() {
        let no_erofs = judge(EVERYBODY, "6.18.1", "nodev\ttmpfs\n").unwrap();
        assert!(no_erofs.contains("modprobe erofs"), "{no_erofs}");
        assert_eq!(judge("0 1000 1", "6.18.1", FILESYSTEMS).unwrap(), USER_NAMESPACE);
        assert_eq!(obstacle(&Privilege::Namespaces).unwrap().unwrap(), USER_NAMESPACE);
        assert_eq!(obstacle(&Privilege::None("no".to_owned())).unwrap().unwrap(), "no");
    }
}
