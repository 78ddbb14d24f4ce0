//! The blocks of a directory: fixed parts of the entries in front, names behind.
//!
//! EROFS looks names up by binary search, so `.` and `..` stand where their bytes put them. An entry never crosses a block.

use std::io;

use super::disk::{DirectoryEntry, FileType};
use super::place::Places;
use crate::BLOCK;
use crate::tree::{EntryKind, Tree};

/// The entries of one directory.
pub(super) struct Listing<'t, 'a> {
    tree: &'t Tree<'a>,
    places: &'t Places,
    directory: u32,
}

impl<'t, 'a> Listing<'t, 'a> {
    pub(super) fn of(tree: &'t Tree<'a>, places: &'t Places, directory: u32) -> Self {
        Self { tree, places, directory }
    }

    /// How many bytes the directory has: whole blocks, and what is used of the last.
    pub(super) fn bytes(tree: &Tree<'_>, directory: u32) -> u64 {
        let mut whole = 0;
        let mut used = 0;
        for (name, _) in sorted(tree, directory) {
            let bytes = (DirectoryEntry::BYTES + name.len()) as u64;
            if used + bytes > BLOCK {
                whole += BLOCK;
                used = 0;
            }
            used += bytes;
        }
        whole + used
    }

    /// Hands out the blocks, each as long as what is used of it.
    pub(super) fn write(&self, mut block: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut entries: Vec<(&[u8], u32)> = Vec::new();
        let mut used = 0;
        let mut bytes = Vec::with_capacity(BLOCK as usize);
        for (name, node) in sorted(self.tree, self.directory) {
            let more = DirectoryEntry::BYTES + name.len();
            if used + more > BLOCK as usize {
                self.fill(&entries, &mut bytes);
                block(&bytes)?;
                entries.clear();
                used = 0;
            }
            used += more;
            entries.push((name, node));
        }
        self.fill(&entries, &mut bytes);
        block(&bytes)
    }

    fn fill(&self, entries: &[(&[u8], u32)], bytes: &mut Vec<u8>) {
        bytes.clear();
        let mut name_begins = entries.len() * DirectoryEntry::BYTES;
        for (name, node) in entries {
            let file_type = match self.tree.entry(*node).kind {
                EntryKind::File { .. } => FileType::Regular,
                EntryKind::Directory { .. } => FileType::Directory,
                EntryKind::Symlink { .. } => FileType::Symlink,
            };
            let number = self.places.number(self.tree.inode(*node));
            let entry = DirectoryEntry { number, name_begins: name_begins as u16, file_type };
            bytes.extend_from_slice(&entry.to_bytes());
            name_begins += name.len();
        }
        for (name, _) in entries {
            bytes.extend_from_slice(name);
        }
    }
}

/// Names and nodes, `.` and `..` among them.
fn sorted<'t, 'a>(tree: &'t Tree<'a>, directory: u32) -> impl Iterator<Item = (&'a [u8], u32)> + 't {
    let mut children = tree.children(directory).map(|node| (tree.name(node), node)).peekable();
    let mut dots = [(&b"."[..], directory), (&b".."[..], tree.parent(directory))].into_iter().peekable();
    std::iter::from_fn(move || match (children.peek(), dots.peek()) {
        (Some((child, _)), Some((dot, _))) if child > dot => dots.next(),
        (Some(_), _) => children.next(),
        (None, _) => dots.next(),
    })
}
