//! What is peculiar to the way by mount(2); that it behaves like the other is shown by every test that runs both.

use stowage_sys::MountApi;
use stowage_testkit::namespace::private_mounts;

use crate::stage::{KINDS, Stage};

#[test]
fn nothing_stays_staged_once_a_volume_is_attached() {
    for kind in KINDS {
        private_mounts(|| {
            let stage = Stage::new(MountApi::Legacy);
            let (target, _) = stage.publish(kind, "volume");
            assert_eq!(stage.mounts().len(), 1);
            assert_eq!(stage.mounts_at(target.path()), 1);
            assert_eq!(std::fs::read_dir(stage.path("staging")).unwrap().count(), 0);
        });
    }
}

#[test]
fn what_a_killed_process_left_staged_is_swept() {
    private_mounts(|| {
        let stage = Stage::new(MountApi::Legacy);
        stage.mounter.sweep_staging().unwrap();
        let (target, _) = stage.publish(KINDS[0], "volume");
        for kind in KINDS {
            // As after SIGKILL: no destructor runs.
            std::mem::forget(stage.build(kind));
        }
        std::fs::write(stage.path("staging/not-ours"), "").unwrap();
        assert_eq!(stage.mounts().len(), 3);
        stage.mounter.sweep_staging().unwrap();
        assert_eq!(stage.mounts().len(), 1);
        assert!(target.inspect().unwrap().is_some());
        assert_eq!(std::fs::read_dir(stage.path("staging")).unwrap().count(), 1);
    });
}

/// Other flags of the source's mount stay: a user namespace may not clear them.
#[test]
fn flags_that_the_source_has_already_are_kept() {
    private_mounts(|| {
        use nix::mount::{MsFlags, mount};
        let none = None::<&str>;
        let stage = Stage::new(MountApi::Legacy);
        let store = stage.path("store");
        mount(Some(&store), &store, none, MsFlags::MS_BIND, none).unwrap();
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        mount(none, &store, none, flags, none).unwrap();
        let (target, _) = stage.publish(KINDS[0], "volume");
        let entry = stage.mounts().into_iter().find(|entry| entry.mount_point == target.path()).unwrap();
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
            assert!(entry.mount_options.split(',').any(|is| is == option), "{option} in {entry:?}");
        }
    });
}
