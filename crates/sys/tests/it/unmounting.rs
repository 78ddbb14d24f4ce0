//! Unmounting can be repeated, and never waits for a reader.

use std::io::Read;

use stowage_sys::{UnmountError, Unmounted, unmount};

use crate::stage::{CONTENT, FILE, each};

#[test]
fn unmounting_twice_and_unmounting_what_never_was_are_no_errors() {
    each(|stage, kind| {
        let (target, _) = stage.publish(kind, "volume");
        assert_eq!(target.unmount().unwrap(), Unmounted::Gone);
        assert_eq!(target.unmount().unwrap(), Unmounted::NotMounted);
        assert_eq!(unmount(target.path()).unwrap(), Unmounted::NotMounted);
        assert_eq!(unmount(&stage.path("absent/below/absent")).unwrap(), Unmounted::NotMounted);
        assert_eq!(unmount(&stage.blob()).unwrap(), Unmounted::NotMounted);
        assert_eq!(unmount(&stage.blob().join("below-a-file")).unwrap(), Unmounted::NotMounted);
        assert!(target.remove().unwrap());
        assert!(!target.remove().unwrap());
        assert_eq!(target.unmount().unwrap(), Unmounted::NotMounted);
    });
}

#[test]
fn a_busy_volume_is_detached_and_its_reader_reads_on() {
    each(|stage, kind| {
        let (target, _) = stage.publish(kind, "volume");
        let mut reader = std::fs::File::open(target.path().join(FILE)).unwrap();
        assert_eq!(unmount(target.path()).unwrap(), Unmounted::Detached);
        assert_eq!(target.inspect().unwrap(), None);
        assert_eq!(stage.mounts(), []);
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        assert_eq!(content, CONTENT);
        assert!(target.remove().unwrap(), "the directory is free");
    });
}

#[test]
fn mounts_that_were_stacked_by_others_all_go() {
    each(|stage, kind| {
        let (target, _) = stage.publish(kind, "volume");
        for _ in 0..2 {
            let none = None::<&str>;
            nix::mount::mount(Some("none"), target.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), none)
                .unwrap();
        }
        assert_eq!(stage.mounts_at(target.path()), 3);
        assert_eq!(target.unmount().unwrap(), Unmounted::Gone);
        assert_eq!(stage.mounts_at(target.path()), 0);
    });
}

#[test]
fn a_symlink_to_a_volume_is_not_followed() {
    each(|stage, kind| {
        let (target, _) = stage.publish(kind, "volume");
        let link = stage.path("link");
        std::os::unix::fs::symlink(target.path(), &link).unwrap();
        assert_eq!(unmount(&link).unwrap(), Unmounted::NotMounted);
        assert!(target.inspect().unwrap().is_some());
    });
}

#[test]
fn a_path_without_a_last_component_is_an_error() {
    for path in ["/", "/tmp/.."] {
        assert!(matches!(unmount(path.as_ref()), Err(UnmountError::NoName { .. })), "{path}");
    }
}
