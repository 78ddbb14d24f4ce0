//! EROFS images that `mkfs.erofs` made.

use stowage_sys::{ErofsOptions, ImageFilesystem};
use stowage_testkit::namespace::private_mounts;
use stowage_testkit::tools::needed_by;

use crate::layers::Layers;
use crate::tools::make;
use crate::view::BACKINGS;

/// What `STOWAGE_SKIP` calls the tests of this module.
const GROUP: &str = "erofs-tools";

#[test]
fn stacked_images_of_large_blocks_are_one_volume_with_whiteouts_applied() {
    let Some(mkfs) = needed_by(GROUP, "mkfs.erofs") else { return };
    for backing in BACKINGS {
        for options in [&["--quiet"][..], &["--quiet", "-zlz4hc"]] {
            private_mounts(|| {
                let layers = Layers::new(|tree, image| {
                    let at = [image.to_str().unwrap(), tree.to_str().unwrap()];
                    make(&mkfs, &[options, &at].concat());
                });
                let block_size_bits = std::fs::read(&layers.images[0]).unwrap()[1024 + 12];
                assert_eq!(1 << block_size_bits, 4096);
                layers.check(|image| {
                    let options = ErofsOptions::new(backing);
                    layers.stage.mounter.filesystem_image(image, ImageFilesystem::Erofs, &options)
                });
            });
        }
    }
}
