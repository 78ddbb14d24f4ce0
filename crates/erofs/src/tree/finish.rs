//! From the grown tree to the one that is wanted: selected, checked, sorted.

use super::grow::{Grown, GrownNode};
use super::path::{components, leads_out};
use super::{Device, IMPLIED, Inode, Layer, MergeError, Node, Rules, Selection, Skipped, Tree, member, text};
use crate::BLOCK;
use crate::index::{Member, MemberKind};
use crate::tar::printable;

/// The longest target of a symlink that Linux follows.
const MAX_TARGET_BYTES: usize = 4095;

pub(super) fn finish<'a>(grown: Grown<'a>, selection: Selection<'_>) -> Result<Tree<'a>, MergeError> {
    let mut choice = Choice::new(&grown, selection)?;
    choice.drop_unwanted(selection);
    let skipped = choice.drop_specials()?;
    choice.check_members()?;
    let Choice { root, chosen, .. } = choice;
    let mut tree = arrange(grown, root, &chosen);
    tree.skipped = skipped;
    Ok(tree)
}

/// Which nodes belong to the tree.
struct Choice<'t, 'a> {
    grown: &'t Grown<'a>,
    root: u32,
    chosen: Vec<bool>,
}

impl<'t, 'a> Choice<'t, 'a> {
    /// All that can be reached from the root, or from the directory that takes its place.
    fn new(grown: &'t Grown<'a>, selection: Selection<'_>) -> Result<Self, MergeError> {
        let reachable = beneath(grown, grown.root);
        let Some(path) = selection.sub_path else {
            return Ok(Self { grown, root: grown.root, chosen: reachable });
        };
        let mut at = grown.root;
        for (_, name) in components(path.as_str().as_bytes()) {
            let is_it =
                |(node, _): &(&GrownNode, u32)| node.parent == at && text(grown.layers, node.name) == name;
            let reachable = |node: &u32| reachable[*node as usize] && *node != at;
            let found = grown.nodes.iter().zip(0u32..).filter(is_it).map(|(_, node)| node).find(reachable);
            at = found.ok_or_else(|| MergeError::NoSubPath { path: path.to_string() })?;
        }
        if !grown.is_directory(at) {
            return Err(MergeError::SubPathIsNoDirectory { path: path.to_string() });
        }
        Ok(Self { grown, root: at, chosen: beneath(grown, at) })
    }

    fn nodes(&self) -> impl DoubleEndedIterator<Item = u32> + use<> {
        0..self.grown.nodes.len() as u32
    }

    fn is_chosen(&self, node: u32) -> bool {
        self.chosen[node as usize]
    }

    fn drop_unwanted(&mut self, selection: Selection<'_>) {
        let Some(keep) = selection.keep else { return };
        let parent = |node: u32| self.grown.nodes[node as usize].parent as usize;
        let mut was_empty = vec![true; self.grown.nodes.len()];
        let mut has_wanted = vec![false; self.grown.nodes.len()];
        for node in self.nodes().filter(|node| self.is_chosen(*node) && *node != self.root) {
            was_empty[parent(node)] = false;
        }
        // Children stand behind their parents: this way they come first.
        for node in self.nodes().rev() {
            if !self.is_chosen(node) || node == self.root {
                continue;
            }
            let asked = !self.grown.is_directory(node) || was_empty[node as usize];
            let wanted = if asked {
                keep(&String::from_utf8_lossy(&self.grown.path_of(node)))
            } else {
                has_wanted[node as usize]
            };
            has_wanted[parent(node)] |= wanted;
            self.chosen[node as usize] = wanted;
        }
    }

    /// Takes out what an image may not hold, and refuses it elsewhere.
    fn drop_specials(&mut self) -> Result<Vec<Skipped>, MergeError> {
        let mut skipped = Vec::new();
        for node in self.nodes().filter(|node| self.is_chosen(*node)) {
            let Some(member) = member(self.grown.layers, self.grown.inode_of(node)) else { continue };
            let (what, may_be_skipped) = match member.kind {
                MemberKind::CharacterDevice | MemberKind::BlockDevice => ("a device", true),
                MemberKind::Fifo => ("a named pipe", true),
                MemberKind::Sparse => ("a sparse file, stored without its holes", false),
                MemberKind::Continuation => ("the rest of a file from another volume of the archive", false),
                MemberKind::File | MemberKind::Directory | MemberKind::Symlink | MemberKind::HardLink => {
                    continue;
                }
            };
            let path = self.grown.path_of(node);
            if !(may_be_skipped && self.grown.rules == Rules::RootFilesystem) {
                let (layer, path) = (self.layer(node), printable(&path));
                return Err(MergeError::Special { layer, path, what });
            }
            skipped.push((node, Skipped { path, kind: member.kind }));
        }
        for (node, _) in &skipped {
            self.chosen[*node as usize] = false;
        }
        Ok(skipped.into_iter().map(|(_, skipped)| skipped).collect())
    }

    fn check_members(&self) -> Result<(), MergeError> {
        for node in self.nodes().filter(|node| self.is_chosen(*node)) {
            let inode = self.grown.inode_of(node);
            let Some(member) = member(self.grown.layers, inode) else { continue };
            let path = || printable(&self.grown.path_of(node));
            match member.kind {
                MemberKind::Symlink => {
                    if let Some(problem) = self.symlink_problem(node, member) {
                        let (layer, target) = (self.layer(node), printable(member.link));
                        return Err(MergeError::Symlink { layer, path: path(), target, problem });
                    }
                }
                MemberKind::File if member.size > 0 => {
                    let tar_blocks = self.grown.layers[usize::from(inode.layer)].index.tar_bytes() / BLOCK;
                    if (member.offset + member.size).div_ceil(BLOCK) > tar_blocks {
                        return Err(MergeError::Unpadded { layer: self.layer(node), path: path() });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn symlink_problem(&self, node: u32, member: Member<'_>) -> Option<&'static str> {
        match member.link {
            [] => Some("is nothing"),
            target if target.contains(&0) => Some("has a NUL"),
            target if target.len() > MAX_TARGET_BYTES => Some("is longer than 4095 bytes"),
            _ if self.grown.rules == Rules::RootFilesystem => None,
            target => leads_out(target, self.depth_of_parent(node)),
        }
    }

    /// How many directories lie between the root that was chosen and a node.
    fn depth_of_parent(&self, node: u32) -> usize {
        let mut depth = 0;
        let mut at = self.grown.nodes[node as usize].parent;
        while at != self.root {
            depth += 1;
            at = self.grown.nodes[at as usize].parent;
        }
        depth
    }

    fn layer(&self, node: u32) -> String {
        self.grown.layers[usize::from(self.grown.inode_of(node).layer)].name.to_owned()
    }
}

/// Which nodes are a directory or lie beneath it, and are not removed.
fn beneath(grown: &Grown<'_>, root: u32) -> Vec<bool> {
    let mut found = vec![false; grown.nodes.len()];
    found[root as usize] = true;
    for (node, at) in grown.nodes.iter().zip(0u32..) {
        if at != root {
            found[at as usize] = !node.removed && found[node.parent as usize];
        }
    }
    found
}

/// Puts the chosen nodes in order: by depth, then by directory, then by name.
fn arrange<'a>(grown: Grown<'a>, root: u32, chosen: &[bool]) -> Tree<'a> {
    let layers = grown.layers;
    let mut order: Vec<u32> =
        (0..grown.nodes.len() as u32).filter(|node| chosen[*node as usize] && *node != root).collect();
    let parent = |node: u32| grown.nodes[node as usize].parent;
    let name = |node: u32| text(layers, grown.nodes[node as usize].name);
    order.sort_unstable_by(|a, b| parent(*a).cmp(&parent(*b)).then_with(|| name(*a).cmp(name(*b))));
    // Where the children of each node begin in `order`.
    let mut begins = vec![0u32; grown.nodes.len() + 1];
    for node in &order {
        begins[parent(*node) as usize + 1] += 1;
    }
    for at in 1..begins.len() {
        begins[at] += begins[at - 1];
    }
    let node_of = |grown_node: u32, parent: u32| {
        let GrownNode { inode, name, .. } = grown.nodes[grown_node as usize];
        let children = begins[grown_node as usize + 1] - begins[grown_node as usize];
        // For a moment, where the children are in `order`.
        Node { inode, parent, first_child: begins[grown_node as usize], children, name }
    };
    let mut nodes = Vec::with_capacity(order.len() + 1);
    nodes.push(node_of(root, 0));
    let mut at = 0;
    while at < nodes.len() {
        let Node { first_child, children, .. } = nodes[at];
        nodes[at].first_child = nodes.len() as u32;
        for child in &order[first_child as usize..][..children as usize] {
            nodes.push(node_of(*child, at as u32));
        }
        at += 1;
    }
    drop((order, begins));
    let inodes = count_links(&mut nodes, grown.inodes, layers);
    let mut tree =
        Tree { layers, nodes, inodes, devices: Vec::new(), slots: Vec::new(), skipped: Vec::new(), bytes: 0 };
    find_devices(&mut tree);
    tree
}

/// Leaves only inodes that nodes use, in the order of their first node, with the number of their links.
fn count_links(nodes: &mut [Node], mut grown: Vec<Inode>, layers: &[Layer<'_>]) -> Vec<Inode> {
    let mut inodes: Vec<Inode> = Vec::with_capacity(nodes.len());
    let is_directory =
        |inode: Inode| member(layers, inode).is_none_or(|member| member.kind == MemberKind::Directory);
    for at in 0..nodes.len() {
        let old = nodes[at].inode as usize;
        let directory = is_directory(grown[old]);
        // While `links` is 0 the inode is new; afterwards it stands for the new position, and the count is in the new one.
        let new = match grown[old].links {
            0 => {
                inodes.push(Inode { links: u32::from(directory), ..grown[old] });
                grown[old].links = inodes.len() as u32;
                inodes.len() - 1
            }
            position => position as usize - 1,
        };
        nodes[at].inode = new as u32;
        inodes[new].links += 1;
        if directory && at > 0 {
            let parent = nodes[nodes[at].parent as usize].inode;
            inodes[parent as usize].links += 1;
        }
    }
    inodes
}

/// Numbers the blobs that files point into, in the order of the layers.
fn find_devices(tree: &mut Tree<'_>) {
    let mut used = vec![false; tree.layers.len()];
    for inode in tree.inodes.iter().filter(|inode| inode.member != IMPLIED) {
        let Some(member) = member(tree.layers, *inode) else { continue };
        if member.kind == MemberKind::File && member.size > 0 {
            used[usize::from(inode.layer)] = true;
            tree.bytes += member.size;
        }
    }
    let mut numbers: std::collections::HashMap<&str, u16> = std::collections::HashMap::new();
    for (layer, used) in tree.layers.iter().zip(used) {
        if !used {
            tree.slots.push(0);
            continue;
        }
        let next = tree.devices.len() as u16 + 1;
        let number = *numbers.entry(layer.blob).or_insert(next);
        if number == next {
            // An index holds no file beyond the highest block number, but the tar may go on.
            let blocks = u32::try_from(layer.index.tar_bytes() / BLOCK).unwrap_or(u32::MAX);
            tree.devices.push(Device { blob: layer.blob, blocks });
        }
        tree.slots.push(number);
    }
}
