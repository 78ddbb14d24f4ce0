//! Images that `mksquashfs` made.

use std::path::Path;

use stowage_sys::{Detached, ErofsBacking, ErofsOptions, ImageFilesystem, MountError, Unmounted};
use stowage_testkit::namespace::private_mounts;
use stowage_testkit::tools::{Tool, needed_by};

use crate::layers::Layers;
use crate::tools::make;
use crate::view::{assert_no_loop_device_shows, loop_devices};

/// What `STOWAGE_SKIP` calls the tests of this module.
const GROUP: &str = "erofs-tools";

/// The backing is not looked at.
fn mount(layers: &Layers, image: &Path) -> Result<Detached, MountError> {
    // A number that nobody else asks for.
    let options = ErofsOptions { read_ahead_kib: Some(1236), ..ErofsOptions::new(ErofsBacking::File) };
    layers.stage.mounter.filesystem_image(image, ImageFilesystem::Squashfs, &options)
}

fn layers(mksquashfs: &Tool, options: &[&str]) -> Layers {
    Layers::new(|tree, image| {
        // The directory comes first, and options come last.
        let at = [tree.to_str().unwrap(), image.to_str().unwrap(), "-quiet", "-no-progress"];
        make(mksquashfs, &[&at[..], options].concat());
    })
}

#[test]
fn stacked_images_are_one_volume_with_whiteouts_applied() {
    let Some(mksquashfs) = needed_by(GROUP, "mksquashfs") else { return };
    for options in [&[][..], &["-comp", "zstd"]] {
        private_mounts(|| {
            let layers = layers(&mksquashfs, options);
            layers.check(|image| mount(&layers, image));
        });
    }
}

#[test]
fn one_image_is_mounted_as_it_is_and_its_loop_device_goes_with_it() {
    let Some(mksquashfs) = needed_by(GROUP, "mksquashfs") else { return };
    private_mounts(|| {
        let layers = layers(&mksquashfs, &[]);
        let target = layers.stage.target("volume");
        let alone = vec![mount(&layers, &layers.images[0]).unwrap()];
        let attached =
            layers.stage.mounter.stacked_readonly(alone, None, None).unwrap().attach(&target).unwrap();
        assert!(attached.superblock_readonly);
        let mounted = layers.stage.mounts().pop().unwrap();
        assert_eq!(mounted.fs_type, "squashfs");
        let has = |option: &str| mounted.mount_options.split(',').any(|is| is == option);
        assert_eq!(["ro", "nosuid", "nodev", "noexec"].map(has), [true, true, true, false]);
        let devices = loop_devices(&layers.stage);
        assert_eq!(devices.len(), 1);
        let value = |name: &str| std::fs::read_to_string(devices[0].join(name)).unwrap();
        let values = ["ro", "loop/autoclear", "queue/read_ahead_kb"].map(value);
        assert_eq!(values.each_ref().map(|value| value.trim()), ["1", "1", "1236"]);
        assert_eq!(target.unmount().unwrap(), Unmounted::Gone);
        assert_no_loop_device_shows(&layers.stage);
    });
}

#[test]
fn images_that_are_cut_off_or_not_padded_are_refused_and_leave_nothing() {
    let Some(mksquashfs) = needed_by(GROUP, "mksquashfs") else { return };
    private_mounts(|| {
        // Without compression the size is always the same.
        let layers = layers(&mksquashfs, &["-nopad", "-noI", "-noD", "-noF", "-noX"]);
        let image = &layers.images[0];
        let refused = || {
            let error = mount(&layers, image).unwrap_err();
            assert!(
                matches!(error, MountError::Kernel { step: "mount the SquashFS image", .. }),
                "{error:?}"
            );
            assert_no_loop_device_shows(&layers.stage);
            error.to_string()
        };
        let mut bytes = std::fs::read(image).unwrap();
        assert_ne!(bytes.len() % 512, 0);
        let text = refused();
        assert!(text.contains("no multiple of 512 bytes"), "{text}");

        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        std::fs::write(image, &bytes).unwrap();
        drop(mount(&layers, image).unwrap());
        bytes.truncate(8192);
        std::fs::write(image, &bytes).unwrap();
        let text = refused();
        assert!(text.contains("dmesg"), "{text}");
    });
}
