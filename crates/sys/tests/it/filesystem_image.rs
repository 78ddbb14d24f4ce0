//! Images that come alone: mounted as they are, or refused with a reason. Those of other programs: `*_tools.rs`.

use std::path::{Path, PathBuf};

use stowage_sys::{ErofsBacking, ErofsOptions, ImageFilesystem, MountError, Mounter, Unmounted};
use stowage_testkit::namespace::private_mounts;

use crate::stage::APIS;
use crate::view::{View, each_backing, image_alone};

const KINDS: [ImageFilesystem; 2] = [ImageFilesystem::Erofs, ImageFilesystem::Squashfs];

fn written(view: &View, bytes: &[u8]) -> PathBuf {
    let image = view.stage.path("store/layer");
    std::fs::write(&image, bytes).unwrap();
    image
}

#[test]
fn an_image_is_mounted_read_only_and_leaves_nothing() {
    each_backing(|view, backing| {
        let image = written(view, &image_alone(&["directory/file"]));
        let options = ErofsOptions::new(backing);
        let mounted = view.stage.mounter.filesystem_image(&image, ImageFilesystem::Erofs, &options).unwrap();
        let target = view.stage.target("volume");
        assert!(mounted.attach(&target).unwrap().superblock_readonly);
        assert_eq!(std::fs::read(target.path().join("directory/file")).unwrap(), b"");
        let entry = view.stage.mounts().pop().unwrap();
        assert_eq!(entry.fs_type, "erofs");
        let has = |option: &str| entry.mount_options.split(',').any(|is| is == option);
        assert_eq!(["ro", "nosuid", "nodev", "noexec"].map(has), [true, true, true, false]);
        assert_eq!(view.loop_devices().len(), usize::from(backing == ErofsBacking::Loop));
        assert_eq!(target.unmount().unwrap(), Unmounted::Gone);
        view.assert_no_loop_device_stays();
    });
}

/// The kernel itself would mount it, and some kernels would open what the image names.
#[test]
fn an_image_that_names_devices_is_refused() {
    each_backing(|view, backing| {
        let options = ErofsOptions::new(backing);
        let outcome = view.stage.mounter.filesystem_image(&view.image, ImageFilesystem::Erofs, &options);
        let error = outcome.unwrap_err();
        assert!(matches!(&error, MountError::NeedsDevices { path } if *path == view.image), "{error:?}");
        view.assert_no_loop_device_stays();
    });
}

#[test]
fn what_is_no_image_is_refused_with_a_reason_and_leaves_nothing() {
    each_backing(|view, backing| {
        let sound = image_alone(&["file"]);
        let mut checksum = sound.clone();
        checksum[1030] ^= 1;
        for kind in KINDS {
            for bytes in [&[0; 8192][..], &sound[..1024], &checksum, b"", &[0; 777]] {
                let image = written(view, bytes);
                let outcome = view.stage.mounter.filesystem_image(&image, kind, &ErofsOptions::new(backing));
                let error = outcome.unwrap_err();
                assert!(
                    matches!(&error, MountError::Kernel { kernel, .. } if !kernel.is_empty()),
                    "{error:?}"
                );
                assert!(error.to_string().contains("store/layer"), "{error}");
                assert_eq!(view.stage.mounts(), []);
                view.assert_no_loop_device_stays();
            }
        }
    });
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    private_mounts(|| {
        let view = View::new();
        let options = ErofsOptions::new(ErofsBacking::Loop);
        for kind in KINDS {
            for odd in [view.stage.path("store/empty"), PathBuf::from("/dev/null")] {
                let error = view.stage.mounter.filesystem_image(&odd, kind, &options).unwrap_err();
                assert!(matches!(&error, MountError::NotAFile { path } if *path == odd), "{error:?}");
            }
            let absent = view.stage.path("store/absent");
            let error = view.stage.mounter.filesystem_image(&absent, kind, &options).unwrap_err();
            assert!(error.to_string().contains("store/absent"), "{error}");
        }
    });
}

#[test]
fn the_way_by_mount_2_has_no_images_and_says_so() {
    private_mounts(|| {
        let view = View::new();
        let old = Mounter::new(APIS[1], &view.stage.path("staging"));
        for kind in KINDS {
            let error =
                old.filesystem_image(&view.image, kind, &ErofsOptions::new(ErofsBacking::File)).unwrap_err();
            assert!(matches!(error, MountError::Unsupported { .. }), "{error:?}");
        }
    });
}

/// A container's own `/dev`.
#[test]
fn a_missing_node_for_the_loop_device_of_a_squashfs_image_is_named() {
    private_mounts(|| {
        use nix::mount::{MsFlags, mount};
        let view = View::new();
        mount(Some("none"), "/dev", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let options = ErofsOptions::new(ErofsBacking::File);
        let outcome = view.stage.mounter.filesystem_image(&view.image, ImageFilesystem::Squashfs, &options);
        stowage_sys::unmount(Path::new("/dev")).unwrap();
        let error = outcome.unwrap_err();
        assert!(matches!(&error, MountError::NoLoopNode { node } if node == Path::new("/dev/loop-control")));
    });
}

#[test]
fn a_label_reaches_the_kernel() {
    private_mounts(|| {
        let view = View::new();
        let image = written(&view, &image_alone(&["file"]));
        let label = Some("system_u:object_r:container_file_t:s0");
        let options = ErofsOptions { label, ..ErofsOptions::new(ErofsBacking::Loop) };
        for kind in KINDS {
            let outcome = view.stage.mounter.filesystem_image(&image, kind, &options);
            if stowage_sys::selinux_enabled() {
                // The image is none of SquashFS.
                assert_eq!(outcome.is_ok(), kind == ImageFilesystem::Erofs, "{outcome:?}");
            } else {
                let error = outcome.expect_err("SELinux is off, so nobody takes the option").to_string();
                assert!(error.contains("context'"), "{error}");
            }
        }
        view.assert_no_loop_device_stays();
    });
}
