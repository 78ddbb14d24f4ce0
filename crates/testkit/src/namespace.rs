//! Private mount namespaces for tests, and what a container runtime does to a volume.
//!
//! All of it needs root; a test without that privilege fails and says so.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use stowage_sys::{Detached, Target, TargetRoot};

/// Runs a test's body on a thread in a mount namespace of its own: whatever it mounts goes with it, and nobody else sees it.
///
/// Threads that the body starts are in the same namespace: build a tokio runtime inside, never outside. A panic of the body is
/// the caller's. Make temporary directories outside the body: one that is removed inside empties what is mounted in it. In the body, `/proc/thread-self/mountinfo` is the right table, `/proc/self/mountinfo` is not.
///
/// # Panics
/// Without the privilege to make a mount namespace.
pub fn private_mounts<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            stowage_sys::namespace::enter_private_mount_namespace().unwrap_or_else(|error| {
                panic!("this test mounts filesystems and must run as root with CAP_SYS_ADMIN: {error}")
            });
            body()
        });
        thread.join()
    });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes a child process start in a mount namespace of its own.
pub fn in_private_mounts(command: &mut Command) -> &mut Command {
    stowage_sys::namespace::private_mounts(command)
}

/// One thing that a container tried on a volume, and what came of it.
#[derive(Debug)]
pub struct Attempt {
    /// What was tried, such as `unlink`.
    pub what: &'static str,
    /// What came of it.
    pub outcome: io::Result<()>,
}

impl Attempt {
    /// Whether a read-only superblock refused it.
    pub fn refused_as_read_only(&self) -> bool {
        matches!(&self.outcome, Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem)
    }
}

/// Does what a container runtime does (`csi.md`): clones the volume, clears the clone's read-only flag, and then acts as root.
///
/// `file` is the path of a file in the volume. Where an attempt succeeds, it really changes the volume.
///
/// # Panics
/// When the volume cannot be cloned, or the flag stays.
pub fn attack_as_runtime(volume: &Path, file: &Path) -> Vec<Attempt> {
    let scratch = tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary directory: {error}"));
    let inside = scratch.path().join("inside");
    let target = TargetRoot::open(scratch.path())
        .and_then(|root| root.prepare(&inside))
        .unwrap_or_else(|error| panic!("{error}"));
    Detached::clone_of(volume)
        .and_then(|clone| clone.attach(&target))
        .unwrap_or_else(|error| panic!("{error}"));
    let _mounted = Mounted(&target);
    stowage_sys::set_readonly_flag(&inside, false)
        .unwrap_or_else(|error| panic!("cannot clear the read-only flag: {error}"));
    let cleared = target.inspect().unwrap_or_else(|error| panic!("{error}"));
    assert!(cleared.is_some_and(|mount| !mount.readonly), "the clone's flag is still set");
    try_everything(&inside, &inside.join(file))
}

/// Unmounts before the temporary directory is removed, and with it whatever could be written below it.
struct Mounted<'a>(&'a Target);

impl Drop for Mounted<'_> {
    #[expect(clippy::print_stderr, reason = "the last words before the abort")]
    fn drop(&mut self) {
        if let Err(error) = self.0.unmount() {
            // Removing the directory now would remove the volume's files.
            eprintln!("{error}");
            std::process::abort();
        }
    }
}

fn try_everything(volume: &Path, file: &Path) -> Vec<Attempt> {
    let new = volume.join("new");
    let write = || OpenOptions::new().append(true).open(file)?.write_all(b"overwritten");
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new).map(drop);
    let truncate = || OpenOptions::new().write(true).truncate(true).open(file).map(drop);
    let chmod = || std::fs::set_permissions(file, PermissionsExt::from_mode(0o666));
    let touch = || std::fs::File::open(file)?.set_modified(std::time::SystemTime::UNIX_EPOCH);
    // The last two take the file away, so that the others have something to act on.
    vec![
        Attempt { what: "write", outcome: write() },
        Attempt { what: "truncate", outcome: truncate() },
        Attempt { what: "chmod", outcome: chmod() },
        Attempt { what: "chown", outcome: std::os::unix::fs::chown(file, Some(12345), None) },
        Attempt { what: "set times", outcome: touch() },
        Attempt { what: "create", outcome: create() },
        Attempt { what: "make directory", outcome: std::fs::create_dir(volume.join("directory")) },
        Attempt { what: "link", outcome: std::fs::hard_link(file, volume.join("link")) },
        Attempt { what: "rename", outcome: std::fs::rename(file, volume.join("moved")) },
        Attempt { what: "unlink", outcome: remove(&[file, &volume.join("moved")]) },
    ]
}

/// Removes the first that is there.
fn remove(files: &[&Path]) -> io::Result<()> {
    let there = files.iter().find(|file| file.exists()).ok_or(io::ErrorKind::NotFound)?;
    std::fs::remove_file(there)
}

/// How many loop devices show files beneath a directory. They belong to the machine, not to a namespace.
pub fn loop_devices_beneath(directory: &Path) -> usize {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    // One that is free, or was freed this moment, has no such file.
    let files =
        devices.filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.filter(|file| Path::new(file.trim()).starts_with(directory)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_body_are_seen_by_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let inner = private_mounts(|| {
            nix::mount::mount(
                Some("none"),
                directory.path(),
                Some("tmpfs"),
                nix::mount::MsFlags::empty(),
                None::<&str>,
            )
            .unwrap();
            std::fs::write(directory.path().join("file"), "inside").unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| stowage_sys::inspect(directory.path()).unwrap().is_some()).join().unwrap()
            })
        });
        assert!(inner, "a thread of the body sees the mount");
        assert!(!directory.path().join("file").exists());
        assert_eq!(stowage_sys::inspect(directory.path()).unwrap(), None);
    }

    #[test]
    #[should_panic(expected = "the body's own words")]
    fn a_panic_of_the_body_is_the_callers() {
        private_mounts(|| panic!("the body's own words"));
    }

    #[test]
    fn a_child_process_starts_in_a_namespace_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "mount -t tmpfs none \"$0\" && echo inside > \"$0/file\" && cat \"$0/file\""])
            .arg(directory.path());
        let output = in_private_mounts(&mut command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"inside\n");
        assert!(!directory.path().join("file").exists());
    }
}
