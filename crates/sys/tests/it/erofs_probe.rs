//! The trial mount at start.

use std::path::Path;

use stowage_sys::{
    ErofsBacking, ErofsBackingChoice, ErofsProbe, ErofsSupport, KernelVersion, MountApi, Mounter,
};
use stowage_testkit::namespace::private_mounts;

use crate::view::small;

fn probe(directory: &Path, choice: ErofsBackingChoice) -> ErofsSupport {
    let (image, tar) = small();
    probe_with(&image, &[&tar], directory, choice)
}

fn probe_with(image: &[u8], devices: &[&[u8]], directory: &Path, choice: ErofsBackingChoice) -> ErofsSupport {
    let mounter = Mounter::new(MountApi::Auto, &directory.join("staging"));
    let support = mounter.probe_erofs(&ErofsProbe { image, devices, directory }, choice);
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0, "the probe leaves nothing");
    assert_eq!(support.why.is_none(), support.backing == Some(ErofsBacking::File), "{support:?}");
    support
}

#[test]
fn the_probe_finds_what_the_version_promises() {
    let directory = tempfile::tempdir().unwrap();
    private_mounts(|| {
        let promised = ErofsSupport::of_kernel(KernelVersion::running().unwrap(), true);
        assert!(promised.backing.is_some(), "tests need a kernel with EROFS, Linux 6.4: {promised:?}");
        assert_eq!(probe(directory.path(), ErofsBackingChoice::Auto), promised);
    });
}

#[test]
fn the_administrators_choice_goes_before_the_version() {
    let directory = tempfile::tempdir().unwrap();
    private_mounts(|| {
        let by_loop = probe(directory.path(), ErofsBackingChoice::Loop);
        assert_eq!((by_loop.backing, by_loop.direct_io), (Some(ErofsBacking::Loop), false));
        let off = probe(directory.path(), ErofsBackingChoice::None);
        assert_eq!(off.backing, None);
        assert!(off.why.unwrap().contains("configuration"));
    });
}

/// A tmpfs cannot back a mount by file, but a loop device.
#[test]
fn a_filesystem_that_backs_no_mounts_makes_the_probe_fall_back_to_loop_devices() {
    let directory = tempfile::tempdir().unwrap();
    private_mounts(|| {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), directory.path(), Some("tmpfs"), flags, None::<&str>).unwrap();
        let support = probe(directory.path(), ErofsBackingChoice::Auto);
        assert_eq!(support.backing, Some(ErofsBacking::Loop), "{support:?}");
        let why = support.why.unwrap();
        assert!(why.starts_with("a trial mount by file fails: cannot mount the EROFS image"), "{why}");
        // Who asks for files gets no loop devices.
        let forced = probe(directory.path(), ErofsBackingChoice::File);
        assert_eq!(forced.backing, None);
        assert!(forced.why.unwrap().contains("by file fails"));
    });
}

#[test]
fn a_probe_that_fails_both_ways_tells_of_both() {
    let directory = tempfile::tempdir().unwrap();
    private_mounts(|| {
        let support = probe_with(&[0; 4096], &[], directory.path(), ErofsBackingChoice::Auto);
        assert_eq!(support.backing, None);
        let why = support.why.unwrap();
        assert!(why.contains("by file:") && why.contains("by loop device:"), "{why}");
    });
}

/// The image is sound, but its data is not where it says.
#[test]
fn a_probe_reads_the_data_and_not_only_the_names() {
    let directory = tempfile::tempdir().unwrap();
    private_mounts(|| {
        let (image, tar) = small();
        let support = probe_with(&image, &[&tar[..512]], directory.path(), ErofsBackingChoice::File);
        assert_eq!(support.backing, None, "{support:?}");
    });
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let mounter = Mounter::default();
    let probe = ErofsProbe { image: &[], devices: &[], directory: Path::new("/absent/store") };
    let support = mounter.probe_erofs(&probe, ErofsBackingChoice::Auto);
    assert_eq!(support.backing, None);
    assert!(support.why.unwrap().contains("/absent/store"));
}
