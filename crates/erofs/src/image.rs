//! Writing a tree as an EROFS image whose files point into tars.
//!
//! Twice over the tree: once to place the inodes, once to write. Only the places are held, four bytes for each inode.

mod directory;
mod disk;
mod place;

use std::io::{self, BufWriter, Write};

use directory::Listing;
use disk::{ChunkIndex, DataLayout, DeviceSlot, Superblock};
use place::{Content, Places};

use crate::tree::{EntryKind, Tree};

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The metadata alone would go beyond what block numbers reach.
    #[error("the tree is too large for one image: its metadata would need more than 2 TiB")]
    TooLarge,
    /// Writing failed.
    #[error("cannot write the image: {0}")]
    Write(#[from] io::Error),
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Length of the image in bytes, a multiple of 4096.
    pub bytes: u64,
    /// Files, directories and symlinks; those with several names count once.
    pub inodes: u64,
}

/// The unit that a page of the kernel's cache never reads beyond.
const IMAGE_ALIGNMENT: u64 = 4096;

/// Writes the image of a tree, front to back. The same tree gives the same bytes.
pub fn write_image(tree: &Tree<'_>, out: impl Write) -> Result<ImageInfo, ImageError> {
    let places = Places::find(tree)?;
    let bytes = places.end.next_multiple_of(IMAGE_ALIGNMENT);
    let mut out = Positioned { out: BufWriter::with_capacity(1 << 18, out), position: 0 };
    write_superblock(tree, &places, bytes, &mut out)?;
    out.pad_to(places.inodes_begin)?;
    write_inodes(tree, &places, &mut out)?;
    out.pad_to(places.blocks_begin)?;
    write_blocks(tree, &places, &mut out)?;
    out.pad_to(bytes)?;
    out.out.flush()?;
    Ok(ImageInfo { bytes, inodes: tree.inode_count() as u64 })
}

/// Everything up to the inodes; what is checksummed together is made together.
fn write_superblock(
    tree: &Tree<'_>,
    places: &Places,
    bytes: u64,
    out: &mut Positioned<impl Write>,
) -> io::Result<()> {
    let superblock = Superblock {
        inodes: tree.inode_count() as u64,
        // The whole image is below 2^32 blocks.
        blocks: (bytes / crate::BLOCK) as u32,
        root: places.root() as u16,
        devices: tree.devices().len() as u16,
    };
    let mut front = superblock.to_bytes().to_vec();
    for device in tree.devices() {
        front.extend_from_slice(&DeviceSlot { tag: device.blob, blocks: device.blocks }.to_bytes());
    }
    Superblock::seal(&mut front);
    out.pad_to(disk::SUPERBLOCK_OFFSET)?;
    out.write(&front)
}

fn write_inodes(tree: &Tree<'_>, places: &Places, out: &mut Positioned<impl Write>) -> io::Result<()> {
    let mut next_block = places.blocks_begin;
    for (node, content) in place::unique(tree) {
        let entry = tree.entry(node);
        out.pad_to(places.of(tree.inode(node)))?;
        let (layout, size, detail) = match content {
            Content::Empty => (DataLayout::FlatPlain, 0, disk::NO_BLOCK),
            Content::Chunks { size, bits, .. } => (DataLayout::Chunks, size, disk::chunk_format(bits)),
            Content::Inline { bytes } => (DataLayout::FlatInline, bytes, disk::NO_BLOCK),
            Content::Blocks { bytes } => {
                let first = (next_block / crate::BLOCK) as u32;
                next_block += bytes.next_multiple_of(crate::BLOCK);
                (DataLayout::FlatPlain, bytes, first)
            }
        };
        let number = tree.inode(node) + 1;
        out.write(&disk::Inode { layout, size, detail, number, entry: &entry }.to_bytes())?;
        match (content, entry.kind) {
            (Content::Chunks { size, bits, device }, EntryKind::File { offset, .. }) => {
                for chunk in 0..size.div_ceil(crate::BLOCK << bits) {
                    let block = offset / crate::BLOCK + (chunk << bits);
                    out.write(&ChunkIndex { device, block: block as u32 }.to_bytes())?;
                }
            }
            (Content::Inline { .. }, EntryKind::Symlink { target }) => out.write(target)?,
            (Content::Inline { .. }, EntryKind::Directory { .. }) => {
                Listing::of(tree, places, node).write(|block| out.write(block))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// What does not fit behind its inode, in the same order.
fn write_blocks(tree: &Tree<'_>, places: &Places, out: &mut Positioned<impl Write>) -> io::Result<()> {
    for (node, content) in place::unique(tree) {
        if !matches!(content, Content::Blocks { .. }) {
            continue;
        }
        match tree.entry(node).kind {
            EntryKind::Symlink { target } => out.write(target)?,
            EntryKind::Directory { .. } => {
                Listing::of(tree, places, node).write(|block| {
                    out.pad_to(out.position.next_multiple_of(crate::BLOCK))?;
                    out.write(block)
                })?;
            }
            EntryKind::File { .. } => {}
        }
        out.pad_to(out.position.next_multiple_of(crate::BLOCK))?;
    }
    Ok(())
}

/// A writer that knows how far it is.
struct Positioned<W: Write> {
    out: BufWriter<W>,
    position: u64,
}

impl<W: Write> Positioned<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.position < position {
            let missing = (position - self.position).min(ZEROS.len() as u64) as usize;
            self.write(&ZEROS[..missing])?;
        }
        Ok(())
    }
}
