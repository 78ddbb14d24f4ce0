//! Directory trees in memory: made at random, put on disk, read back from a mount, compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::chance::Chance;

/// Path to item; the empty path is the root.
pub(crate) type Tree = BTreeMap<Vec<u8>, Item>;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) what: What,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    /// How many names a file has; nothing for directories made at random.
    pub(crate) links: u64,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, mode, owner, mtime, links } = self;
        write!(f, "{what:?} {mode:o} {owner:?} {mtime:?} {links} links")
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    /// Another name of the file with this path, which sorts before.
    Link(Vec<u8>),
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory => write!(f, "directory"),
            Self::File(bytes) => write!(f, "file of {} bytes", bytes.len()),
            Self::Symlink(target) => write!(f, "symlink to {}", String::from_utf8_lossy(target)),
            Self::Link(first) => write!(f, "link to {}", String::from_utf8_lossy(first)),
        }
    }
}

/// What a format of tars can hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) path: usize,
    pub(crate) symlink: usize,
    pub(crate) owner: u32,
    pub(crate) nanoseconds: bool,
    pub(crate) before_1970: bool,
    pub(crate) utf_8_only: bool,
}

impl Bounds {
    pub(crate) const V7: Self = Self {
        path: 90,
        symlink: 99,
        owner: 0o7_777_777,
        nanoseconds: false,
        before_1970: false,
        utf_8_only: false,
    };
    /// The prefix must end at a slash, so not every path fits.
    pub(crate) const USTAR: Self = Self { path: 95, ..Self::V7 };
    pub(crate) const GNU: Self =
        Self { path: 3000, symlink: 4000, owner: u32::MAX - 1, before_1970: true, ..Self::V7 };
    pub(crate) const PAX: Self = Self { nanoseconds: true, ..Self::GNU };
}

/// A tree of up to `most` items.
pub(crate) fn random(chance: &mut Chance, most: usize, bounds: Bounds) -> Tree {
    let mut tree = Tree::new();
    tree.insert(Vec::new(), item(chance, What::Directory, bounds));
    let mut directories = vec![Vec::new()];
    let mut files: Vec<Vec<u8>> = Vec::new();
    for _ in 0..chance.below(most) {
        let parent = chance.pick(&directories).clone();
        let mut path = parent;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name(chance, bounds));
        let depth = path.split(|byte| *byte == b'/').count();
        if path.len() > bounds.path || depth > 60 || tree.contains_key(&path) {
            continue;
        }
        let what = match chance.below(10) {
            0..3 => What::Directory,
            3 => What::Symlink(target(chance, bounds)),
            4 if !files.is_empty() => {
                let first = chance.pick(&files).clone();
                let mut same = tree[&first].clone();
                same.what = What::Link(first);
                tree.insert(path, same);
                continue;
            }
            _ => {
                let length = *chance.pick(&[0, 1, 100, 511, 512, 513, 1024, 4096, 5000, 70_000]);
                What::File(chance.bytes(length))
            }
        };
        match what {
            What::Directory => directories.push(path.clone()),
            What::File(_) => files.push(path.clone()),
            _ => {}
        }
        let item = item(chance, what, bounds);
        tree.insert(path, item);
    }
    normalize(tree)
}

fn item(chance: &mut Chance, what: What, bounds: Bounds) -> Item {
    let mode =
        if chance.one_in(3) { chance.below(0o10_000) as u32 } else { *chance.pick(&[0o644, 0o755, 0o600]) };
    let largest = u64::from(bounds.owner) + 1;
    let mut id = || if chance.one_in(2) { 0 } else { (chance.next() % largest) as u32 };
    let owner = (id(), id());
    let mut seconds = (chance.next() % 2_000_000_000).cast_signed();
    if bounds.before_1970 && chance.one_in(8) {
        seconds = -(seconds % 1_000_000_000);
    }
    let nanos = if bounds.nanoseconds { (chance.next() % 1_000_000_000).cast_signed() } else { 0 };
    Item { what, mode, owner, mtime: (seconds, nanos), links: 1 }
}

fn name(chance: &mut Chance, bounds: Bounds) -> Vec<u8> {
    let odd: &[&str] =
        &["-x", ".-", "...", "!", " ", "~", "ü", "模型", "a b", "\\", "$(x)", "..a", ".hidden", "'\"", "*"];
    let length = match chance.below(12) {
        0 => 1,
        1 if bounds.path > 255 => 255,
        2 if bounds.path > 255 => 100 + chance.below(100),
        3 => return chance.pick(odd).as_bytes().to_vec(),
        4 if !bounds.utf_8_only => return vec![b'n', 0xe9, 0xff, b'0' + chance.below(10) as u8],
        _ => 1 + chance.below(12),
    };
    (0..length).map(|_| b'a' + chance.below(26) as u8).collect()
}

fn target(chance: &mut Chance, bounds: Bounds) -> Vec<u8> {
    let length = match chance.below(6) {
        0 => bounds.symlink,
        1 => bounds.symlink.min(430 + chance.below(40)),
        2 => return b"/etc/passwd".to_vec(),
        3 => return b"../../..".to_vec(),
        _ => 1 + chance.below(30),
    };
    (0..length).map(|at| if at % 200 == 199 { b'/' } else { b'a' + chance.below(26) as u8 }).collect()
}

/// The first name of a file in the order of paths holds its content, and all know how many there are.
fn normalize(tree: Tree) -> Tree {
    let mut groups: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for (path, item) in &tree {
        match &item.what {
            What::File(_) => groups.entry(path.clone()).or_default().push(path.clone()),
            What::Link(first) => groups.entry(first.clone()).or_default().push(path.clone()),
            _ => {}
        }
    }
    let mut tree = tree;
    for (content, names) in groups {
        let whole = tree[&content].clone();
        let first = names.iter().min().unwrap_or(&content).clone();
        for name in &names {
            let what = if *name == first { whole.what.clone() } else { What::Link(first.clone()) };
            tree.insert(name.clone(), Item { what, links: names.len() as u64, ..whole.clone() });
        }
    }
    tree
}

/// What a volume shows of a tree: modes after the mask, links of directories counted.
pub(crate) fn as_volume(tree: &Tree) -> Tree {
    let mut shown = tree.clone();
    for (path, item) in &mut shown {
        match item.what {
            What::Directory => {
                item.mode = 0o555 | item.mode & 0o200;
                let depth =
                    |path: &[u8]| if path.is_empty() { 0 } else { path.split(|b| *b == b'/').count() };
                let is_in = |other: &[u8]| {
                    depth(other) == depth(path) + 1
                        && (path.is_empty()
                            || other.strip_prefix(&path[..]).is_some_and(|rest| rest[0] == b'/'))
                };
                let inside = tree.iter().filter(|(other, item)| item.what == What::Directory && is_in(other));
                item.links = 2 + inside.count() as u64;
            }
            What::Symlink(_) => item.mode = 0o777,
            What::File(_) | What::Link(_) => {
                let execute = if item.mode & 0o755 & 0o111 == 0 { 0 } else { 0o111 };
                item.mode = item.mode & 0o755 | 0o444 | execute;
            }
        }
    }
    shown
}

/// Makes the tree in an empty directory. Needs root.
pub(crate) fn put_on_disk(tree: &Tree, root: &Path) -> Result<()> {
    for (path, item) in tree {
        let at = on_disk(root, path);
        let made = match &item.what {
            What::Directory if path.is_empty() => Ok(()),
            What::Directory => std::fs::create_dir(&at),
            What::File(bytes) => std::fs::write(&at, bytes),
            What::Symlink(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), &at),
            What::Link(first) => std::fs::hard_link(on_disk(root, first), &at),
        };
        made.with_context(|| format!("cannot make {}", at.display()))?;
    }
    // Deepest first, because whatever is made in a directory sets its time.
    for (path, item) in tree.iter().rev() {
        let at = on_disk(root, path);
        std::os::unix::fs::lchown(&at, Some(item.owner.0), Some(item.owner.1))?;
        if !matches!(item.what, What::Symlink(_)) {
            std::fs::set_permissions(&at, PermissionsExt::from_mode(item.mode))?;
        }
        let time = Timespec { tv_sec: item.mtime.0, tv_nsec: item.mtime.1 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn on_disk(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(path)) }
}

/// Reads everything that a directory shows, each file to its end.
pub(crate) fn read_back(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut first_names: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut open: Vec<Vec<u8>> = vec![Vec::new()];
    let mut paths = vec![Vec::new()];
    while let Some(directory) = open.pop() {
        let at = on_disk(root, &directory);
        for entry in std::fs::read_dir(&at).with_context(|| format!("cannot list {}", at.display()))? {
            let entry = entry?;
            let mut path = directory.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(entry.file_name().into_vec());
            if entry.file_type()?.is_dir() {
                open.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let at = on_disk(root, &path);
        let found =
            std::fs::symlink_metadata(&at).with_context(|| format!("cannot look at {}", at.display()))?;
        let what = if found.is_dir() {
            What::Directory
        } else if found.is_symlink() {
            What::Symlink(std::fs::read_link(&at)?.into_os_string().into_vec())
        } else if !found.is_file() {
            bail!("{} is neither file nor directory nor symlink", at.display());
        } else if let Some(first) = first_names.get(&found.ino()) {
            What::Link(first.clone())
        } else {
            first_names.insert(found.ino(), path.clone());
            let bytes = std::fs::read(&at).with_context(|| format!("cannot read {}", at.display()))?;
            if bytes.len() as u64 != found.len() {
                bail!("{} has {} bytes and {} could be read", at.display(), found.len(), bytes.len());
            }
            What::File(bytes)
        };
        let item = Item {
            what,
            mode: found.mode() & 0o7777,
            owner: (found.uid(), found.gid()),
            mtime: (found.mtime(), found.mtime_nsec()),
            links: found.nlink(),
        };
        tree.insert(path, item);
    }
    Ok(tree)
}

/// Says in which items two trees differ; nothing when they do not.
pub(crate) fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let name = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let mut differences = Vec::new();
    for (path, item) in expected {
        match found.get(path) {
            None => differences.push(format!("`{}` is missing: {item:?}", name(path))),
            Some(other) if other != item => {
                differences.push(format!("`{}` should be {item:?} and is {other:?}", name(path)));
            }
            Some(_) => {}
        }
    }
    let more = found.keys().filter(|path| !expected.contains_key(*path));
    differences.extend(more.map(|path| format!("`{}` should not be there", name(path))));
    differences
}
