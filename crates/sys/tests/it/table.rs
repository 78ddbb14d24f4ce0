//! The mount table against mounts that were really made.

use stowage_sys::mounts_beneath;
use stowage_testkit::namespace::private_mounts;

use crate::stage::{APIS, Kind, Stage};

#[test]
fn the_table_shows_mounts_with_odd_names_as_they_are() {
    private_mounts(|| {
        let stage = Stage::new(APIS[0]);
        for name in ["with space", "tab\there", "new\nline", "back\\slash", "hash#", "\\040", "ü"] {
            let (target, attached) = stage.publish(Kind::Overlay, name);
            let entries = mounts_beneath(target.path()).unwrap();
            assert_eq!(entries.len(), 1, "{name:?}");
            assert_eq!(entries[0].mount_point, target.path());
            assert_eq!(entries[0].mount_id, attached.mount_id);
            assert_eq!(entries[0].fs_type, "overlay");
            assert_eq!(entries[0].source, "stowage");
            assert!(entries[0].readonly() && entries[0].superblock_readonly());
        }
    });
}

#[test]
fn mounts_beneath_a_directory_are_found_through_a_symlink_and_neighbours_are_not() {
    private_mounts(|| {
        let stage = Stage::new(APIS[0]);
        let (target, _) = stage.publish(Kind::Bind, "volume");
        stage.publish(Kind::Bind, "volume-2");
        assert_eq!(mounts_beneath(target.path()).unwrap().len(), 1);
        let link = stage.path("link");
        std::os::unix::fs::symlink(stage.path("kubelet"), &link).unwrap();
        assert_eq!(mounts_beneath(&link).unwrap().len(), 2);
    });
}

#[test]
fn the_table_is_that_of_the_calling_thread() {
    let directory = tempfile::tempdir().unwrap();
    let inside = private_mounts(|| {
        let none = None::<&str>;
        nix::mount::mount(Some("none"), directory.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), none)
            .unwrap();
        mounts_beneath(directory.path()).unwrap().len()
    });
    assert_eq!(inside, 1);
    assert_eq!(mounts_beneath(directory.path()).unwrap(), []);
}
