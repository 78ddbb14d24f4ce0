//! The demo of a plain user: everything in user and mount namespaces of its own.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use stowage_sys::namespace::{
    enter_user_and_mount_namespaces, explain_spawn, inside_user_namespace, user_and_private_mounts,
};
use stowage_sys::{ErofsBackingChoice, ErofsProbe, Features, Unmounted};

use crate::stage::{APIS, CONTENT, FILE, KINDS, Kind, Stage};
use crate::view::small;

/// Which part of the test below a process is.
const PART: &str = "STOWAGE_TEST_PART";
const PLAIN_USER: u32 = 65534;
const NAME: &str = "namespaces::a_plain_user_publishes_volumes_in_namespaces_of_their_own";

/// This test calls itself twice: as a plain user, who has no privilege at all, and from there inside the namespaces.
#[test]
fn a_plain_user_publishes_volumes_in_namespaces_of_their_own() {
    match std::env::var(PART).as_deref() {
        Ok("plain user") => as_plain_user(),
        Ok("inside") => inside(),
        _ => as_root(),
    }
}

fn part(executable: &std::path::Path, name: &str) -> Command {
    let mut command = Command::new(executable);
    command.args([NAME, "--exact", "--nocapture"]).env(PART, name);
    command
}

fn run(mut command: Command) {
    let output = command.output().map_err(explain_spawn).unwrap_or_else(|error| panic!("{error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    // A name that matches no test would pass without having run.
    assert!(out.contains("1 passed"), "{out}\n{err}");
}

fn as_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test must run as root, to become a plain user");
    // The build directory may be closed to others.
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let executable = open.path().join("tests");
    // Copied by another process: a child that a parallel test starts would inherit our descriptor and make the file busy.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&executable).status().unwrap();
    assert!(copied.success());
    std::fs::set_permissions(&executable, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = part(&executable, "plain user");
    command.uid(PLAIN_USER).gid(PLAIN_USER).env("TMPDIR", open.path()).current_dir(open.path());
    run(command);
}

fn as_plain_user() {
    assert_eq!(nix::unistd::geteuid().as_raw(), PLAIN_USER);
    assert!(!inside_user_namespace());
    let stage = Stage::new(APIS[0]);
    stage.mounter.bind_readonly(&stage.tree()).expect_err("a plain user must not be able to mount");
    // The harness has threads already.
    let error = enter_user_and_mount_namespaces(PLAIN_USER, PLAIN_USER).unwrap_err();
    assert!(error.to_string().contains("before the program starts its threads"), "{error}");
    let mut command = part(&std::env::current_exe().unwrap(), "inside");
    user_and_private_mounts(&mut command, PLAIN_USER, PLAIN_USER);
    run(command);
}

fn inside() {
    assert!(nix::unistd::geteuid().is_root());
    assert!(inside_user_namespace());
    assert!(Features::detect().unwrap().can_build_detached());
    for api in APIS {
        for kind in KINDS {
            let stage = Stage::new(api);
            let (target, attached) = stage.publish(kind, "volume");
            assert_eq!(std::fs::read(target.path().join(FILE)).unwrap(), CONTENT);
            assert_eq!(attached.superblock_readonly, kind == Kind::Overlay);
            let error = std::fs::remove_file(target.path().join(FILE)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            let second = stage.target("second");
            stage.mounter.clone_of(target.path()).unwrap().attach(&second).unwrap();
            assert_eq!(target.unmount().unwrap(), Unmounted::Gone);
            assert_eq!(second.unmount().unwrap(), Unmounted::Gone);
            assert_eq!(stage.mounts(), []);
        }
    }
    erofs_is_found_to_be_forbidden();
}

fn erofs_is_found_to_be_forbidden() {
    let stage = Stage::new(APIS[0]);
    let (image, tar) = small();
    let probe = ErofsProbe { image: &image, devices: &[&tar], directory: &stage.path("store/empty") };
    let support = stage.mounter.probe_erofs(&probe, ErofsBackingChoice::Auto);
    assert_eq!(support.backing, None);
    let why = support.why.unwrap();
    assert!(why.contains("not permitted") && why.contains("loop"), "{why}");
}

#[test]
fn maps_that_the_kernel_refuses_are_an_error_of_the_spawn() {
    assert!(nix::unistd::geteuid().is_root(), "this test must run as root, to become a plain user");
    let mut command = Command::new("true");
    // The hook runs after the change of user; a stranger's id may not be mapped.
    command.uid(PLAIN_USER).gid(PLAIN_USER);
    let error = user_and_private_mounts(&mut command, 0, 0).status().map_err(explain_spawn).unwrap_err();
    assert!(error.to_string().contains("user namespaces"), "{error}");
}
