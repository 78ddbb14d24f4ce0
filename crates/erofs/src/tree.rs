//! One directory tree out of the members of one or more tars.

mod error;
mod finish;
mod grow;
mod path;
mod placed;

use stowage_artifact::RelativePath;

use crate::index::{Member, MemberKind, TarIndex, Time};

pub use error::MergeError;

/// The most files, links and directories of one tree, those that no member names included.
pub const MAX_ENTRIES: usize = 5_000_000;
/// The most tars that one image can point into.
pub const MAX_DEVICES: usize = 10_000;

/// A tar that takes part in a tree.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// What messages call it.
    pub name: &'a str,
    /// Which blob it is: the digest in hexadecimal. Two layers with the same are one device.
    pub blob: &'a str,
    /// Its members.
    pub index: &'a TarIndex,
}

/// What the members of a tar may be, and what happens where two meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Container images: whiteouts hide what lies below, later members replace earlier ones, symlinks are taken verbatim,
    /// a leading `/` counts for nothing, devices and pipes are left out and listed.
    RootFilesystem,
    /// All else: two different files with one path, devices, pipes, and symlinks that lead out of the volume are refused.
    Files,
}

/// Which part of the tree is wanted.
#[derive(Clone, Copy, Default)]
pub struct Selection<'a> {
    /// This directory becomes the root.
    pub sub_path: Option<&'a RelativePath>,
    /// Whether a path, as it is without `sub_path`, is wanted. Asked for all but directories, and for empty directories; the
    /// others follow what is in them. A name that is no UTF-8 is shown with replacement characters.
    pub keep: Option<&'a dyn Fn(&str) -> bool>,
}

/// Lays layers over each other, the first lowest.
///
/// Hard links to members that the selection leaves out keep their content. Directories that no member names get mode 0755, owner
/// 0 and time 0.
pub fn merge<'a>(
    layers: &'a [Layer<'a>],
    rules: Rules,
    selection: Selection<'_>,
) -> Result<Tree<'a>, MergeError> {
    let grown = grow::grow(layers, rules)?;
    finish::finish(grown, selection)
}

/// A blob that the files of a tree point into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'a> {
    /// The blob of [`Layer::blob`].
    pub blob: &'a str,
    /// Its length in whole blocks of 512 bytes.
    pub blocks: u32,
}

/// A member that the image leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its path in the tree, without the selection's `sub_path` taken away.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
}

/// The finished tree: what the volume will show. It borrows names and metadata from the indexes.
#[derive(Debug)]
pub struct Tree<'a> {
    layers: &'a [Layer<'a>],
    /// In order of depth; the entries of a directory stand together, sorted by their bytes. The first is the root.
    nodes: Vec<Node>,
    inodes: Vec<Inode>,
    devices: Vec<Device<'a>>,
    /// The device of each layer, counted from 1; 0 where nothing points into it.
    slots: Vec<u16>,
    skipped: Vec<Skipped>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    inode: u32,
    parent: u32,
    first_child: u32,
    children: u32,
    name: Name,
}

/// A piece of a name in the index of a layer.
#[derive(Clone, Copy, Debug)]
struct Name {
    begins: u32,
    layer: u16,
    bytes: u8,
}

#[derive(Clone, Copy, Debug)]
struct Inode {
    /// Position in the index of the layer, or [`IMPLIED`].
    member: u32,
    links: u32,
    layer: u16,
}

/// The member of directories that no tar names.
const IMPLIED: u32 = u32::MAX;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A regular file.
    File {
        /// Which of [`Tree::devices`] holds its bytes; `None` for an empty file.
        device: Option<usize>,
        /// Where they begin there.
        offset: u64,
        /// How many there are.
        size: u64,
    },
    /// A directory with so many entries.
    Directory {
        /// Without `.` and `..`.
        entries: u32,
    },
    /// A symlink.
    Symlink {
        /// Where it points to.
        target: &'a [u8],
    },
}

/// One file, directory or symlink of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryKind<'a>,
    /// Permission bits, after the mask.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change.
    pub mtime: Time,
    /// How many names it has; for a directory, 2 and one for each directory in it.
    pub links: u32,
}

impl<'a> Tree<'a> {
    /// How many entries there are, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The bytes of all files; those with several names count once.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The blobs that files point into, in the order in which the image's mount wants them.
    pub fn devices(&self) -> &[Device<'a>] {
        &self.devices
    }

    /// What was left out because an image may not hold it.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The entry at a path.
    pub fn lookup(&self, path: &RelativePath) -> Option<Entry<'a>> {
        let mut at = 0;
        for name in path.components() {
            let children = self.children(at);
            let within = self.nodes[children.start as usize..children.end as usize]
                .binary_search_by(|node| self.text(node.name).cmp(name.as_bytes()))
                .ok()?;
            at = children.start + within as u32;
        }
        Some(self.entry(at))
    }

    /// Every entry but the root with its path, sorted by the bytes of the components.
    pub fn entries(&self) -> impl Iterator<Item = (Vec<u8>, Entry<'a>)> + '_ {
        let mut open = vec![self.children(0)];
        let mut path: Vec<u8> = Vec::new();
        let mut lengths: Vec<usize> = Vec::new();
        std::iter::from_fn(move || {
            let node = loop {
                if let Some(node) = open.last_mut()?.next() {
                    break node;
                }
                open.pop();
                path.truncate(lengths.pop().unwrap_or_default());
            };
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(self.name(node));
            let entry = (path.clone(), self.entry(node));
            if self.nodes[node as usize].children > 0 {
                open.push(self.children(node));
                lengths.push(length);
            } else {
                path.truncate(length);
            }
            Some(entry)
        })
    }

    /// The entry of a node.
    pub(crate) fn entry(&self, node: u32) -> Entry<'a> {
        let node = &self.nodes[node as usize];
        let inode = self.inodes[node.inode as usize];
        let entries = node.children;
        let Some(member) = self.member(inode) else {
            let kind = EntryKind::Directory { entries };
            return Entry { kind, mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), links: inode.links };
        };
        let (kind, mode) = match member.kind {
            MemberKind::Directory => (EntryKind::Directory { entries }, 0o555 | member.mode & 0o200),
            MemberKind::Symlink => (EntryKind::Symlink { target: member.link }, 0o777),
            _ => {
                let device = self.slots[usize::from(inode.layer)].checked_sub(1).map(usize::from);
                let device = device.filter(|_| member.size > 0);
                (EntryKind::File { device, offset: member.offset, size: member.size }, file_mode(member.mode))
            }
        };
        let Member { uid, gid, mtime, .. } = member;
        Entry { kind, mode, uid, gid, mtime, links: inode.links }
    }

    /// How many files, links and directories there are, those with several names counted once.
    pub(crate) fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    pub(crate) fn inode(&self, node: u32) -> u32 {
        self.nodes[node as usize].inode
    }

    pub(crate) fn name(&self, node: u32) -> &'a [u8] {
        self.text(self.nodes[node as usize].name)
    }

    pub(crate) fn parent(&self, node: u32) -> u32 {
        self.nodes[node as usize].parent
    }

    /// The nodes in a directory, sorted by name.
    pub(crate) fn children(&self, node: u32) -> std::ops::Range<u32> {
        let node = &self.nodes[node as usize];
        node.first_child..node.first_child + node.children
    }

    fn text(&self, name: Name) -> &'a [u8] {
        text(self.layers, name)
    }

    fn member(&self, inode: Inode) -> Option<Member<'a>> {
        member(self.layers, inode)
    }
}

fn text<'a>(layers: &'a [Layer<'a>], name: Name) -> &'a [u8] {
    if name.bytes == 0 {
        return b"";
    }
    let names = layers[usize::from(name.layer)].index.names();
    &names[name.begins as usize..][..usize::from(name.bytes)]
}

fn member<'a>(layers: &'a [Layer<'a>], inode: Inode) -> Option<Member<'a>> {
    (inode.member != IMPLIED).then(|| layers[usize::from(inode.layer)].index.at(inode.member))
}

/// `(mode & 0755) | a+rX`: everybody may read, and execute where anybody may.
fn file_mode(mode: u16) -> u16 {
    let masked = mode & 0o755;
    let execute = if masked & 0o111 == 0 { 0 } else { 0o111 };
    masked | 0o444 | execute
}

#[cfg(test)]
mod tests {
    use super::file_mode;

    #[test]
    fn everybody_reads_and_nobody_gains_more() {
        let table = [
            (0o644, 0o644),
            (0o600, 0o644),
            (0o000, 0o444),
            (0o666, 0o644),
            (0o400, 0o444),
            (0o700, 0o755),
            (0o777, 0o755),
            (0o100, 0o555),
            (0o010, 0o555),
            (0o6755, 0o755),
            (0o7000, 0o444),
        ];
        for (mode, expected) in table {
            assert_eq!(file_mode(mode), expected, "{mode:o}");
        }
    }
}
