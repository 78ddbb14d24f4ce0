//! The bytes of images, without a kernel.

use stowage_erofs::{Rules, Selection, write_image};

use crate::harness::fuzz::image;
use crate::made::{Tar, merged_and};

fn image_of(tars: &[Tar]) -> Vec<u8> {
    merged_and(tars, Rules::Files, Selection::default(), |tree| image(tree).unwrap()).unwrap()
}

fn u32_at(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap())
}

#[test]
fn the_superblock_tells_what_kernels_since_6_4_need() {
    let image = image_of(&[Tar::new().file("a", &[1; 600]), Tar::new().file("b", b"1")]);
    assert_eq!(image.len() % 4096, 0);
    assert_eq!(u32_at(&image, 1024), 0xe0f5_e1e2);
    assert_eq!(image[1024 + 12], 9, "blocks of 512 bytes");
    assert_eq!(u32_at(&image, 1024 + 80), 0xc, "chunks and devices");
    assert_eq!(u32_at(&image, 1024 + 36) as usize * 512, image.len());
    assert_eq!(image[1024 + 48..1024 + 80], [0; 32], "no uuid, no label");
    for (slot, blob, blocks) in [(1152, b'0', 5), (1280, b'1', 4)] {
        assert_eq!((image[slot], image[slot + 1]), (blob, 0));
        assert_eq!(u32_at(&image, slot + 64), blocks);
    }
    let mut block = image[1024..1536].to_vec();
    block[4..8].fill(0);
    assert_eq!(u32_at(&image, 1028), !crc32c::crc32c(&block));
}

#[test]
fn a_tree_without_data_needs_no_device() {
    let image = image_of(&[Tar::new().file("a", b"").directory("d").symlink("s", "a")]);
    assert_eq!(u32_at(&image, 1024 + 80), 0);
    assert_eq!(image_of(&[]).len(), 4096);
}

#[test]
fn the_order_of_members_does_not_show() {
    let (a, b) = (Tar::new().file("a", b""), Tar::new().file("b", b""));
    let one = [a.clone().file("b", b""), Tar::new().directory("x")];
    let other = [Tar::new().directory("x/").file("b", b"").file("a", b"")];
    assert_eq!(image_of(&one), image_of(&other));
    assert_ne!(image_of(&[a]), image_of(&[b]));
}

#[test]
fn a_writer_that_fails_is_told() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = merged_and(&[Tar::new().file("a", b"")], Rules::Files, Selection::default(), |tree| {
        write_image(tree, Full).unwrap_err()
    });
    assert!(error.unwrap().to_string().contains("cannot write the image"));
}
