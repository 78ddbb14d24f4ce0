//! One superblock per view, one clone of it per volume.

use stowage_sys::{MountError, Unmounted};

use crate::stage::{CONTENT, FILE, Stage, each};

#[test]
fn a_clone_shares_the_superblock_and_outlives_the_first_volume() {
    each(|stage, kind| {
        let (first, attached) = stage.publish(kind, "first");
        let clone = stage.mounter.clone_of(first.path()).unwrap();
        assert_eq!((clone.dev(), clone.ino()), (attached.dev, attached.ino));
        let second = stage.target("second");
        let cloned = clone.attach(&second).unwrap();
        assert_eq!((cloned.dev, cloned.ino), (attached.dev, attached.ino));
        assert_ne!(cloned.mount_id, attached.mount_id);
        assert_eq!(cloned.superblock_readonly, attached.superblock_readonly);

        assert_eq!(first.unmount().unwrap(), Unmounted::Gone);
        assert_eq!(std::fs::read(second.path().join(FILE)).unwrap(), CONTENT);
        assert!(second.inspect().unwrap().unwrap().readonly);
    });
}

/// A runtime clears the flag of its own clone; but whoever clears that of the volume must not weaken the next one.
#[test]
fn a_clone_of_a_volume_whose_flag_was_cleared_is_read_only_again() {
    each(|stage, kind| {
        let (first, _) = stage.publish(kind, "first");
        stowage_sys::set_readonly_flag(first.path(), false).unwrap();
        assert!(!first.inspect().unwrap().unwrap().readonly);
        let second = stage.target("second");
        stage.mounter.clone_of(first.path()).unwrap().attach(&second).unwrap();
        assert!(second.inspect().unwrap().unwrap().readonly);
    });
}

#[test]
fn a_path_that_is_no_mount_cannot_be_cloned() {
    each(|stage, _| {
        let plain = stage.target("plain");
        let link = stage.path("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        for path in [plain.path(), &stage.path("absent"), &link] {
            let error = stage.mounter.clone_of(path).unwrap_err();
            assert!(matches!(error, MountError::NotAMount { .. }), "{path:?}: {error:?}");
        }
    });
}

#[test]
fn a_hundred_and_ten_volumes_of_one_view_come_and_go_without_a_trace() {
    each(|stage: &Stage, kind| {
        let (first, attached) = stage.publish(kind, "volume-0");
        let mut targets = vec![first];
        for number in 1..110 {
            let target = stage.target(&format!("volume-{number}"));
            let cloned = stage.mounter.clone_of(targets[0].path()).unwrap().attach(&target).unwrap();
            assert_eq!(cloned.dev, attached.dev);
            targets.push(target);
        }
        assert_eq!(stage.mounts().len(), 110);
        for target in &targets {
            assert_eq!(target.unmount().unwrap(), Unmounted::Gone);
            assert!(target.remove().unwrap());
        }
        assert_eq!(stage.mounts(), []);
        assert_eq!(std::fs::read_dir(stage.path("kubelet/pods")).unwrap().count(), 0);
    });
}
