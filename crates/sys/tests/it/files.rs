//! Files: space, write-back, fs-verity, what a filesystem can do, and what this kernel can do.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use stowage_sys::{
    Features, FilesystemSupport, KernelVersion, Verity, enable_verity, has_verity, probe_filesystem, space,
    sync_file_range, write_back,
};
use stowage_testkit::namespace::private_mounts;

fn tmpfs(at: &Path, options: &str) {
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("none"), at, Some("tmpfs"), flags, Some(options)).unwrap();
}

#[test]
fn space_is_counted_in_bytes_and_inodes() {
    // Outside: the mount goes before its directory does.
    let directory = tempfile::tempdir().unwrap();
    private_mounts(|| {
        tmpfs(directory.path(), "size=1m,nr_inodes=100");
        let before = space(directory.path()).unwrap();
        assert_eq!((before.bytes_total, before.inodes_total), (1 << 20, 100));
        std::fs::write(directory.path().join("file"), vec![1; 256 << 10]).unwrap();
        let after = space(directory.path()).unwrap();
        assert_eq!(before.bytes_free - after.bytes_free, 256 << 10);
        assert_eq!(before.inodes_free - after.inodes_free, 1);
        assert!(space(&directory.path().join("absent")).is_err());
    });
}

#[test]
fn ranges_are_written_back_and_senseless_ones_refused() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; 1 << 20]).unwrap();
    write_back(&file, 0, 1 << 19).unwrap();
    sync_file_range(&file, 1 << 19, 0).unwrap();
    assert!(sync_file_range(&file, u64::MAX, 1).is_err());
    let (pipe, _other) = std::io::pipe().unwrap();
    assert!(write_back(&pipe, 0, 1).is_err());
}

#[test]
fn a_filesystem_without_verity_says_so_and_changes_nothing() {
    // Outside: the mount goes before its directory does.
    let directory = tempfile::tempdir().unwrap();
    private_mounts(|| {
        tmpfs(directory.path(), "size=1m");
        let path = directory.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(enable_verity(&file).unwrap(), Verity::Unsupported);
        assert!(!has_verity(&file).unwrap());
        std::fs::write(&path, "still writable").unwrap();
    });
}

#[test]
fn a_filesystem_is_probed_without_leaving_anything() {
    let directory = tempfile::tempdir().unwrap();
    let all = FilesystemSupport { hard_links: true, fallocate: true, flock: true };
    assert_eq!(probe_filesystem(directory.path()).unwrap(), all);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_filesystem_without_fallocate_is_found_out() {
    // Outside: the mount goes before its directory does.
    let directory = tempfile::tempdir().unwrap();
    private_mounts(|| {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), directory.path(), Some("ramfs"), flags, None::<&str>).unwrap();
        let support = probe_filesystem(directory.path()).unwrap();
        assert_eq!(support, FilesystemSupport { hard_links: true, fallocate: false, flock: true });
    });
}

#[test]
fn this_kernel_is_detected() {
    let features = Features::detect().unwrap();
    assert_eq!(features.kernel, KernelVersion::running().unwrap());
    assert!(features.can_build_detached(), "tests need Linux 5.12: {features:?}");
    assert!(features.overlay && features.openat2, "{features:?}");
}
