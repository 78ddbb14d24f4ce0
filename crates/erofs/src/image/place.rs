//! Where each inode goes, and what stands behind it.

use super::ImageError;
use super::directory::Listing;
use super::disk::{DEVICE_SLOT_BYTES, SUPERBLOCK_OFFSET};
use crate::BLOCK;
use crate::tree::{EntryKind, Tree};

const INODE_BYTES: u64 = 64;
/// Inodes are numbered by their offset in this unit.
const SLOT_BYTES: u64 = 32;
const CHUNK_INDEX_BYTES: u64 = 8;
/// The format has five bits for it: 2^31 blocks, which is 1 TiB.
const MAX_CHUNK_BITS: u32 = 31;
/// What can stand behind an inode in its block.
const MAX_INLINE: u64 = BLOCK - INODE_BYTES;

/// What an inode holds, and in which of EROFS's ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing.
    Empty,
    /// A file in a tar: pieces of `512 << bits` bytes, all but the last.
    Chunks {
        size: u64,
        bits: u32,
        /// Counted from 1.
        device: u16,
    },
    /// Bytes behind the inode, in the same block.
    Inline { bytes: u64 },
    /// Blocks of their own.
    Blocks { bytes: u64 },
}

/// The places of all inodes.
pub(super) struct Places {
    /// In slots, by the tree's numbers of inodes.
    slots: Vec<u32>,
    pub(super) inodes_begin: u64,
    pub(super) blocks_begin: u64,
    pub(super) end: u64,
}

impl Places {
    pub(super) fn find(tree: &Tree<'_>) -> Result<Self, ImageError> {
        let front = SUPERBLOCK_OFFSET + DEVICE_SLOT_BYTES * (1 + tree.devices().len() as u64);
        let inodes_begin = front.next_multiple_of(BLOCK);
        let mut slots = Vec::with_capacity(tree.inode_count());
        let mut position = inodes_begin;
        let mut blocks = 0;
        for (_, content) in unique(tree) {
            let behind = match content {
                Content::Chunks { size, bits, .. } => size.div_ceil(BLOCK << bits) * CHUNK_INDEX_BYTES,
                Content::Inline { bytes } => bytes,
                Content::Empty | Content::Blocks { .. } => 0,
            };
            position = position.next_multiple_of(SLOT_BYTES);
            let together = INODE_BYTES + behind;
            if position % BLOCK + together > BLOCK {
                position = position.next_multiple_of(BLOCK);
            }
            slots.push(u32::try_from(position / SLOT_BYTES).map_err(|_| ImageError::TooLarge)?);
            position += together;
            if let Content::Blocks { bytes } = content {
                blocks += bytes.next_multiple_of(BLOCK);
            }
        }
        let blocks_begin = position.next_multiple_of(BLOCK);
        let end = blocks_begin + blocks;
        // Leaves room for the padding, and for the number that means no block.
        if end / BLOCK > u64::from(u32::MAX) - 16 {
            return Err(ImageError::TooLarge);
        }
        Ok(Self { slots, inodes_begin, blocks_begin, end })
    }

    /// The offset of an inode.
    pub(super) fn of(&self, inode: u32) -> u64 {
        u64::from(self.number(inode)) * SLOT_BYTES
    }

    /// The number of an inode in the image.
    pub(super) fn number(&self, inode: u32) -> u32 {
        self.slots[inode as usize]
    }

    /// The number of the root. It comes first, behind 10 000 devices at most: 16 bits hold it.
    pub(super) fn root(&self) -> u32 {
        self.number(0)
    }
}

/// Each inode once, by the first of its nodes, in the order of the tree's numbers.
pub(super) fn unique<'t>(tree: &'t Tree<'_>) -> impl Iterator<Item = (u32, Content)> + 't {
    let mut next = 0;
    (0..tree.len() as u32).filter_map(move |node| {
        // They were numbered in the order of the nodes.
        if tree.inode(node) != next {
            return None;
        }
        next += 1;
        Some((node, content(tree, node)))
    })
}

fn content(tree: &Tree<'_>, node: u32) -> Content {
    let in_metadata =
        |bytes: u64| if bytes <= MAX_INLINE { Content::Inline { bytes } } else { Content::Blocks { bytes } };
    match tree.entry(node).kind {
        EntryKind::File { device: Some(device), size, .. } => {
            let blocks = size.div_ceil(BLOCK);
            let bits = blocks.next_power_of_two().trailing_zeros().min(MAX_CHUNK_BITS);
            Content::Chunks { size, bits, device: device as u16 + 1 }
        }
        EntryKind::File { device: None, .. } => Content::Empty,
        EntryKind::Symlink { target } => in_metadata(target.len() as u64),
        EntryKind::Directory { .. } => in_metadata(Listing::bytes(tree, node)),
    }
}
