//! Plain files over the files of tars, behind one read-only overlay.

use std::os::unix::fs::MetadataExt;

use stowage_sys::{ErofsBacking, ErofsOptions, MountError, Unmounted};
use stowage_testkit::namespace::attack_as_runtime;

use crate::stage::{CONTENT, FILE};
use crate::view::{CONFIG, View, WEIGHTS, each_backing, put, weights};

/// A view whose tree has a plain file beside those of the tars, in a directory of both.
fn view_with_tree(view: &View) {
    // The stage's own tree hides a file of the first tar: that has a test of its own.
    std::fs::remove_file(view.stage.tree().join(FILE)).unwrap();
    put(&view.stage.tree().join("models/plain"), b"plain");
}

fn joined(view: &View, backing: ErofsBacking) -> Result<stowage_sys::Detached, MountError> {
    let below = view.mount(&ErofsOptions::new(backing))?;
    view.stage.mounter.joined_readonly(&view.stage.tree(), below, None)
}

#[test]
fn a_joined_view_shows_the_files_of_both() {
    each_backing(|view, backing| {
        view_with_tree(view);
        let target = view.stage.target("volume");
        let attached = joined(view, backing).unwrap().attach(&target).unwrap();
        assert!(attached.superblock_readonly);
        let read = |name: &str| std::fs::read(target.path().join(name)).unwrap();
        assert!(read(WEIGHTS) == weights());
        assert_eq!((read(CONFIG), read("models/plain")), (b"{}".to_vec(), b"plain".to_vec()));
        let mut names: Vec<_> = std::fs::read_dir(target.path().join("models"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["config.json", "plain", "weights.bin"]);
        assert_eq!(view.stage.mounts().len(), 1, "the mount beneath has no place of its own");
        assert_eq!(target.unmount().unwrap(), Unmounted::Gone);
        view.assert_no_loop_device_stays();
    });
}

#[test]
fn the_tree_lies_over_the_image() {
    each_backing(|view, backing| {
        assert_eq!(FILE, WEIGHTS);
        let target = view.stage.target("volume");
        joined(view, backing).unwrap().attach(&target).unwrap();
        // Not assert_eq: the other answer has 5 MiB.
        assert!(std::fs::read(target.path().join(WEIGHTS)).unwrap() == CONTENT);
        let file = std::fs::metadata(target.path().join(WEIGHTS)).unwrap();
        assert_eq!(file.ino(), std::fs::metadata(view.stage.blob()).unwrap().ino());
    });
}

#[test]
fn a_joined_view_refuses_root_after_the_runtime_has_cleared_the_mounts_flag() {
    each_backing(|view, backing| {
        view_with_tree(view);
        let target = view.stage.target("volume");
        joined(view, backing).unwrap().attach(&target).unwrap();
        for file in [WEIGHTS, "models/plain"] {
            let attempts = attack_as_runtime(target.path(), file.as_ref());
            assert!(attempts.len() >= 10);
            for attempt in &attempts {
                assert!(attempt.refused_as_read_only(), "{file}: {attempt:?}");
            }
        }
        assert_eq!(std::fs::read(view.stage.tree().join("models/plain")).unwrap(), b"plain");
    });
}

#[test]
fn clones_of_a_joined_view_share_it_and_keep_what_lies_beneath() {
    each_backing(|view, backing| {
        view_with_tree(view);
        let (first, second) = (view.stage.target("first"), view.stage.target("second"));
        let attached = joined(view, backing).unwrap().attach(&first).unwrap();
        let cloned = view.stage.mounter.clone_of(first.path()).unwrap().attach(&second).unwrap();
        assert_eq!((cloned.dev, cloned.ino), (attached.dev, attached.ino));
        assert!(cloned.superblock_readonly);
        assert_eq!(first.unmount().unwrap(), Unmounted::Gone);
        assert!(std::fs::read(second.path().join(WEIGHTS)).unwrap() == weights());
        assert_eq!(second.unmount().unwrap(), Unmounted::Gone);
        view.assert_no_loop_device_stays();
    });
}

#[test]
fn a_tree_that_is_absent_is_named_and_the_mount_beneath_goes_too() {
    each_backing(|view, backing| {
        let below = view.mount(&ErofsOptions::new(backing)).unwrap();
        let absent = view.stage.path("store/absent");
        let error = view.stage.mounter.joined_readonly(&absent, below, None).unwrap_err();
        assert!(error.to_string().contains("store/absent"), "{error}");
        view.assert_no_loop_device_stays();
    });
}
