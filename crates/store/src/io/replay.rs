//! What a power cut may leave of a logged run: everything that was synced, and any part of the rest.
//!
//! The model is harsher than a journalling filesystem: each directory keeps some prefix of its unsynced changes
//! for itself, and each file any selection of its unsynced writes.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};

use super::Op;

/// What happens to changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of them are lost.
    Everything,
    /// None is lost, as after a crash of the process alone.
    Nothing,
    /// Some are lost; the seed decides which.
    Some(u64),
}

#[derive(Debug)]
enum Change {
    Write(u64, std::sync::Arc<[u8]>),
    Length(u64),
    Mode(u32),
}

#[derive(Debug)]
enum NameChange {
    Add(String, usize),
    Remove(String),
}

#[derive(Debug, Default)]
struct Node {
    is_dir: bool,
    mode: u32,
    bytes: Vec<u8>,
    changes: Vec<Change>,
    names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    current: BTreeMap<String, usize>,
}

impl Node {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(offset, bytes) => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if self.bytes.len() < end {
                    self.bytes.resize(end, 0);
                }
                self.bytes[start..end].copy_from_slice(bytes);
            }
            Change::Length(length) => self.bytes.resize(*length as usize, 0),
            Change::Mode(mode) => self.mode = *mode,
        }
    }

    fn apply_name(names: &mut BTreeMap<String, usize>, change: &NameChange) {
        match change {
            NameChange::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
        }
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            self.apply(&change);
        }
        for change in std::mem::take(&mut self.name_changes) {
            Self::apply_name(&mut self.names, &change);
        }
    }

    fn change_name(&mut self, change: NameChange) {
        Self::apply_name(&mut self.current, &change);
        self.name_changes.push(change);
    }

    fn lose(&mut self, loss: &mut impl FnMut() -> u64, keep_all: bool, keep_none: bool) {
        let keep = if keep_all {
            self.name_changes.len()
        } else if keep_none {
            0
        } else {
            (loss() % (self.name_changes.len() as u64 + 1)) as usize
        };
        self.name_changes.truncate(keep);
        self.changes.retain(|_| keep_all || (!keep_none && loss().is_multiple_of(2)));
        self.sync();
    }
}

/// A disk in memory that has seen a log.
#[derive(Debug)]
struct Disk {
    nodes: Vec<Node>,
    files: HashMap<u64, usize>,
}

impl Disk {
    fn new() -> Self {
        Self { nodes: vec![Node { is_dir: true, mode: 0o700, ..Node::default() }], files: HashMap::new() }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        path.components().try_fold(0, |node, component| match component {
            Component::Normal(name) => {
                let name = name.to_string_lossy();
                let next = self.nodes[node].current.get(name.as_ref()).copied();
                next.ok_or_else(|| missing(path))
            }
            _ => Ok(node),
        })
    }

    fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or_else(|| missing(path))?.to_string_lossy().into_owned();
        Ok((self.find(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn add(&mut self, path: &Path, node: usize) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        self.nodes[parent].change_name(NameChange::Add(name, node));
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        self.nodes[parent].change_name(NameChange::Remove(name));
        Ok(())
    }

    fn make(&mut self, path: &Path, is_dir: bool, mode: u32) -> io::Result<usize> {
        let node = self.nodes.len();
        self.nodes.push(Node { is_dir, mode, ..Node::default() });
        self.add(path, node)?;
        Ok(node)
    }

    fn file(&mut self, id: u64) -> io::Result<&mut Node> {
        let node = *self.files.get(&id).ok_or_else(|| missing(Path::new("an open file")))?;
        Ok(&mut self.nodes[node])
    }

    fn see(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::MakeDir(path, mode) => {
                self.make(path, true, *mode)?;
            }
            Op::Create(path, id, mode) => {
                let node = self.make(path, false, *mode)?;
                self.files.insert(*id, node);
            }
            Op::Open(path, id) => {
                let node = self.find(path)?;
                self.files.insert(*id, node);
            }
            Op::Write(id, offset, bytes) => {
                self.file(*id)?.changes.push(Change::Write(*offset, bytes.clone()));
            }
            Op::SetLength(id, length) => self.file(*id)?.changes.push(Change::Length(*length)),
            Op::FileMode(id, mode) => self.file(*id)?.changes.push(Change::Mode(*mode)),
            Op::Mode(path, mode) => {
                let node = self.find(path)?;
                self.nodes[node].changes.push(Change::Mode(*mode));
            }
            Op::SyncFile(id) => self.file(*id)?.sync(),
            Op::SyncDir(path) => {
                let node = self.find(path)?;
                self.nodes[node].sync();
            }
            Op::Rename(from, to) => {
                let node = self.find(from)?;
                self.remove(from)?;
                self.add(to, node)?;
            }
            Op::Link(from, to) => {
                let node = self.find(from)?;
                self.add(to, node)?;
            }
            Op::Unlink(path) | Op::RemoveDir(path) => self.remove(path)?,
        }
        Ok(())
    }

    fn write_out(
        &self,
        node: usize,
        path: &Path,
        seen: &mut HashMap<usize, std::path::PathBuf>,
    ) -> io::Result<()> {
        let this = &self.nodes[node];
        if !this.is_dir {
            if let Some(first) = seen.get(&node) {
                return fs::hard_link(first, path);
            }
            fs::write(path, &this.bytes)?;
            seen.insert(node, path.to_owned());
            return fs::set_permissions(path, fs::Permissions::from_mode(this.mode));
        }
        if !path.exists() {
            fs::create_dir(path)?;
        }
        for (name, inner) in &this.names {
            self.write_out(*inner, &path.join(name), seen)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(this.mode))
    }
}

/// Writes into the empty directory `into` what is left of a store whose whole life is `log`.
pub fn replay(log: &[Op], loss: Loss, into: &Path) -> io::Result<()> {
    let mut disk = Disk::new();
    for op in log {
        disk.see(op)?;
    }
    let mut state = match loss {
        Loss::Some(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        Loss::Everything | Loss::Nothing => 1,
    };
    // xorshift64: small, and the same everywhere.
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    for node in &mut disk.nodes {
        node.lose(&mut next, loss == Loss::Nothing, loss == Loss::Everything);
    }
    disk.write_out(0, into, &mut HashMap::new())
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the log names {}, which it never made", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn left_of(log: &[Op], loss: Loss) -> BTreeMap<String, Vec<u8>> {
        let root = tempfile::tempdir().unwrap();
        replay(log, loss, root.path()).unwrap();
        fs::read_dir(root.path())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    #[test]
    fn only_what_was_synced_is_sure_to_stay() {
        let name = |text: &str| PathBuf::from(text);
        let log = [
            Op::Create(name("a"), 1, 0o600),
            Op::Write(1, 0, (*b"old").into()),
            Op::SyncFile(1),
            Op::SyncDir(name("")),
            Op::Write(1, 0, (*b"new").into()),
            Op::Rename(name("a"), name("b")),
        ];
        let old = BTreeMap::from([("a".to_owned(), b"old".to_vec())]);
        let new = BTreeMap::from([("b".to_owned(), b"new".to_vec())]);
        assert_eq!(left_of(&log, Loss::Everything), old);
        assert_eq!(left_of(&log, Loss::Nothing), new);
        let some: std::collections::BTreeSet<_> =
            (0..64).map(|seed| left_of(&log, Loss::Some(seed))).collect();
        assert!(some.len() > 2, "a seed decides what is lost: {some:?}");
    }
}
