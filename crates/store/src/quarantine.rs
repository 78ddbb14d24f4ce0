//! Bad bytes: out of everybody's way, kept for the administrator, and the views that show them condemned.

use stowage_artifact::digest::{Algorithm, Digest, Hasher};

use crate::error::StoreError;
use crate::io::{Dir, IoError};
use crate::names::{self, Sibling};
use crate::store::{Inner, Store};

const DATA: &str = "data";
const REASON: &str = "reason";
const READ_STEP: usize = 1 << 20;

/// What a scrub of one blob found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// Every byte is right.
    Healthy,
    /// The store has no such blob.
    Missing,
    /// The bytes are wrong or cannot be read. The blob is in quarantine and its views are condemned.
    Bad {
        /// What was found.
        reason: String,
    },
}

impl Store {
    /// Keeps the bytes that came for a small blob and have another digest, for the administrator to look at.
    pub fn quarantine_bytes(&self, digest: &Digest, bytes: &[u8], found: &Digest) -> Result<(), StoreError> {
        let inner = self.inner();
        let dir = inner.fresh_quarantine(digest)?;
        dir.create("quarantine.create", DATA)?.write_at("quarantine.write", 0, bytes)?;
        let reason = format!("the registry delivered bytes with the digest {found}");
        Ok(dir.replace("quarantine.reason", REASON, reason.as_bytes(), false)?)
    }

    /// Reads one blob and its siblings and compares them with the digest; a bad one goes to quarantine.
    pub fn scrub(&self, digest: &Digest) -> Result<Scrubbed, StoreError> {
        let inner = self.inner();
        let mut found_one = false;
        for sibling in inner.siblings_of(digest)? {
            match inner.hash_blob(digest, sibling) {
                Ok(found) if found == *digest => found_one = true,
                Ok(found) => return inner.scrubbed_bad(digest, format!("its bytes have the digest {found}")),
                Err(error) if error.is_not_found() => {}
                Err(error) => return inner.scrubbed_bad(digest, error.to_string()),
            }
        }
        Ok(if found_one { Scrubbed::Healthy } else { Scrubbed::Missing })
    }

    /// Takes a bad blob out of the store: no new volume gets it, and its views are condemned.
    pub fn quarantine(&self, digest: &Digest, reason: &str) -> Result<(), StoreError> {
        self.inner().quarantine(digest, reason)
    }
}

impl Inner {
    fn scrubbed_bad(&self, digest: &Digest, reason: String) -> Result<Scrubbed, StoreError> {
        self.quarantine(digest, &reason)?;
        Ok(Scrubbed::Bad { reason })
    }

    /// The inodes of a blob that are there, the base first.
    pub(crate) fn siblings_of(&self, digest: &Digest) -> Result<Vec<Sibling>, IoError> {
        let mut siblings = Vec::new();
        for executable in [false, true] {
            for number in 0.. {
                let sibling = Sibling { executable, number };
                if self.blob_stat(digest, sibling)?.is_none() {
                    break;
                }
                siblings.push(sibling);
            }
        }
        Ok(siblings)
    }

    /// The digest of the bytes on the disk.
    pub(crate) fn hash_blob(&self, digest: &Digest, sibling: Sibling) -> Result<Digest, IoError> {
        self.hash_blob_as(digest, sibling, digest.algorithm())
    }

    /// The digest of a blob's bytes by another algorithm than its name's, perhaps.
    pub(crate) fn hash_blob_as(
        &self,
        digest: &Digest,
        sibling: Sibling,
        algorithm: Algorithm,
    ) -> Result<Digest, IoError> {
        let file = self.dirs.blobs.open_read("blob.open", &crate::blobs::blob_path(digest, sibling))?;
        // What the page cache remembers says nothing about the disk.
        file.drop_cache("blob.drop_cache")?;
        let length = file.length()?;
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; READ_STEP.min(length as usize)];
        let mut at = 0;
        while at < length {
            let step = buffer.len().min((length - at) as usize);
            file.read_at("blob.read", at, &mut buffer[..step])?;
            hasher.update(&buffer[..step]);
            at += step as u64;
        }
        Ok(hasher.finish())
    }

    pub(crate) fn quarantine(&self, digest: &Digest, reason: &str) -> Result<(), StoreError> {
        let siblings = self.siblings_of(digest)?;
        tracing::warn!(%digest, reason, "blob goes to quarantine");
        let shard = self.shard(digest)?;
        let mut rubbish = Vec::new();
        {
            let mut refs = self.refs();
            refs.quarantines += 1;
            // The siblings first: without its base a blob is not there.
            for sibling in siblings.iter().rev().filter(|sibling| **sibling != Sibling::BASE) {
                let name = self.io.temporary("sibling");
                shard.rename("quarantine.sibling", &sibling.file_name(digest), &self.dirs.trash, &name)?;
                rubbish.push(name);
            }
        }
        if siblings.contains(&Sibling::BASE) {
            self.quarantine_file(&shard, &Sibling::BASE.file_name(digest), digest, reason)?;
            shard.sync("quarantine.dirsync")?;
        }
        // Once more: a build that began in between has linked the blob and must look again.
        self.refs().quarantines += 1;
        self.grants.forget(digest);
        for name in rubbish {
            self.dirs.trash.remove_all("trash.remove", &name)?;
        }
        self.condemn_views_of(digest, reason)
    }

    /// Moves a file to `quarantine/<alg>-<hex>/data`; an older one of the same digest goes.
    pub(crate) fn quarantine_file(
        &self,
        from: &Dir,
        name: &str,
        digest: &Digest,
        reason: &str,
    ) -> Result<(), IoError> {
        let dir = self.fresh_quarantine(digest)?;
        from.rename("quarantine.rename", name, &dir, DATA)?;
        dir.replace("quarantine.reason", REASON, reason.as_bytes(), false)
    }

    /// An empty `quarantine/<alg>-<hex>`; an older one of the same digest goes.
    fn fresh_quarantine(&self, digest: &Digest) -> Result<Dir, IoError> {
        let place = names::flat(digest);
        let quarantine = &self.dirs.quarantine;
        quarantine.remove_all("quarantine.remove", &place)?;
        quarantine.make_dir("quarantine.mkdir", &place, 0o700)?;
        quarantine.open_dir(&place)
    }
}
