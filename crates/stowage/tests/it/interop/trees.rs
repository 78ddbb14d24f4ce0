//! Trees of files: planted for a client to push, and as a volume shows them.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use stowage_artifact::Digest;
use stowage_testkit::BlobData;

use crate::harness::digest_of;

/// When everything that is planted was changed, in seconds: some clients keep no fractions.
pub(super) const MODIFIED: u64 = 1_700_000_000;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Directory,
    File(u64, Digest),
    Symlink(PathBuf),
    Other,
}

/// What is at a path, and what the file system says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) content: Content,
    /// Permissions; a symlink has none.
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    /// Seconds; a symlink's are not compared.
    pub(super) modified: i64,
}

/// Everything below a directory, by its path.
pub(super) type Tree = BTreeMap<String, Entry>;

/// Something to plant.
pub(super) enum Seed<'a> {
    Directory(u32),
    File(u32, &'a str),
    Data(u32, &'a BlobData),
    Symlink(&'a str),
}

/// Makes these, with the directories that lead there.
pub(super) fn plant(root: &Path, seeds: &[(&str, Seed<'_>)]) {
    std::fs::create_dir_all(root).unwrap();
    for (name, seed) in seeds {
        let path = root.join(name);
        for parent in Path::new(name).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            make_directory(&root.join(parent), 0o755);
        }
        match seed {
            Seed::Directory(mode) => {
                make_directory(&path, *mode);
                std::fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
            }
            Seed::File(mode, text) => write(&path, text.as_bytes(), *mode),
            Seed::Data(mode, data) => write(&path, &data.read_range(0..data.size()).unwrap(), *mode),
            Seed::Symlink(target) => symlink(target, &path).unwrap(),
        }
    }
    date(root);
}

fn make_directory(path: &Path, mode: u32) {
    if !path.exists() {
        std::fs::create_dir(path).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Gives everything at and below a path its time.
pub(super) fn date(path: &Path) {
    let kind = path.symlink_metadata().unwrap().file_type();
    if kind.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            date(&entry.unwrap().path());
        }
    }
    if kind.is_dir() || kind.is_file() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED);
        File::open(path).unwrap().set_modified(time).unwrap();
    }
}

/// Everything below a directory as it is.
pub(super) fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            tree.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), read(&path));
            if path.symlink_metadata().unwrap().is_dir() {
                open.push(path);
            }
        }
    }
    tree
}

fn read(path: &Path) -> Entry {
    let found = path.symlink_metadata().unwrap();
    let kind = found.file_type();
    let content = if kind.is_dir() {
        Content::Directory
    } else if kind.is_file() {
        Content::File(found.len(), digest_of(path))
    } else if kind.is_symlink() {
        Content::Symlink(path.read_link().unwrap())
    } else {
        assert!(kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket());
        Content::Other
    };
    let (mode, modified) = if kind.is_symlink() { (0, 0) } else { (found.mode() & 0o7777, found.mtime()) };
    Entry { content, mode, owner: (found.uid(), found.gid()), modified }
}

/// A tree as a volume shows it: readable by everybody, nothing setuid, and no devices or pipes.
pub(super) fn shown(mut tree: Tree) -> Tree {
    tree.retain(|_, entry| entry.content != Content::Other);
    for entry in tree.values_mut() {
        if !matches!(entry.content, Content::Symlink(_)) {
            entry.mode = entry.mode & 0o755 | 0o444;
            if entry.content == Content::Directory || entry.mode & 0o111 != 0 {
                entry.mode |= 0o111;
            }
        }
    }
    tree
}

/// Without the times, where a client makes its own.
pub(super) fn undated(mut tree: Tree) -> Tree {
    for entry in tree.values_mut() {
        entry.modified = 0;
    }
    tree
}
