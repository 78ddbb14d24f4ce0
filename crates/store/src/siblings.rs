//! Further inodes of one content: executable ones, and the next when an inode has all the links it can have.

use stowage_artifact::digest::{Digest, Hasher};

use crate::blobs::blob_path;
use crate::error::StoreError;
use crate::io::{Dir, IoError};
use crate::names::Sibling;
use crate::store::Inner;

/// Larger files are never executable: the copy would cost more than it is worth.
const MAX_EXECUTABLE_BYTES: u64 = 64 << 20;
const COPY_STEP: usize = 1 << 20;

impl Inner {
    /// Whether a blob may be executed: ELF or a script, and not large.
    pub(crate) fn is_executable(&self, digest: &Digest) -> Result<bool, StoreError> {
        let file = self.open_blob(digest)?;
        let length = file.length()?;
        if !(2..=MAX_EXECUTABLE_BYTES).contains(&length) {
            return Ok(false);
        }
        let mut start = [0; 4];
        let start = &mut start[..length.min(4) as usize];
        file.read_at("blob.read", 0, start)?;
        Ok(start.starts_with(b"#!") || start == b"\x7fELF")
    }

    /// Gives a blob a name in a tree, from the first sibling at or behind `from` that has a link to give. Makes
    /// the sibling where it is missing. Returns the one that was used.
    pub(crate) fn link_blob(
        &self,
        digest: &Digest,
        from: Sibling,
        tree: &Dir,
        name: &str,
    ) -> Result<Sibling, StoreError> {
        let mut sibling = from;
        loop {
            let path = blob_path(digest, sibling);
            let full = match (self.options.testing.max_links, self.dirs.blobs.stat(&path)?) {
                (Some(limit), Some(found)) => found.links >= limit,
                _ => false,
            };
            if !full {
                match self.dirs.blobs.link("view.link", &path, tree, name) {
                    Ok(()) => return Ok(sibling),
                    Err(error) if error.is_not_found() => {
                        if sibling == Sibling::BASE {
                            return Err(StoreError::NoSuchBlob(digest.clone()));
                        }
                        self.make_sibling(digest, sibling)?;
                        continue;
                    }
                    Err(error) if error.errno() == Some(libc::EMLINK) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            sibling = Sibling { number: sibling.number + 1, ..sibling };
        }
    }

    /// Copies a blob to a new inode, checking its digest on the way.
    fn make_sibling(&self, digest: &Digest, sibling: Sibling) -> Result<(), StoreError> {
        let temporary = self.io.temporary("sibling");
        let outcome = self.copy_blob(digest, sibling, &temporary);
        if outcome.is_err() {
            let _ = self.dirs.ingest.unlink("sibling.abandon", &temporary);
        }
        match outcome? {
            found if found == *digest => Ok(()),
            found => {
                let reason = format!("a copy of it has the digest {found}");
                self.quarantine(digest, &reason)?;
                Err(StoreError::DigestMismatch { expected: digest.clone(), found })
            }
        }
    }

    /// Copies, and publishes if the digest is right. Returns the digest.
    fn copy_blob(&self, digest: &Digest, sibling: Sibling, temporary: &str) -> Result<Digest, StoreError> {
        let from = self.open_blob(digest)?;
        let length = from.length()?;
        let to = self.dirs.ingest.create("sibling.create", temporary)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; COPY_STEP.min(length as usize)];
        let mut at = 0;
        while at < length {
            let step = buffer.len().min((length - at) as usize);
            from.read_at("blob.read", at, &mut buffer[..step])?;
            to.write_at("sibling.write", at, &buffer[..step])?;
            hasher.update(&buffer[..step]);
            at += step as u64;
        }
        let found = hasher.finish();
        let seal = || -> Result<(), IoError> {
            to.chmod("sibling.chmod", sibling.mode())?;
            to.fix_times("sibling.times")?;
            to.sync("sibling.sync")?;
            self.publish_blob(&self.dirs.ingest, temporary, digest, sibling)
        };
        if found == *digest {
            seal()?;
        } else {
            self.dirs.ingest.unlink("sibling.abandon", temporary)?;
        }
        Ok(found)
    }
}
