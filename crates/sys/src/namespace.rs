//! Mount namespaces for tests, and user namespaces for the demo of a plain user.

use std::fmt::Write;
use std::io;
use std::process::Command;

use crate::raw;

/// A namespace cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// `unshare(CLONE_NEWUSER)` works only while the process has one thread.
    #[error("user namespaces can only be entered before the program starts its threads")]
    Threads,
    /// The system forbids it to plain users.
    #[error("this system forbids user namespaces to plain users ({reason}); {remedy}, or run as root")]
    Forbidden {
        /// What stands in the way, as far as it can be seen.
        reason: String,
        /// What an administrator can do.
        remedy: String,
    },
    /// Something else.
    #[error("cannot {step}: {source}")]
    Kernel {
        /// The step that failed.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Puts the calling thread, and the threads it starts from now on, into a mount namespace of their own, all private.
///
/// Needs root. Its working directory and umask are its own from then on. `/proc/self/mountinfo` goes on showing the table of
/// the first thread: `/proc/thread-self/mountinfo` is this one's.
pub fn enter_private_mount_namespace() -> Result<(), NamespaceError> {
    raw::unshare(libc::CLONE_NEWNS | libc::CLONE_FS)
        .map_err(|source| NamespaceError::Kernel { step: "enter a new mount namespace", source })?;
    raw::make_all_private()
        .map_err(|source| NamespaceError::Kernel { step: "make the mounts of a namespace private", source })
}

/// Makes the command start in a mount namespace of its own, all private. Needs root.
#[expect(unsafe_code, reason = "pre_exec")]
pub fn private_mounts(command: &mut Command) -> &mut Command {
    let hook = || {
        raw::unshare(libc::CLONE_NEWNS)?;
        raw::make_all_private()
    };
    // SAFETY: two system calls, no allocation, no lock.
    unsafe { raw::before_exec(command, hook) };
    command
}

/// Puts the calling process into user and mount namespaces of its own, in which it may mount overlays and binds.
///
/// `uid` and `gid` are the caller's own (`getuid`, `getgid`); inside they are root. Call it before any thread is started, and
/// `exec` afterwards or go on. Overlays need Linux 5.11 there, EROFS cannot be mounted.
pub fn enter_user_and_mount_namespaces(uid: u32, gid: u32) -> Result<(), NamespaceError> {
    Maps::new(uid, gid).enter().map_err(|(step, source)| explain(step, source, &Sysctls::read()))
}

/// Makes the command start in user and mount namespaces of its own, as [`enter_user_and_mount_namespaces`] does.
///
/// A failure is the error of `spawn`; [`explain_spawn`] turns it into a sentence.
#[expect(unsafe_code, reason = "pre_exec")]
pub fn user_and_private_mounts(command: &mut Command, uid: u32, gid: u32) -> &mut Command {
    let maps = Maps::new(uid, gid);
    let hook = move || maps.enter().map_err(|(_, error)| error);
    // SAFETY: system calls only; the texts they write were made above, before the fork.
    unsafe { raw::before_exec(command, hook) };
    command
}

/// Whether this process lives in a user namespace that is not the machine's first.
pub fn inside_user_namespace() -> bool {
    // The first one maps every id to itself.
    std::fs::read_to_string("/proc/thread-self/uid_map")
        .is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Why a command that was to start in a user namespace did not.
pub fn explain_spawn(error: io::Error) -> NamespaceError {
    explain("start a program in user and mount namespaces", error, &Sysctls::read())
}

/// The texts for `/proc/self/{uid,gid}_map`, made before a fork.
struct Maps {
    uid: Vec<u8>,
    gid: Vec<u8>,
}

impl Maps {
    fn new(uid: u32, gid: u32) -> Self {
        Self { uid: format!("0 {uid} 1\n").into_bytes(), gid: format!("0 {gid} 1\n").into_bytes() }
    }

    /// Async-signal-safe: system calls only.
    fn enter(&self) -> Result<(), (&'static str, io::Error)> {
        let step = |name| move |error| (name, error);
        raw::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
            .map_err(step("enter user and mount namespaces"))?;
        // A plain user may map a group only after giving up setgroups(2).
        raw::write_proc(c"/proc/self/setgroups", b"deny")
            .map_err(step("give up setgroups in a user namespace"))?;
        raw::write_proc(c"/proc/self/uid_map", &self.uid)
            .map_err(step("map the user in a user namespace"))?;
        raw::write_proc(c"/proc/self/gid_map", &self.gid)
            .map_err(step("map the group in a user namespace"))?;
        raw::make_all_private().map_err(step("make the mounts of a user namespace private"))
    }
}

/// The switches with which distributions forbid user namespaces; `None` where the kernel has no such switch.
#[derive(Debug, Default)]
struct Sysctls {
    userns_clone: Option<u64>,
    apparmor_restricts: Option<u64>,
    most_namespaces: Option<u64>,
}

impl Sysctls {
    fn read() -> Self {
        let number = |name: &str| {
            std::fs::read_to_string(format!("/proc/sys/{name}"))
                .ok()
                .and_then(|text| text.trim().parse().ok())
        };
        Self {
            userns_clone: number("kernel/unprivileged_userns_clone"),
            apparmor_restricts: number("kernel/apparmor_restrict_unprivileged_userns"),
            most_namespaces: number("user/max_user_namespaces"),
        }
    }
}

fn explain(step: &'static str, source: io::Error, sysctls: &Sysctls) -> NamespaceError {
    let refused =
        matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS));
    if source.raw_os_error() == Some(libc::EINVAL) && step.starts_with("enter") {
        return NamespaceError::Threads;
    }
    if !refused {
        return NamespaceError::Kernel { step, source };
    }
    let mut found = Vec::new();
    if sysctls.userns_clone == Some(0) {
        found.push(("kernel.unprivileged_userns_clone", 0, "1"));
    }
    if sysctls.apparmor_restricts.is_some_and(|value| value != 0) {
        found.push(("kernel.apparmor_restrict_unprivileged_userns", 1, "0"));
    }
    if sysctls.most_namespaces == Some(0) {
        found.push(("user.max_user_namespaces", 0, "15000"));
    }
    if found.is_empty() {
        return NamespaceError::Forbidden {
            reason: format!(
                "{source}, though neither kernel.unprivileged_userns_clone nor \
                 kernel.apparmor_restrict_unprivileged_userns forbids it; a container's seccomp profile may"
            ),
            remedy: "allow unshare and mount in that profile".to_owned(),
        };
    }
    let mut reason = String::new();
    let mut remedy = "set ".to_owned();
    for (index, (name, value, better)) in found.iter().enumerate() {
        let joint = if index == 0 { "" } else { " and " };
        // Writing to a String cannot fail.
        let _ = write!(reason, "{joint}the sysctl {name} is {value}");
        let _ = write!(remedy, "{joint}`sysctl -w {name}={better}`");
    }
    NamespaceError::Forbidden { reason, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(code: i32, sysctls: &Sysctls) -> String {
        explain("enter user and mount namespaces", io::Error::from_raw_os_error(code), sysctls).to_string()
    }

    #[test]
    fn the_sysctl_that_forbids_user_namespaces_is_named_with_its_remedy() {
        let debian = Sysctls { userns_clone: Some(0), ..Sysctls::default() };
        assert_eq!(
            sentence(libc::EPERM, &debian),
            "this system forbids user namespaces to plain users (the sysctl kernel.unprivileged_userns_clone is 0); \
             set `sysctl -w kernel.unprivileged_userns_clone=1`, or run as root"
        );
        let ubuntu =
            Sysctls { userns_clone: Some(1), apparmor_restricts: Some(1), most_namespaces: Some(9000) };
        let text = sentence(libc::EACCES, &ubuntu);
        assert!(text.contains("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"), "{text}");
        assert!(!text.contains("unprivileged_userns_clone is"), "{text}");
        let none = Sysctls { most_namespaces: Some(0), ..Sysctls::default() };
        assert!(sentence(libc::ENOSPC, &none).contains("user.max_user_namespaces is 0"));
    }

    #[test]
    fn without_a_sysctl_to_blame_both_are_ruled_out_by_name() {
        let text = sentence(libc::EPERM, &Sysctls::default());
        assert!(text.contains("neither kernel.unprivileged_userns_clone"), "{text}");
        assert!(text.contains("seccomp"), "{text}");
    }

    #[test]
    fn other_errors_are_not_blamed_on_the_system() {
        assert!(
            sentence(libc::EINVAL, &Sysctls::default()).contains("before the program starts its threads")
        );
        assert!(sentence(libc::ENOMEM, &Sysctls::default()).starts_with("cannot enter"));
    }
}
