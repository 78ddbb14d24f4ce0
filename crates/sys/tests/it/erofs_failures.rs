//! EROFS mounts that fail say why and leave nothing.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use stowage_sys::{ErofsBacking, ErofsOptions, MountError, Mounter};
use stowage_testkit::namespace::private_mounts;

use crate::stage::APIS;
use crate::view::{View, each_backing};

#[test]
fn a_missing_file_is_named_and_nothing_stays() {
    each_backing(|view, backing| {
        let options = ErofsOptions::new(backing);
        let absent = view.stage.path("store/absent");
        let devices = [view.tars[0].clone(), absent.clone()];
        let missing_device = view.stage.mounter.erofs(&view.image, &devices, &options).unwrap_err();
        let missing_image = view.stage.mounter.erofs(&absent, &view.tars, &options).unwrap_err();
        for error in [missing_device, missing_image] {
            let text = error.to_string();
            assert!(text.contains("store/absent") && text.contains("No such file"), "{text}");
        }
        view.assert_no_loop_device_stays();
    });
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    each_backing(|view, backing| {
        let pipe = view.stage.path("store/pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for odd in [pipe, view.stage.path("store/empty"), PathBuf::from("/dev/null")] {
            let error = view.stage.mounter.erofs(&odd, &view.tars, &ErofsOptions::new(backing)).unwrap_err();
            assert!(matches!(&error, MountError::NotAFile { path } if *path == odd), "{error:?}");
        }
    });
}

#[test]
fn images_that_the_kernel_refuses_leave_neither_a_mount_nor_a_loop_device() {
    each_backing(|view, backing| {
        let options = ErofsOptions::new(backing);
        let refused = |image: &Path, devices: &[PathBuf]| {
            let error = view.stage.mounter.erofs(image, devices, &options).unwrap_err();
            assert!(error.to_string().contains(image.to_str().unwrap()), "{error}");
            assert!(matches!(error, MountError::Kernel { step: "mount the EROFS image", .. }), "{error:?}");
            assert_eq!(view.stage.mounts(), []);
            view.assert_no_loop_device_stays();
            error.to_string()
        };
        let sound = std::fs::read(&view.image).unwrap();
        let corrupt = view.stage.path("store/corrupt.erofs");
        let mut checksum = sound.clone();
        checksum[1030] ^= 1;
        for bytes in [&[0; 8192][..], &sound[..1024], &checksum, b""] {
            std::fs::write(&corrupt, bytes).unwrap();
            let text = refused(&corrupt, &view.tars);
            assert!(text.contains("os error"), "{text}");
            // It writes nothing into the context of the mount, but into its log.
            assert!(text.contains("dmesg"), "{text}");
        }
        // As many devices as the image has, neither more nor fewer.
        refused(&view.image, &view.tars[..1]);
        refused(&view.image, &[&view.tars[..], &view.tars[..1]].concat());
    });
}

#[test]
fn a_label_reaches_the_kernel() {
    each_backing(|view, backing| {
        let label = Some("system_u:object_r:container_file_t:s0");
        let outcome = view.mount(&ErofsOptions { label, ..ErofsOptions::new(backing) });
        if stowage_sys::selinux_enabled() {
            outcome.expect("SELinux is on, so the label is accepted");
        } else {
            let error = outcome.expect_err("SELinux is off, so nobody takes the option").to_string();
            // The kernel's own words, out of the context of the mount.
            assert!(error.contains("Unknown parameter 'context'"), "{error}");
            view.assert_no_loop_device_stays();
        }
    });
}

#[test]
fn the_way_by_mount_2_has_no_erofs_and_says_so() {
    private_mounts(|| {
        let view = View::new();
        let old = Mounter::new(APIS[1], &view.stage.path("staging"));
        let options = ErofsOptions::new(ErofsBacking::File);
        let error = old.erofs(&view.image, &view.tars, &options).unwrap_err();
        assert!(matches!(error, MountError::Unsupported { .. }), "{error:?}");
    });
}

/// `/dev` is often a container's own: first without any node for loop devices, then with the control node alone.
#[test]
fn a_missing_node_for_a_loop_device_is_named() {
    private_mounts(|| {
        let view = View::new();
        mount(Some("none"), "/dev", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let missing = || match view.mount(&ErofsOptions::new(ErofsBacking::Loop)).unwrap_err() {
            MountError::NoLoopNode { node } => node,
            other => panic!("{other:?}"),
        };
        assert_eq!(missing(), Path::new("/dev/loop-control"));
        let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::S_IRUSR);
        let control = nix::sys::stat::makedev(10, 237);
        nix::sys::stat::mknod("/dev/loop-control", kind, mode, control).unwrap();
        let node = missing();
        let number = node.to_str().unwrap().strip_prefix("/dev/loop").unwrap();
        assert!(number.parse::<u32>().is_ok(), "{node:?}");
        // Files need no nodes.
        view.mount(&ErofsOptions::new(ErofsBacking::File)).unwrap();
        stowage_sys::unmount(Path::new("/dev")).unwrap();
    });
}
