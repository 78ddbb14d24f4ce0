//! Which kernel this is and what it can do.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::raw;

/// The first three numbers of `uname -r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.12.2.
    pub major: u32,
    /// 12 of 6.12.2.
    pub minor: u32,
    /// 2 of 6.12.2.
    pub patch: u32,
}

/// The text is not the release of a Linux kernel.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the release of a Linux kernel such as 6.12.2")]
pub struct KernelVersionError(String);

impl KernelVersion {
    /// A version by its numbers, for comparisons.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The first whose overlayfs takes `lowerdir+`.
    pub(crate) const OVERLAY_APPEND: Self = Self::new(6, 8, 0);
    /// The first whose overlayfs takes the root of a detached mount as a layer (`clone_private_mount`).
    pub(crate) const OVERLAY_DETACHED_LAYER: Self = Self::new(6, 15, 0);

    /// The running kernel's.
    pub fn running() -> Result<Self, KernelVersionError> {
        rustix::system::uname().release().to_string_lossy().parse()
    }
}

impl FromStr for KernelVersion {
    type Err = KernelVersionError;

    fn from_str(release: &str) -> Result<Self, Self::Err> {
        let error = || KernelVersionError(release.to_owned());
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
        let mut numbers = release[..end].trim_end_matches('.').split('.').map(str::parse::<u32>);
        let mut next = || numbers.next().map(|number| number.map_err(|_| error()));
        let major = next().ok_or_else(error)??;
        let minor = next().ok_or_else(error)??;
        // Release candidates of some vendors have two numbers only.
        let patch = next().transpose()?.unwrap_or(0);
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What the running kernel offers to this process; a call that a seccomp filter forbids counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent facts")]
pub struct Features {
    /// `uname -r`.
    pub kernel: KernelVersion,
    /// `open_tree`, `move_mount`, fsopen, fsmount (5.2).
    pub detached_mounts: bool,
    /// `mount_setattr` (5.12).
    pub mount_setattr: bool,
    /// openat2 (5.6).
    pub openat2: bool,
    /// overlayfs is there.
    pub overlay: bool,
    /// overlayfs takes one lower layer after the other, `lowerdir+` (6.8).
    pub overlay_append: bool,
    /// SELinux is on and has a policy.
    pub selinux: bool,
}

impl Features {
    /// Asks the kernel, without changing anything.
    pub fn detect() -> Result<Self, KernelVersionError> {
        let kernel = KernelVersion::running()?;
        Ok(Self {
            kernel,
            detached_mounts: has_open_tree() && has_move_mount(),
            mount_setattr: raw::has_mount_setattr(),
            openat2: has_openat2(),
            overlay: has_filesystem("overlay"),
            overlay_append: kernel >= KernelVersion::OVERLAY_APPEND,
            selinux: selinux_enabled(),
        })
    }

    /// Whether a mount can be built aside and moved onto its target in one step.
    pub fn can_build_detached(&self) -> bool {
        self.detached_mounts && self.mount_setattr
    }
}

fn has_open_tree() -> bool {
    // An empty path without AT_EMPTY_PATH is refused by every kernel that knows the call.
    let outcome =
        rustix::mount::open_tree(rustix::fs::CWD, "", rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC);
    raw::is_known(&outcome.map(drop).map_err(io::Error::from))
}

fn has_move_mount() -> bool {
    let here = rustix::fs::CWD;
    // All bits set are refused as unknown flags, but only after the privilege was checked; ENOSYS comes before both.
    let outcome =
        rustix::mount::move_mount(here, "", here, "", rustix::mount::MoveMountFlags::from_bits_retain(!0));
    outcome != Err(rustix::io::Errno::NOSYS)
}

fn has_openat2() -> bool {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS).is_ok()
}

/// Whether the kernel has the filesystem, built in or as a module that it can load.
pub(crate) fn has_filesystem(name: &str) -> bool {
    use rustix::mount::{FsOpenFlags, fsopen};
    // fsopen makes the kernel load the module, which the list below waits for.
    fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
        || std::fs::read_to_string("/proc/filesystems").is_ok_and(|list| lists_filesystem(&list, name))
}

fn lists_filesystem(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// Whether SELinux is on and has a policy, seen from inside a container too.
pub fn selinux_enabled() -> bool {
    let Ok(filesystems) = std::fs::read_to_string("/proc/filesystems") else { return false };
    let label = std::fs::read("/proc/thread-self/attr/current").unwrap_or_default();
    selinux_from(&filesystems, &String::from_utf8_lossy(&label))
}

/// `selinuxfs` is registered only while SELinux is on; before a policy is loaded every label is `kernel`.
fn selinux_from(filesystems: &str, label: &str) -> bool {
    let label = label.trim_end_matches(['\0', '\n']);
    lists_filesystem(filesystems, "selinuxfs")
        && label.split(':').filter(|part| !part.is_empty()).count() >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        for (release, expected) in [
            ("6.18.44-fc-v595", (6, 18, 44)),
            ("5.15.0-91-generic", (5, 15, 0)),
            ("6.12.0-1.el10.x86_64", (6, 12, 0)),
            ("6.1-rc3", (6, 1, 0)),
            ("4.18.0-553.5.1.el8_10.x86_64", (4, 18, 0)),
            ("6.6.87.2-microsoft-standard-WSL2", (6, 6, 87)),
            ("6.13.", (6, 13, 0)),
        ] {
            let version: KernelVersion = release.parse().unwrap();
            assert_eq!((version.major, version.minor, version.patch), expected, "{release}");
        }
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for release in ["", "linux", "6", "6.x", "99999999999.1.2", "-6.1"] {
            assert!(release.parse::<KernelVersion>().is_err(), "{release}");
        }
    }

    #[test]
    fn versions_compare_by_number_not_by_text() {
        assert!(KernelVersion::new(6, 12, 2) > KernelVersion::new(6, 4, 19));
        assert!(KernelVersion::new(5, 9, 0) < KernelVersion::new(5, 10, 0));
    }

    #[test]
    fn selinux_needs_both_its_filesystem_and_a_policy() {
        let with = "nodev\tsysfs\nnodev\tselinuxfs\n\text4\n";
        let without = "nodev\tsysfs\n\text4\n";
        assert!(selinux_from(with, "system_u:system_r:container_t:s0:c1,c2\0"));
        assert!(!selinux_from(with, "kernel\0"));
        assert!(!selinux_from(with, ""));
        assert!(!selinux_from(without, "docker-default (enforce)\n"));
        assert!(!selinux_from("nodev\tnotselinuxfs\n", "a:b:c"));
    }
}
