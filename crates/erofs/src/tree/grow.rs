//! Laying the members of tars over each other, one by one.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::path::{check, components, trim};
use super::{IMPLIED, Inode, Layer, MAX_DEVICES, MAX_ENTRIES, MergeError, Name, Rules, member, text};
use crate::index::{Member, MemberKind};
use crate::tar::printable;

/// In front of the name that a whiteout hides (OCI image specification, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Hides all that lies below in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other marks of aufs, which mean nothing here.
const AUFS: &[u8] = b".wh..wh.";

pub(super) const ROOT: u32 = 0;

/// A tree that grows. A node stands behind its parent, always; what is removed stays, out of reach.
pub(super) struct Grown<'a> {
    pub(super) layers: &'a [Layer<'a>],
    pub(super) rules: Rules,
    pub(super) nodes: Vec<GrownNode>,
    pub(super) inodes: Vec<Inode>,
    /// The root may be replaced, by an opaque whiteout in it.
    pub(super) root: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct GrownNode {
    pub(super) parent: u32,
    pub(super) inode: u32,
    pub(super) name: Name,
    pub(super) removed: bool,
}

pub(super) fn grow<'a>(layers: &'a [Layer<'a>], rules: Rules) -> Result<Grown<'a>, MergeError> {
    if layers.len() > MAX_DEVICES {
        return Err(MergeError::TooManyLayers);
    }
    let members = layers.iter().map(|layer| layer.index.len()).sum::<usize>().min(MAX_ENTRIES);
    let root =
        GrownNode { parent: ROOT, inode: 0, name: Name { begins: 0, layer: 0, bytes: 0 }, removed: false };
    let mut growth = Growth {
        grown: Grown {
            layers,
            rules,
            nodes: Vec::with_capacity(members + 1),
            inodes: Vec::new(),
            root: ROOT,
        },
        names: HashTable::with_capacity(members),
        hasher: RandomState::new(),
        recent: None,
    };
    growth.grown.nodes.push(root);
    growth.grown.inodes.push(Inode { member: IMPLIED, links: 0, layer: 0 });
    for number in 0..layers.len() {
        growth.add_layer(number as u16)?;
    }
    Ok(growth.grown)
}

struct Growth<'a> {
    grown: Grown<'a>,
    /// The nodes that can be reached, by parent and name.
    names: HashTable<u32>,
    hasher: RandomState,
    /// The directory of the last member, because the next one is often in it too.
    recent: Option<(&'a [u8], u32)>,
}

/// A member on its way into the tree.
#[derive(Clone, Copy)]
struct Newcomer<'a> {
    layer: u16,
    position: u32,
    member: Member<'a>,
    path: &'a [u8],
    /// Where `path` begins among the names of the layer.
    begins: u32,
}

impl<'a> Newcomer<'a> {
    fn name(&self, begins: usize, name: &[u8]) -> Name {
        // A checked name has at most 255 bytes.
        Name { begins: self.begins + begins as u32, layer: self.layer, bytes: name.len() as u8 }
    }

    /// The directory, and the name in it with its position in the path.
    fn split(&self) -> (&'a [u8], usize, &'a [u8]) {
        match self.path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.path[..slash], slash + 1, &self.path[slash + 1..]),
            None => (b"", 0, self.path),
        }
    }
}

impl<'a> Growth<'a> {
    fn add_layer(&mut self, layer: u16) -> Result<(), MergeError> {
        self.recent = None;
        let index = self.grown.layers[usize::from(layer)].index;
        let with_whiteouts = self.grown.rules == Rules::RootFilesystem;
        let newcomers = || (0..index.len() as u32).map(|position| (position, index.at(position)));
        if with_whiteouts {
            // They hide what lies below, and nothing in their own layer, wherever they stand.
            for (position, member) in newcomers().filter(|(_, member)| is_whiteout(member.path)) {
                let newcomer = self.arrive(layer, position, member)?;
                self.hide(newcomer)?;
            }
        }
        for (position, member) in newcomers() {
            if with_whiteouts && is_whiteout(member.path) {
                continue;
            }
            let newcomer = self.arrive(layer, position, member)?;
            self.add(newcomer)?;
        }
        Ok(())
    }

    fn layer_name(&self, layer: u16) -> String {
        self.grown.layers[usize::from(layer)].name.to_owned()
    }

    fn arrive(&self, layer: u16, position: u32, member: Member<'a>) -> Result<Newcomer<'a>, MergeError> {
        let (skipped, path) = trim(member.path, self.grown.rules);
        if !path.is_empty() {
            check(path, self.grown.rules)
                .map_err(|problem| MergeError::Path { layer: self.layer_name(layer), problem })?;
        }
        let index = self.grown.layers[usize::from(layer)].index;
        let begins = index.path_begins(position) + skipped as u32;
        Ok(Newcomer { layer, position, member, path, begins })
    }

    fn hide(&mut self, whiteout: Newcomer<'a>) -> Result<(), MergeError> {
        let (directory, _, name) = whiteout.split();
        if name.starts_with(AUFS) && name != OPAQUE {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            let (layer, path) = (self.layer_name(whiteout.layer), printable(whiteout.path));
            return Err(MergeError::Whiteout { layer, path });
        }
        let Some(directory) = self.walk(directory).filter(|found| self.is_directory(*found)) else {
            return Ok(());
        };
        if name == OPAQUE {
            self.replace_directory(directory)?;
        } else if let Some(found) = self.find(directory, hidden) {
            self.remove(found);
        }
        Ok(())
    }

    fn add(&mut self, newcomer: Newcomer<'a>) -> Result<(), MergeError> {
        let is_directory = newcomer.member.kind == MemberKind::Directory;
        if newcomer.path.is_empty() {
            let root = self.grown.root;
            if !is_directory {
                return Err(MergeError::Root { layer: self.layer_name(newcomer.layer) });
            }
            self.grown.nodes[root as usize].inode = self.own_inode(newcomer);
            return Ok(());
        }
        let parent = self.parent_of(newcomer)?;
        let (_, begins, name) = newcomer.split();
        let inode = match newcomer.member.kind {
            MemberKind::HardLink => self.link_target(newcomer)?,
            _ => self.own_inode(newcomer),
        };
        let Some(found) = self.find(parent, name) else {
            return self.insert(parent, newcomer.name(begins, name), inode).map(drop);
        };
        let was_directory = self.is_directory(found);
        let may_replace = self.grown.rules == Rules::RootFilesystem || was_directory && is_directory;
        if !may_replace && !self.is_same(found, inode) {
            return Err(self.duplicate(found, newcomer));
        }
        if was_directory && !is_directory {
            self.remove(found);
            self.insert(parent, newcomer.name(begins, name), inode)?;
        } else {
            self.grown.nodes[found as usize].inode = inode;
        }
        Ok(())
    }

    /// The directory that a member goes to, made where it is missing.
    fn parent_of(&mut self, newcomer: Newcomer<'a>) -> Result<u32, MergeError> {
        let (directory, _, _) = newcomer.split();
        if directory.is_empty() {
            return Ok(self.grown.root);
        }
        if let Some((_, node)) = self.recent.filter(|(recent, _)| *recent == directory) {
            return Ok(node);
        }
        let mut at = self.grown.root;
        for (begins, name) in components(directory) {
            at = match self.find(at, name) {
                Some(found) if self.is_directory(found) => found,
                Some(found) if self.gives_way(found, newcomer.layer) => {
                    self.remove(found);
                    self.insert_implied(at, newcomer.name(begins, name))?
                }
                Some(found) => {
                    let (layer, path) = (self.layer_name(newcomer.layer), printable(newcomer.path));
                    let obstacle = printable(&self.grown.path_of(found));
                    return Err(MergeError::NotADirectory { layer, path, obstacle });
                }
                None => self.insert_implied(at, newcomer.name(begins, name))?,
            };
        }
        self.recent = Some((directory, at));
        Ok(at)
    }

    /// Whether something that is no directory lies below this layer, where a directory of the layer replaces it.
    fn gives_way(&self, node: u32, layer: u16) -> bool {
        let newest = self.grown.inode_of(node).layer.max(self.grown.nodes[node as usize].name.layer);
        self.grown.rules == Rules::RootFilesystem && newest < layer
    }

    fn link_target(&self, link: Newcomer<'a>) -> Result<u32, MergeError> {
        let (layer, path, target) =
            (|| self.layer_name(link.layer), || printable(link.path), || printable(link.member.link));
        let (_, name) = trim(link.member.link, self.grown.rules);
        let found = if name.is_empty() { None } else { self.walk(name) };
        // Among tars that are not layers of one image, each is a world of its own.
        let found = found.filter(|node| {
            self.grown.rules == Rules::RootFilesystem
                || self.is_directory(*node)
                || self.grown.inode_of(*node).layer == link.layer
        });
        match found {
            None => Err(MergeError::LinkTarget { layer: layer(), path: path(), target: target() }),
            Some(node) if self.is_directory(node) => {
                Err(MergeError::LinkToDirectory { layer: layer(), path: path(), target: target() })
            }
            Some(node) => Ok(self.grown.nodes[node as usize].inode),
        }
    }

    /// Whether a node shows what an inode holds, as far as names and places can tell.
    fn is_same(&self, node: u32, inode: u32) -> bool {
        let held = self.grown.nodes[node as usize].inode;
        if held == inode {
            return true;
        }
        let blob = |inode: Inode| self.grown.layers[usize::from(inode.layer)].blob;
        let (one, other) = (self.grown.inodes[held as usize], self.grown.inodes[inode as usize]);
        let (Some(a), Some(b)) = (member(self.grown.layers, one), member(self.grown.layers, other)) else {
            return false;
        };
        if a.kind != b.kind {
            return false;
        }
        match a.kind {
            MemberKind::Symlink => a.link == b.link,
            MemberKind::File if a.size == 0 => b.size == 0,
            MemberKind::File => (a.offset, a.size) == (b.offset, b.size) && blob(one) == blob(other),
            _ => false,
        }
    }

    fn duplicate(&self, found: u32, newcomer: Newcomer<'a>) -> MergeError {
        let first = self.layer_name(self.grown.nodes[found as usize].name.layer);
        let second = self.layer_name(newcomer.layer);
        MergeError::Duplicate { path: printable(newcomer.path), first, second }
    }

    fn is_directory(&self, node: u32) -> bool {
        self.grown.is_directory(node)
    }

    fn own_inode(&mut self, newcomer: Newcomer<'a>) -> u32 {
        let inode = self.grown.inodes.len() as u32;
        self.grown.inodes.push(Inode { member: newcomer.position, links: 0, layer: newcomer.layer });
        inode
    }

    fn insert_implied(&mut self, parent: u32, name: Name) -> Result<u32, MergeError> {
        let inode = self.grown.inodes.len() as u32;
        self.grown.inodes.push(Inode { member: IMPLIED, links: 0, layer: name.layer });
        self.insert(parent, name, inode)
    }

    fn insert(&mut self, parent: u32, name: Name, inode: u32) -> Result<u32, MergeError> {
        let node = self.push(|_| parent, name, inode)?;
        let Self { grown, names, hasher, .. } = self;
        let hash = |node: u32| {
            let GrownNode { parent, name, .. } = grown.nodes[node as usize];
            hasher.hash_one((parent, text(grown.layers, name)))
        };
        names.insert_unique(hash(node), node, |node| hash(*node));
        Ok(node)
    }

    /// A new node, which is told its own number to find its parent.
    fn push(&mut self, parent: impl FnOnce(u32) -> u32, name: Name, inode: u32) -> Result<u32, MergeError> {
        if self.grown.nodes.len() > MAX_ENTRIES {
            return Err(MergeError::TooManyEntries);
        }
        let node = self.grown.nodes.len() as u32;
        self.grown.nodes.push(GrownNode { parent: parent(node), inode, name, removed: false });
        Ok(node)
    }

    fn find(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one((parent, name));
        let is_it = |node: &u32| {
            let node = self.grown.nodes[*node as usize];
            node.parent == parent && text(self.grown.layers, node.name) == name
        };
        self.names.find(hash, is_it).copied()
    }

    /// The node at a path, through directories only.
    fn walk(&self, path: &[u8]) -> Option<u32> {
        if path.is_empty() {
            return Some(self.grown.root);
        }
        components(path).try_fold(self.grown.root, |at, (_, name)| self.find(at, name))
    }

    /// Takes a node and all beneath it out of reach.
    fn remove(&mut self, node: u32) {
        self.recent = None;
        let GrownNode { parent, name, .. } = self.grown.nodes[node as usize];
        self.grown.nodes[node as usize].removed = true;
        let hash = self.hasher.hash_one((parent, text(self.grown.layers, name)));
        if let Ok(found) = self.names.find_entry(hash, |other| *other == node) {
            found.remove();
        }
    }

    /// Empties a directory: another node takes its place.
    fn replace_directory(&mut self, node: u32) -> Result<(), MergeError> {
        let GrownNode { parent, inode, name, .. } = self.grown.nodes[node as usize];
        if node != self.grown.root {
            self.remove(node);
            return self.insert(parent, name, inode).map(drop);
        }
        self.recent = None;
        self.grown.nodes[node as usize].removed = true;
        self.grown.root = self.push(|root| root, name, inode)?;
        Ok(())
    }
}

impl Grown<'_> {
    pub(super) fn inode_of(&self, node: u32) -> Inode {
        self.inodes[self.nodes[node as usize].inode as usize]
    }

    pub(super) fn is_directory(&self, node: u32) -> bool {
        member(self.layers, self.inode_of(node)).is_none_or(|member| member.kind == MemberKind::Directory)
    }

    /// The path of a node from the root of the tree.
    pub(super) fn path_of(&self, node: u32) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = node;
        while self.nodes[at as usize].parent != at {
            names.push(text(self.layers, self.nodes[at as usize].name));
            at = self.nodes[at as usize].parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

fn is_whiteout(path: &[u8]) -> bool {
    let (_, path) = trim(path, Rules::RootFilesystem);
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    name.starts_with(WHITEOUT)
}
