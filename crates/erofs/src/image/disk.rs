//! The structures of EROFS, byte by byte (Linux, `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h`).

use crate::BLOCK;
use crate::tree::{Entry, EntryKind};

/// Where the superblock begins.
pub(super) const SUPERBLOCK_OFFSET: u64 = 1024;
/// Of the superblock too, so that the slots can follow it directly.
pub(super) const DEVICE_SLOT_BYTES: u64 = 128;
/// The address of what has no block.
pub(super) const NO_BLOCK: u32 = u32::MAX;

const MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK_BITS: u8 = BLOCK.trailing_zeros() as u8;
/// There is a checksum.
const COMPATIBLE_CHECKSUM: u32 = 0x1;
/// The time of inodes is that of the last change.
const COMPATIBLE_MTIME: u32 = 0x2;
const NEEDS_CHUNKS: u32 = 0x4;
const NEEDS_DEVICES: u32 = 0x8;
/// Chunks are told by eight bytes with a device.
const CHUNK_INDEXES: u32 = 0x20;

/// The fields of the superblock that differ between images.
pub(super) struct Superblock {
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) root: u16,
    pub(super) devices: u16,
}

impl Superblock {
    /// 128 bytes, the checksum still zero.
    pub(super) fn to_bytes(&self) -> [u8; 128] {
        let needs = if self.devices == 0 { 0 } else { NEEDS_CHUNKS | NEEDS_DEVICES };
        let slots_begin = ((SUPERBLOCK_OFFSET + 128) / DEVICE_SLOT_BYTES) as u16;
        let mut bytes = [0; 128];
        let mut put =
            |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_le_bytes());
        put(8, &(COMPATIBLE_CHECKSUM | COMPATIBLE_MTIME).to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(80, &needs.to_le_bytes());
        put(86, &self.devices.to_le_bytes());
        put(88, &slots_begin.to_le_bytes());
        bytes
    }

    /// Puts the checksum into the superblock at the beginning of `front`: that of its block, whatever follows it there.
    pub(super) fn seal(front: &mut [u8]) {
        let mut block = [0; BLOCK as usize];
        let covered = front.len().min(block.len());
        block[..covered].copy_from_slice(&front[..covered]);
        // EROFS leaves the last inversion away.
        let checksum = !crc32c::crc32c(&block);
        front[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// A blob that files point into.
pub(super) struct DeviceSlot<'a> {
    pub(super) tag: &'a str,
    pub(super) blocks: u32,
}

impl DeviceSlot<'_> {
    pub(super) fn to_bytes(&self) -> [u8; DEVICE_SLOT_BYTES as usize] {
        let mut bytes = [0; DEVICE_SLOT_BYTES as usize];
        let tag = &self.tag.as_bytes()[..self.tag.len().min(64)];
        bytes[..tag.len()].copy_from_slice(tag);
        bytes[64..68].copy_from_slice(&self.blocks.to_le_bytes());
        bytes
    }
}

/// How the data of an inode is found.
#[derive(Clone, Copy)]
pub(super) enum DataLayout {
    /// In blocks of the image, one after the other.
    FlatPlain = 0,
    /// Behind the inode.
    FlatInline = 2,
    /// By chunk indexes behind the inode.
    Chunks = 4,
}

/// The format of chunks of `512 << bits` bytes.
pub(super) fn chunk_format(bits: u32) -> u32 {
    CHUNK_INDEXES | bits
}

/// An inode in the long form, which has a time of its own.
pub(super) struct Inode<'a> {
    pub(super) layout: DataLayout,
    pub(super) size: u64,
    /// First block, or format of chunks.
    pub(super) detail: u32,
    /// For programs with 32 bits.
    pub(super) number: u32,
    pub(super) entry: &'a Entry<'a>,
}

impl Inode<'_> {
    pub(super) fn to_bytes(&self) -> [u8; 64] {
        const LONG: u16 = 1;
        let type_bits = match self.entry.kind {
            EntryKind::File { .. } => 0o100_000,
            EntryKind::Directory { .. } => 0o040_000,
            EntryKind::Symlink { .. } => 0o120_000,
        };
        let mut bytes = [0; 64];
        let mut put =
            |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0, &(LONG | (self.layout as u16) << 1).to_le_bytes());
        put(4, &(type_bits | self.entry.mode).to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.detail.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.entry.uid.to_le_bytes());
        put(28, &self.entry.gid.to_le_bytes());
        put(32, &self.entry.mtime.seconds.to_le_bytes());
        put(40, &self.entry.mtime.nanos.to_le_bytes());
        put(44, &self.entry.links.to_le_bytes());
        bytes
    }
}

/// Where a chunk begins.
pub(super) struct ChunkIndex {
    pub(super) device: u16,
    pub(super) block: u32,
}

impl ChunkIndex {
    pub(super) fn to_bytes(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[2..4].copy_from_slice(&self.device.to_le_bytes());
        bytes[4..].copy_from_slice(&self.block.to_le_bytes());
        bytes
    }
}

/// The numbers of file types in directories.
#[derive(Clone, Copy)]
pub(super) enum FileType {
    Regular = 1,
    Directory = 2,
    Symlink = 7,
}

/// The fixed part of an entry in a directory.
pub(super) struct DirectoryEntry {
    pub(super) number: u32,
    /// From the start of the block.
    pub(super) name_begins: u16,
    pub(super) file_type: FileType,
}

impl DirectoryEntry {
    pub(super) const BYTES: usize = 12;

    pub(super) fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&u64::from(self.number).to_le_bytes());
        bytes[8..10].copy_from_slice(&self.name_begins.to_le_bytes());
        bytes[10] = self.file_type as u8;
        bytes
    }
}
