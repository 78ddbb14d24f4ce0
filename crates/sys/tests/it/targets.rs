//! Targets lie below the kubelet directory, and no symlink leads there.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use stowage_sys::{MountError, TargetError, TargetRoot};
use stowage_testkit::namespace::private_mounts;

use crate::stage::{APIS, Kind, Stage};

struct Directories {
    _base: tempfile::TempDir,
    kubelet: PathBuf,
    elsewhere: PathBuf,
}

fn directories() -> Directories {
    let base = tempfile::tempdir().unwrap();
    let (kubelet, elsewhere) = (base.path().join("kubelet"), base.path().join("elsewhere"));
    std::fs::create_dir_all(kubelet.join("pods/1")).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    Directories { _base: base, kubelet, elsewhere }
}

#[test]
fn only_the_last_component_is_made_and_only_when_it_is_missing() {
    let at = directories();
    let root = TargetRoot::open(&at.kubelet).unwrap();
    let path = at.kubelet.join("pods/1/mount");
    assert!(root.find(&path).unwrap().is_none());
    let target = root.prepare(&path).unwrap();
    assert!(target.created());
    assert_eq!(target.path(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o027, 0, "nobody but root and its group");
    assert!(!root.prepare(&path).unwrap().created());
    assert!(root.find(&path).unwrap().is_some());

    let deep = at.kubelet.join("pods/2/mount");
    assert!(matches!(root.prepare(&deep), Err(TargetError::NoParent { .. })));
    assert!(root.find(&deep).unwrap().is_none());
    assert!(!at.kubelet.join("pods/2").exists());
}

#[test]
fn paths_that_lie_elsewhere_are_refused_before_anything_is_made() {
    let at = directories();
    let root = TargetRoot::open(&at.kubelet).unwrap();
    for path in [
        at.elsewhere.join("mount"),
        at.kubelet.join("pods/../../elsewhere/mount"),
        at.kubelet.join("pods/1/.."),
        at.kubelet.clone(),
        at.kubelet.with_file_name("kubelet-other").join("mount"),
        PathBuf::from("pods/1/mount"),
        PathBuf::from(""),
        PathBuf::from("/"),
    ] {
        let error = root.prepare(&path).unwrap_err();
        assert!(matches!(error, TargetError::Outside { .. }), "{path:?}: {error:?}");
    }
    assert_eq!(std::fs::read_dir(&at.elsewhere).unwrap().count(), 0);
}

#[test]
fn a_symlink_anywhere_below_the_kubelet_directory_is_refused() {
    let at = directories();
    let root = TargetRoot::open(&at.kubelet).unwrap();
    symlink(&at.elsewhere, at.kubelet.join("pods/out")).unwrap();
    symlink("1", at.kubelet.join("pods/inside")).unwrap();
    symlink(&at.elsewhere, at.kubelet.join("pods/1/mount")).unwrap();
    symlink("/proc/self/root", at.kubelet.join("pods/magic")).unwrap();
    for path in ["pods/out/mount", "pods/inside/other", "pods/1/mount", "pods/magic/tmp"] {
        for outcome in [root.prepare(&at.kubelet.join(path)).map(Some), root.find(&at.kubelet.join(path))] {
            assert!(matches!(outcome, Err(TargetError::Symlink { .. })), "{path}: {outcome:?}");
        }
    }
    assert_eq!(std::fs::read_dir(&at.elsewhere).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(at.kubelet.join("pods/1")).unwrap().count(), 1);
}

#[test]
fn a_file_in_the_way_is_refused() {
    let at = directories();
    let root = TargetRoot::open(&at.kubelet).unwrap();
    std::fs::write(at.kubelet.join("pods/file"), "").unwrap();
    for path in ["pods/file", "pods/file/mount"] {
        let error = root.prepare(&at.kubelet.join(path)).unwrap_err();
        assert!(matches!(error, TargetError::NotADirectory { .. }), "{path}: {error:?}");
    }
}

#[test]
fn the_kubelet_directory_itself_may_be_a_symlink_and_targets_may_use_either_name() {
    let at = directories();
    let link = at.elsewhere.join("kubelet-link");
    symlink(&at.kubelet, &link).unwrap();
    let root = TargetRoot::open(&link).unwrap();
    assert_eq!(root.path(), link);
    assert!(root.prepare(&link.join("pods/1/mount")).unwrap().created());
    assert!(!root.prepare(&at.kubelet.join("pods/1/mount")).unwrap().created());
    assert!(at.kubelet.join("pods/1/mount").is_dir());
    // Doubled and trailing slashes name the same directory.
    assert!(!root.prepare(&PathBuf::from(format!("{}//pods/./1/mount/", link.display()))).unwrap().created());
}

#[test]
fn a_kubelet_directory_that_is_absent_is_named_in_the_error() {
    let error = TargetRoot::open("/absent/kubelet".as_ref()).unwrap_err();
    assert!(error.to_string().contains("/absent/kubelet"), "{error}");
}

/// Between the check of the path and the mount, a directory becomes a symlink.
#[test]
fn a_target_that_turns_into_a_symlink_later_is_refused_by_the_mount() {
    private_mounts(|| {
        let stage = Stage::new(APIS[0]);
        let target = stage.target("volume");
        std::fs::remove_dir(target.path()).unwrap();
        let outside = stage.path("outside");
        std::fs::create_dir(&outside).unwrap();
        symlink(&outside, target.path()).unwrap();
        let error = stage.build(Kind::Bind).attach(&target).unwrap_err();
        assert!(matches!(error, MountError::Target(TargetError::Symlink { .. })), "{error:?}");
        assert_eq!(stage.mounts(), []);
    });
}

#[test]
fn a_directory_with_something_in_it_is_never_removed() {
    let at = directories();
    let root = TargetRoot::open(&at.kubelet).unwrap();
    let target = root.prepare(&at.kubelet.join("pods/1/mount")).unwrap();
    std::fs::write(target.path().join("precious"), "").unwrap();
    target.remove().unwrap_err();
    assert!(target.path().join("precious").exists());
}
