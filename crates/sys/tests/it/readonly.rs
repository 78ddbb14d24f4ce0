//! What `csi.md` says under "Read-only is a property of the superblock, never of the bind".

use std::os::unix::fs::MetadataExt;

use stowage_testkit::namespace::{attack_as_runtime, private_mounts};

use crate::stage::{APIS, CONTENT, FILE, Kind, Stage, each};

#[test]
fn a_published_volume_is_read_only_and_shows_the_blob() {
    each(|stage, kind| {
        let (target, attached) = stage.publish(kind, "volume");
        assert_eq!(std::fs::read(target.path().join(FILE)).unwrap(), CONTENT);
        let mount = target.inspect().unwrap().unwrap();
        assert!(mount.readonly);
        assert_eq!(mount.superblock_readonly, kind == Kind::Overlay);
        assert_eq!(attached.superblock_readonly, mount.superblock_readonly);
        assert_eq!((mount.dev, mount.ino, mount.mount_id), (attached.dev, attached.ino, attached.mount_id));
        assert_eq!(mount.fs_type == "overlay", kind == Kind::Overlay);
        let entry = stage.mounts().into_iter().find(|entry| entry.mount_id == mount.mount_id).unwrap();
        for option in ["ro", "nosuid", "nodev"] {
            assert!(entry.mount_options.split(',').any(|is| is == option), "{option} in {entry:?}");
        }
        let error = std::fs::write(target.path().join("new"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn a_file_of_the_volume_is_the_very_inode_of_the_blob() {
    each(|stage, kind| {
        let (target, _) = stage.publish(kind, "volume");
        let blob = std::fs::metadata(stage.blob()).unwrap();
        let file = std::fs::metadata(target.path().join(FILE)).unwrap();
        assert_eq!(file.ino(), blob.ino());
        assert_eq!(file.dev() == blob.dev(), kind == Kind::Bind, "an overlay is a superblock of its own");
    });
}

/// The mount's flag is gone, as after runc, and root acts: only the superblock is left to refuse.
#[test]
fn an_overlay_refuses_root_after_the_runtime_has_cleared_the_mounts_flag() {
    for api in APIS {
        private_mounts(|| {
            let stage = Stage::new(api);
            let (target, _) = stage.publish(Kind::Overlay, "volume");
            let attempts = attack_as_runtime(target.path(), FILE.as_ref());
            assert!(attempts.len() >= 10);
            for attempt in &attempts {
                assert!(attempt.refused_as_read_only(), "{attempt:?}");
            }
            assert_eq!(std::fs::read(stage.blob()).unwrap(), CONTENT);
        });
    }
}

/// Why a request that is not read-only never gets a bind: its flag is all there is.
#[test]
fn a_bind_rests_on_the_mounts_flag_alone() {
    for api in APIS {
        private_mounts(|| {
            let stage = Stage::new(api);
            let (target, _) = stage.publish(Kind::Bind, "volume");
            // With the flag, root is refused.
            let error = std::fs::remove_file(target.path().join(FILE)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            // Without it, nothing refuses.
            let attempts = attack_as_runtime(target.path(), FILE.as_ref());
            assert!(attempts.iter().all(|attempt| attempt.outcome.is_ok()), "{attempts:?}");
            assert_ne!(std::fs::read(stage.blob()).unwrap(), CONTENT);
        });
    }
}

#[test]
fn an_overlay_cannot_be_remounted_writable() {
    private_mounts(|| {
        let stage = Stage::new(APIS[0]);
        let (target, _) = stage.publish(Kind::Overlay, "volume");
        let remount = nix::mount::MsFlags::MS_REMOUNT;
        let outcome = nix::mount::mount(None::<&str>, target.path(), None::<&str>, remount, None::<&str>);
        assert_eq!(outcome, Err(nix::errno::Errno::EROFS));
        assert!(target.inspect().unwrap().unwrap().superblock_readonly);
    });
}

#[test]
fn paths_that_are_long_or_full_of_the_kernels_own_separators_can_be_mounted() {
    each(|stage, kind| {
        let deep = stage.path("store").join("x".repeat(200)).join("y: ,\\040=\"'".repeat(12));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("file"), "deep").unwrap();
        let mount = match kind {
            Kind::Bind => stage.mounter.bind_readonly(&deep),
            Kind::Overlay => stage.mounter.overlay_readonly(&deep, &stage.path("store/empty")),
        };
        let target = stage.target("a target, with: separators\\");
        mount.unwrap().attach(&target).unwrap();
        assert_eq!(std::fs::read(target.path().join("file")).unwrap(), b"deep");
        assert_eq!(stage.mounts_at(target.path()), 1);
    });
}
