//! Tars as filesystems, without unpacking them.
//!
//! Three steps, each a plain function of the one before:
//!
//! 1. [`TarIndexer`] sees the bytes of a tar once, as they pass, in pieces of any size, and keeps a [`TarIndex`]: for each
//!    member its name, its metadata and where its data begins. The data itself is never held.
//! 2. [`merge`] lays the indexes of one or more tars over each other by the [`Rules`] of the artifact and makes a [`Tree`].
//! 3. [`write_image`] writes the tree as an EROFS image of metadata only, whose files point into the tars.
//!
//! Nothing here mounts, opens a file or a socket. The image is mounted with the tars as its devices, in the order of
//! [`Tree::devices`].
//!
//! # The image
//!
//! Blocks have 512 bytes, like those of a tar: the data of every member begins at a block of its tar.
//!
//! ```text
//!  byte
//!     0 ┌──────────────────────────────┐
//!       │ zeros                        │
//!  1024 ├──────────────────────────────┤
//!       │ superblock, 128 bytes        │  crc32c over its block; no time, no label, no uuid
//!  1152 ├──────────────────────────────┤
//!       │ device slots, 128 bytes each │  the tag says which blob, and how many blocks it has
//!       ├──────────────────────────────┤  next block
//!       │ inodes, 64 bytes each,       │  the root first; a file is followed by its chunk index ───► (device, block)
//!       │ at multiples of 32           │  a short symlink by its target, a short directory by its entries
//!       ├──────────────────────────────┤  next block
//!       │ long directories, targets    │  whole blocks
//!       ├──────────────────────────────┤
//!       │ zeros up to 4096             │
//!       └──────────────────────────────┘
//! ```
//!
//! The number of an inode is its offset divided by 32. One chunk index is enough for a file of 1 TiB, because the data of a
//! member lies in one piece. There are no extended attributes. The same tree gives the same bytes.
#![forbid(unsafe_code)]

mod image;
mod index;
mod tar;
mod tree;

pub use image::{ImageError, ImageInfo, write_image};
pub use index::{IndexError, Member, MemberKind, TarIndex, Time};
pub use tar::{
    MAX_EXTENSION_BYTES, MAX_EXTENSIONS, MAX_MEMBERS, MAX_NAME_BYTES, MAX_NAMES_BYTES, TarError, TarIndexer,
};
pub use tree::{
    Device, Entry, EntryKind, Layer, MAX_DEVICES, MAX_ENTRIES, MergeError, Rules, Selection, Skipped, Tree,
    merge,
};

/// The unit of tars and of the images made of them, in bytes.
pub const BLOCK: u64 = 512;
