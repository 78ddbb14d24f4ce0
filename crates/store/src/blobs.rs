//! Complete, verified blobs: `blobs/<alg>/ab/<hex>`.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::PoisonError;

use bytes::Bytes;
use stowage_artifact::digest::Digest;

use crate::error::StoreError;
use crate::io::{Dir, IoError, IoFile, Metadata};
use crate::names::{self, Sibling};
use crate::store::{Inner, Store};

/// This many blobs are committed together.
const BATCH: usize = 256;
/// And their syncs run on so many threads.
const SYNC_THREADS: usize = 8;

impl Store {
    /// The size of a blob that is in the store.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.inner().blob_stat(digest, Sibling::BASE).ok().flatten().map(|found| found.len)
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        Ok(self.inner().open_blob(digest)?.into_file())
    }

    /// Stores a small blob whose bytes are at hand, such as a manifest. One that is there already is fine.
    pub fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_blobs(&[(digest.clone(), Bytes::copy_from_slice(bytes))])
    }

    /// Stores many small blobs, all of whose bytes are checked before the first is written.
    pub fn put_blobs(&self, blobs: &[(Digest, Bytes)]) -> Result<(), StoreError> {
        let check = |(digest, bytes): &(Digest, Bytes)| {
            WholeBlob::check(digest.clone(), bytes.clone())
                .map_err(|found| StoreError::DigestMismatch { expected: digest.clone(), found })
        };
        let whole: Vec<_> = blobs.iter().map(check).collect::<Result<_, _>>()?;
        self.put_whole_blobs(&whole)
    }

    /// Stores many small blobs in batches of at most 256: written, synced in parallel, renamed, and one sync for
    /// each directory. Those that are there already are fine.
    pub fn put_whole_blobs(&self, blobs: &[WholeBlob]) -> Result<(), StoreError> {
        let absent: BTreeMap<&Digest, &Bytes> = blobs
            .iter()
            .filter(|blob| self.blob_size(&blob.digest).is_none())
            .map(|blob| (&blob.digest, &blob.bytes))
            .collect();
        let absent: Vec<_> = absent.into_iter().collect();
        for batch in absent.chunks(BATCH) {
            self.inner().commit_batch(batch)?;
        }
        Ok(())
    }
}

/// The bytes of a whole blob, checked against its digest.
#[derive(Clone, Debug)]
pub struct WholeBlob {
    digest: Digest,
    bytes: Bytes,
}

impl WholeBlob {
    /// Hashes the bytes; the error is the digest that they have instead.
    pub fn check(digest: Digest, bytes: Bytes) -> Result<Self, Digest> {
        let found = Digest::of(digest.algorithm(), &bytes);
        if found == digest { Ok(Self { digest, bytes }) } else { Err(found) }
    }
}

impl Inner {
    pub(crate) fn blob_stat(&self, digest: &Digest, sibling: Sibling) -> Result<Option<Metadata>, IoError> {
        self.dirs.blobs.stat(&blob_path(digest, sibling))
    }

    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<IoFile, StoreError> {
        match self.dirs.blobs.open_read("blob.open", &blob_path(digest, Sibling::BASE)) {
            Err(error) if error.is_not_found() => Err(StoreError::NoSuchBlob(digest.clone())),
            opened => Ok(opened?),
        }
    }

    /// The directory of a blob, made and on the disk.
    pub(crate) fn shard(&self, digest: &Digest) -> Result<Dir, IoError> {
        let (algorithm, prefix) = names::shard(digest);
        let (outer, _) = self.dirs.blobs.ensure_dir("shard.mkdir", algorithm, 0o700)?;
        let (shard, _) = outer.ensure_dir("shard.mkdir", prefix, 0o700)?;
        let name = format!("{algorithm}/{prefix}");
        // An earlier process may have made it and died before the sync.
        if !self.synced_shards.lock().unwrap_or_else(PoisonError::into_inner).contains(&name) {
            outer.sync("shard.dirsync")?;
            self.dirs.blobs.sync("shard.dirsync")?;
            self.synced_shards.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        }
        Ok(shard)
    }

    /// Makes a blob, or a sibling, of a file that is written, sealed and synced. The file's old name is gone
    /// afterwards. If the directory cannot be synced the blob goes again.
    pub(crate) fn publish_blob(
        &self,
        from: &Dir,
        name: &str,
        digest: &Digest,
        sibling: Sibling,
    ) -> Result<(), IoError> {
        let shard = self.shard(digest)?;
        self.move_into(&shard, from, name, digest, sibling)?;
        shard.sync("blob.dirsync").inspect_err(|_| {
            let _ = shard.unlink("blob.withdraw", &sibling.file_name(digest));
        })
    }

    fn move_into(
        &self,
        shard: &Dir,
        from: &Dir,
        name: &str,
        digest: &Digest,
        sibling: Sibling,
    ) -> Result<(), IoError> {
        let file_name = sibling.file_name(digest);
        // Under `refs`, because a blob that is there is never replaced: views link to its inode.
        let _refs = self.refs();
        if shard.stat(&file_name)?.is_some() {
            return from.unlink("blob.duplicate", name);
        }
        from.rename("blob.rename", name, shard, &file_name)
    }

    fn commit_batch(&self, batch: &[(&Digest, &Bytes)]) -> Result<(), StoreError> {
        let name = self.io.temporary("batch");
        self.dirs.ingest.make_dir("batch.mkdir", &name, 0o700)?;
        let outcome = self.dirs.ingest.open_dir(&name).and_then(|dir| self.write_batch(&dir, batch));
        let removed = self.dirs.ingest.remove_all("batch.remove", &name);
        outcome?;
        if let Err(error) = removed {
            tracing::debug!(%error, "an empty directory stays until the next start");
        }
        Ok(())
    }

    fn write_batch(&self, dir: &Dir, batch: &[(&Digest, &Bytes)]) -> Result<(), IoError> {
        let mut files = Vec::with_capacity(batch.len());
        for (digest, bytes) in batch {
            let file = dir.create("batch.create", &names::flat(digest))?;
            file.write_at("batch.write", 0, bytes)?;
            file.chmod("batch.chmod", Sibling::BASE.mode())?;
            file.fix_times("batch.times")?;
            files.push(file);
        }
        let threads = if self.options.testing.no_threads { 1 } else { SYNC_THREADS };
        sync_all(&files, threads)?;
        drop(files);
        let mut shards: BTreeMap<_, (Dir, Vec<String>)> = BTreeMap::new();
        for (digest, _) in batch {
            let shard = self.shard(digest)?;
            self.move_into(&shard, dir, &names::flat(digest), digest, Sibling::BASE)?;
            let (_, members) = shards.entry(names::shard(digest)).or_insert_with(|| (shard, Vec::new()));
            members.push(Sibling::BASE.file_name(digest));
        }
        for (shard, members) in shards.values() {
            shard.sync("batch.dirsync").inspect_err(|_| {
                for member in members {
                    let _ = shard.unlink("blob.withdraw", member);
                }
            })?;
        }
        Ok(())
    }
}

/// The path of a blob beneath `blobs/`.
pub(crate) fn blob_path(digest: &Digest, sibling: Sibling) -> String {
    let (algorithm, prefix) = names::shard(digest);
    format!("{algorithm}/{prefix}/{}", sibling.file_name(digest))
}

/// Syncs every file; the journal of the filesystem joins syncs that run side by side.
fn sync_all(files: &[IoFile], threads: usize) -> Result<(), IoError> {
    let share = files.len().div_ceil(threads).max(1);
    let sync = |files: &[IoFile]| files.iter().try_for_each(|file| file.sync("batch.sync"));
    if threads == 1 || files.len() == 1 {
        return sync(files);
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = files.chunks(share).map(|files| scope.spawn(move || sync(files))).collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
