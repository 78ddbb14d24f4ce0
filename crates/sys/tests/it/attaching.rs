//! Exactly one mount per target, in one step.

use std::sync::Barrier;

use stowage_sys::{MountError, Mounter};
use stowage_testkit::namespace::private_mounts;

use crate::stage::{APIS, CONTENT, FILE, Kind, Stage, each};

#[test]
fn a_second_mount_onto_a_target_is_refused_and_the_first_stays() {
    each(|stage, kind| {
        let (target, first) = stage.publish(kind, "volume");
        let error = stage.build(kind).attach(&target).unwrap_err();
        assert!(matches!(error, MountError::AlreadyMounted { .. }), "{error:?}");
        assert_eq!(target.inspect().unwrap().unwrap().mount_id, first.mount_id);
        assert_eq!(stage.mounts().len(), 1);
    });
}

/// Without the target's lock, which callers hold: even so no two mounts may stack.
#[test]
fn of_many_threads_that_race_for_one_target_exactly_one_wins() {
    private_mounts(|| {
        let stage = Stage::new(APIS[0]);
        for round in 0..20 {
            let name = format!("volume-{round}");
            let barrier = Barrier::new(8);
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            let (mount, target) = (stage.build(Kind::Bind), stage.target(&name));
                            barrier.wait();
                            mount.attach(&target)
                        })
                    })
                    .collect();
                racers.into_iter().map(|racer| racer.join().unwrap()).collect()
            });
            let winners: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
            assert_eq!(winners.len(), 1, "{outcomes:?}");
            for outcome in &outcomes {
                assert!(matches!(outcome, Ok(_) | Err(MountError::AlreadyMounted { .. })), "{outcome:?}");
            }
            let target = stage.target(&name);
            assert_eq!(target.inspect().unwrap().unwrap().mount_id, winners[0].mount_id);
            assert_eq!(stage.mounts_at(target.path()), 1);
        }
    });
}

#[test]
fn a_mount_that_is_never_attached_leaves_nothing() {
    each(|stage, kind| {
        drop(stage.build(kind));
        assert_eq!(stage.mounts(), []);
        let left = std::fs::read_dir(stage.path("staging")).map_or(0, Iterator::count);
        assert_eq!(left, 0);
    });
}

#[test]
fn a_failed_build_leaves_nothing_and_names_what_it_was_about() {
    for api in APIS {
        private_mounts(|| {
            let stage = Stage::new(api);
            let absent = stage.path("store/absent");
            for error in [
                stage.mounter.bind_readonly(&absent).unwrap_err(),
                stage.mounter.overlay_readonly(&absent, &stage.path("store/empty")).unwrap_err(),
                // A layer inside the other is refused late, by the mount itself.
                stage.mounter.overlay_readonly(&stage.path("store"), &stage.path("store/view")).unwrap_err(),
            ] {
                assert!(error.to_string().contains("store"), "{error}");
            }
            assert_eq!(stage.mounts(), []);
            assert_eq!(std::fs::read_dir(stage.path("staging")).map_or(0, Iterator::count), 0);
        });
    }
}

#[test]
fn a_target_that_vanished_is_an_error_and_leaves_nothing() {
    each(|stage, kind| {
        let target = stage.target("volume");
        std::fs::remove_dir(target.path()).unwrap();
        stage.build(kind).attach(&target).unwrap_err();
        assert_eq!(stage.mounts(), []);
    });
}

/// Bidirectional propagation: kubelet's namespace must see the volume as it was made, and see it go.
#[test]
fn a_volume_below_a_shared_mount_appears_read_only_in_its_peers_and_goes_from_them() {
    each(|stage, kind| {
        use nix::mount::{MsFlags, mount};
        let none = None::<&str>;
        let (kubelet, peer) = (stage.path("kubelet"), stage.path("peer"));
        std::fs::create_dir(&peer).unwrap();
        mount(Some(&kubelet), &kubelet, none, MsFlags::MS_BIND, none).unwrap();
        mount(none, &kubelet, none, MsFlags::MS_SHARED, none).unwrap();
        mount(Some(&kubelet), &peer, none, MsFlags::MS_BIND, none).unwrap();
        let root = stowage_sys::TargetRoot::open(&kubelet).unwrap();
        let target = root.prepare(&kubelet.join("pods/volume")).unwrap();
        stage.build(kind).attach(&target).unwrap();
        let seen = stowage_sys::inspect(&peer.join("pods/volume")).unwrap().unwrap();
        assert!(seen.readonly);
        assert_eq!(std::fs::read(peer.join("pods/volume").join(FILE)).unwrap(), CONTENT);
        target.unmount().unwrap();
        assert_eq!(stowage_sys::inspect(&peer.join("pods/volume")).unwrap(), None);
        assert_eq!(stage.mounts().len(), 2, "only the test's own two binds are left");
    });
}

#[test]
fn what_is_mounted_below_the_view_later_does_not_show_up_in_the_volume() {
    for api in APIS {
        private_mounts(|| {
            use nix::mount::{MsFlags, mount};
            let none = None::<&str>;
            let stage = Stage::new(api);
            let store = stage.path("store");
            mount(Some(&store), &store, none, MsFlags::MS_BIND, none).unwrap();
            mount(none, &store, none, MsFlags::MS_SHARED, none).unwrap();
            let (target, _) = stage.publish(Kind::Bind, "volume");
            mount(Some("none"), &stage.tree().join("models"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
            assert_eq!(stowage_sys::inspect(&target.path().join("models")).unwrap(), None);
            assert_eq!(std::fs::read(target.path().join(FILE)).unwrap(), CONTENT);
        });
    }
}

#[test]
fn a_staging_directory_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    private_mounts(|| {
        let stage = Stage::new(APIS[1]);
        let shared = stage.path("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
        let error = Mounter::new(APIS[1], &shared).bind_readonly(&stage.tree()).unwrap_err();
        assert!(matches!(error, MountError::Staging { .. }), "{error:?}");
    });
}
