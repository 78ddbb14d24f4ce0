//! `stowage demo`, as a new user runs it: as root, and as a plain user in namespaces.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

/// `nobody` of every distribution.
const PLAIN_USER: u32 = 65534;

fn demo(plain_user: bool) -> (Output, Vec<String>) {
    let directory = tempfile::Builder::new().prefix("stw-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    // The build directory may be out of a plain user's reach.
    let binary = directory.path().join("stowage");
    std::fs::copy(env!("CARGO_BIN_EXE_stowage"), &binary).unwrap();
    let scratch = directory.path().join("t");
    std::fs::create_dir(&scratch).unwrap();
    std::fs::set_permissions(&scratch, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new(binary);
    command.args(["demo", "--size-mib", "8"]).env("TMPDIR", &scratch).current_dir("/");
    if plain_user {
        command.uid(PLAIN_USER).gid(PLAIN_USER);
    }
    let output = command.output().unwrap();
    let left = std::fs::read_dir(&scratch)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    let mounts = stowage_sys::mounts_beneath(directory.path()).unwrap();
    assert!(mounts.is_empty(), "{mounts:?}");
    (output, left)
}

fn check(plain_user: bool) {
    let (output, left) = demo(plain_user);
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert_eq!(left, [] as [String; 0], "files stay behind");
    // An ORAS artifact, a ModelPack one, an index with two variants; and an image, which no plain user may mount.
    let volumes = if plain_user { 4 } else { 5 };
    assert_eq!(said.matches("all equal to the manifest's digests").count(), 4, "{said}");
    assert_eq!(said.matches("all equal to those of the tars' members").count(), volumes - 4, "{said}");
    assert_eq!(said.matches("whose files need EROFS").count(), 5 - volumes, "{said}");
    assert_eq!(said.matches("a write fails: Read-only file system").count(), volumes, "{said}");
    assert_eq!(said.matches("published  cold").count(), volumes, "{said}");
    for part in ["family     oras", "family     modelpack", "quantization=q8", "serve.sh", "store: "] {
        assert!(said.contains(part), "{part} not in\n{said}");
    }
    assert_eq!(said.contains("a user and a mount namespace"), plain_user, "{said}");
}

#[test]
fn root_sees_every_volume_and_nothing_stays_behind() {
    check(false);
}

#[test]
fn a_plain_user_sees_the_same_in_namespaces() {
    check(true);
}
