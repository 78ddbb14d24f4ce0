//! A tree of hard links, built from directory descriptors: no path is ever resolved twice, no symlink followed.

use std::collections::HashMap;

use stowage_artifact::digest::Digest;

use super::File;
use crate::error::StoreError;
use crate::io::{Dir, IoError};
use crate::names::{Sibling, TREE};
use crate::store::Inner;

/// The mode of every directory of a volume. It is the root of a mount, so it must be open to everyone; what keeps
/// others out of the store are the directories above it.
const DIRECTORY_MODE: u32 = 0o555;
const EXECUTABLE_BITS: u32 = 0o111;

/// The directories from the root of the tree down to the one that is being filled.
struct Walk {
    open: Vec<(String, Dir)>,
    made: usize,
}

/// Builds `tree/` in `staging`. Returns how many directories it has. `files` are sorted by path.
pub(super) fn build(store: &Inner, files: &[File], staging: &Dir) -> Result<usize, StoreError> {
    staging.make_dir("view.mkdir", TREE, 0o700)?;
    let root = staging.open_dir(TREE)?;
    let mut walk = Walk { open: vec![(String::new(), root)], made: 1 };
    let mut executable: HashMap<&Digest, bool> = HashMap::new();
    let mut used: HashMap<(&Digest, bool), Sibling> = HashMap::new();
    for file in files {
        let dir = walk.enter(file)?;
        let wants_bit = file.mode & EXECUTABLE_BITS != 0;
        let gets_bit = wants_bit
            && if let Some(known) = executable.get(&file.digest) {
                *known
            } else {
                let found = store.is_executable(&file.digest)?;
                executable.insert(&file.digest, found);
                found
            };
        let key = (&file.digest, gets_bit);
        let from = used.get(&key).copied().unwrap_or(Sibling { executable: gets_bit, number: 0 });
        let sibling = store.link_blob(&file.digest, from, dir, file.path.file_name())?;
        used.insert(key, sibling);
    }
    let made = walk.made;
    while let Some((_, dir)) = walk.open.pop() {
        close(&dir)?;
    }
    // All names first, then the syncs: the first commits the filesystem's journal for the others.
    sync_tree(&staging.open_dir(TREE)?)?;
    Ok(made)
}

impl Walk {
    /// The directory of a file, closing those that are complete and making those that are missing.
    fn enter(&mut self, file: &File) -> Result<&Dir, IoError> {
        let parents: Vec<&str> =
            file.path.components().rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect();
        let shared =
            self.open[1..].iter().zip(&parents).take_while(|((open, _), parent)| open == *parent).count();
        while self.open.len() > shared + 1 {
            if let Some((_, dir)) = self.open.pop() {
                close(&dir)?;
            }
        }
        for parent in &parents[shared..] {
            let above = &self.open[self.open.len() - 1].1;
            above.make_dir("view.mkdir", parent, 0o700)?;
            let dir = above.open_dir(parent)?;
            self.made += 1;
            self.open.push(((*parent).to_owned(), dir));
        }
        Ok(&self.open[self.open.len() - 1].1)
    }
}

/// A directory that has all its names.
fn close(dir: &Dir) -> Result<(), IoError> {
    dir.fix_times_self("view.times")?;
    dir.chmod_self("view.chmod", DIRECTORY_MODE)
}

fn sync_tree(dir: &Dir) -> Result<(), IoError> {
    for name in dir.names()? {
        if dir.stat(&name)?.is_some_and(|found| found.kind == crate::io::Kind::Directory) {
            sync_tree(&dir.open_dir(&name)?)?;
        }
    }
    dir.sync("view.treesync")
}
