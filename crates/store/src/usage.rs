//! What the store holds, and how much room it takes.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use stowage_artifact::digest::{Algorithm, Digest};

use crate::error::StoreError;
use crate::io::{Dir, IoError, Kind, Metadata};
use crate::names::{self, Sibling};
use crate::store::{Inner, Store};

/// How full the store and its filesystem are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// How many blobs.
    pub blobs: u64,
    /// Bytes on the disk of blobs, downloads and quarantine.
    pub bytes: u64,
    /// Files of the store that count against the filesystem's inodes.
    pub inodes: u64,
    /// Downloads on the disk, running or not.
    pub ingests: u64,
    /// Published views.
    pub views: u64,
    /// Volume records.
    pub volumes: u64,
    /// Blobs in quarantine.
    pub quarantined: u64,
    /// Bytes free on the filesystem.
    pub free: u64,
    /// Size of the filesystem in bytes.
    pub total: u64,
}

/// What kind of thing a [`ListEntry`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListKind {
    /// A view; its name is its id.
    View,
    /// A blob; its name is its digest.
    Blob,
    /// A download that is not complete; its name is the digest.
    Ingest,
    /// A blob in quarantine; its name is the digest that it should have.
    Quarantined,
}

/// One thing in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListEntry {
    /// What it is.
    pub kind: ListKind,
    /// How `rm` knows it.
    pub name: String,
    /// Bytes on the disk; for a view the bytes that its volume shows.
    pub bytes: u64,
    /// Who keeps it from collection, in words.
    pub in_use_by: Option<String>,
    /// When it was last used or changed, in seconds since 1970.
    pub last_used: u64,
    /// Why it is condemned.
    pub condemned: Option<String>,
}

/// One blob with its inodes, as a listing of `blobs/` finds it.
#[derive(Debug)]
pub(crate) struct OnDisk {
    pub(crate) digest: Digest,
    pub(crate) siblings: Vec<(Sibling, Metadata)>,
}

impl OnDisk {
    pub(crate) fn bytes(&self) -> u64 {
        self.siblings.iter().map(|(_, found)| found.disk_bytes).sum()
    }

    /// When it was committed, linked or unlinked last.
    pub(crate) fn changed(&self) -> u64 {
        self.siblings.iter().map(|(_, found)| found.changed).max().unwrap_or(0)
    }
}

/// One directory in `ingest/` or `quarantine/`.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) digest: Digest,
    /// The size that it is to have; 0 in quarantine.
    pub(crate) size: u64,
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    pub(crate) changed: u64,
}

impl Store {
    /// How full the store and its filesystem are. Lists every blob.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let inner = self.inner();
        let mut usage = inner.scan_usage()?;
        let space = inner.space()?;
        usage.free = space.bytes_free;
        usage.total = space.bytes_total;
        Ok(usage)
    }

    /// Everything in the store, views first.
    pub fn list(&self) -> Result<Vec<ListEntry>, StoreError> {
        const SECOND: u64 = 1_000_000_000;
        let inner = self.inner();
        inner.load_views();
        let mut entries = Vec::new();
        for id in self.views() {
            let Some(last_used) = inner.view_last_used(&id) else { continue };
            let bytes = self.view(&id).ok().flatten().map_or(0, |view| view.bytes);
            let condemned = inner.condemned(&id)?;
            let in_use_by = inner.refs().user_of_view(&id);
            entries.push(ListEntry {
                kind: ListKind::View,
                name: id,
                bytes,
                in_use_by,
                last_used: last_used / SECOND,
                condemned,
            });
        }
        let users: HashMap<Digest, String> = {
            let refs = inner.refs();
            refs.users_of_blobs().into_iter().map(|(digest, user)| (digest.clone(), user)).collect()
        };
        inner.each_blob(|blob| {
            entries.push(ListEntry {
                kind: ListKind::Blob,
                bytes: blob.bytes(),
                in_use_by: users.get(&blob.digest).cloned(),
                last_used: blob.changed() / SECOND,
                name: blob.digest.to_string(),
                condemned: None,
            });
        })?;
        for (kind, dir) in
            [(ListKind::Ingest, &inner.dirs.ingest), (ListKind::Quarantined, &inner.dirs.quarantine)]
        {
            let found = if kind == ListKind::Ingest { ingests(dir)? } else { quarantined(dir)? };
            for aside in found {
                let running =
                    kind == ListKind::Ingest && inner.refs().is_ingesting(&aside.digest, aside.size);
                entries.push(ListEntry {
                    kind,
                    name: aside.digest.to_string(),
                    bytes: aside.bytes,
                    in_use_by: running.then(|| "a running download".to_owned()),
                    last_used: aside.changed / SECOND,
                    condemned: None,
                });
            }
        }
        Ok(entries)
    }
}

impl Inner {
    /// What the store holds; the filesystem's own figures are left at 0.
    pub(crate) fn scan_usage(&self) -> Result<Usage, IoError> {
        let mut usage = Usage::default();
        self.each_blob(|blob| {
            usage.blobs += 1;
            usage.bytes += blob.bytes();
            usage.inodes += blob.siblings.len() as u64;
        })?;
        for aside in ingests(&self.dirs.ingest)? {
            usage.ingests += 1;
            usage.bytes += aside.bytes;
            usage.inodes += aside.inodes;
        }
        for aside in quarantined(&self.dirs.quarantine)? {
            usage.quarantined += 1;
            usage.bytes += aside.bytes;
            usage.inodes += aside.inodes;
        }
        let refs = self.refs();
        usage.views = refs.view_ids().count() as u64;
        usage.volumes = refs.record_count();
        Ok(usage)
    }

    /// Lists every blob, shard by shard.
    pub(crate) fn each_blob(&self, mut see: impl FnMut(&OnDisk)) -> Result<(), IoError> {
        self.each_shard(|algorithm, shard| {
            let mut blobs: BTreeMap<Digest, OnDisk> = BTreeMap::new();
            for name in shard.names()? {
                let Some((digest, sibling)) = Sibling::parse(algorithm, &name) else { continue };
                let Some(found) = shard.stat(&name)? else { continue };
                let blob = blobs.entry(digest.clone()).or_insert(OnDisk { digest, siblings: Vec::new() });
                blob.siblings.push((sibling, found));
            }
            blobs.values().for_each(&mut see);
            Ok(())
        })
    }

    /// Goes through the directories of `blobs/`.
    pub(crate) fn each_shard(
        &self,
        mut see: impl FnMut(Algorithm, &Dir) -> Result<(), IoError>,
    ) -> Result<(), IoError> {
        for algorithm in Algorithm::ALL {
            let outer = match self.dirs.blobs.open_dir(algorithm.as_str()) {
                Err(error) if error.is_not_found() => continue,
                opened => opened?,
            };
            for name in outer.names()? {
                see(algorithm, &outer.open_dir(&name)?)?;
            }
        }
        Ok(())
    }
}

/// Lists `ingest/`.
pub(crate) fn ingests(dir: &Dir) -> Result<Vec<Aside>, IoError> {
    asides(dir, names::parse_ingest)
}

/// Lists `quarantine/`.
pub(crate) fn quarantined(dir: &Dir) -> Result<Vec<Aside>, IoError> {
    asides(dir, |name| Some((names::parse_flat(name)?, 0)))
}

fn asides(dir: &Dir, parse: impl Fn(&str) -> Option<(Digest, u64)>) -> Result<Vec<Aside>, IoError> {
    let mut found = Vec::new();
    for name in dir.names()? {
        let Some((digest, size)) = parse(&name) else { continue };
        let inner = match dir.open_dir(&name) {
            // Committed or removed meanwhile.
            Err(error) if error.is_not_found() => continue,
            opened => opened?,
        };
        let mut aside = Aside { digest, size, bytes: 0, inodes: 1, changed: inner.metadata()?.changed };
        for file in inner.names()? {
            let Some(stat) = inner.stat(&file)?.filter(|stat| stat.kind == Kind::File) else { continue };
            aside.bytes += stat.disk_bytes;
            aside.inodes += 1;
            aside.changed = aside.changed.max(stat.changed);
        }
        found.push(aside);
    }
    Ok(found)
}

impl Store {
    /// Bytes that an incomplete download of `digest` holds on the disk, one that declares this size; 0 where there
    /// is none.
    pub fn ingest_bytes(&self, digest: &Digest, size: u64) -> u64 {
        let stat = || {
            let ingest = self.inner().dirs.ingest.open_dir(&names::ingest(digest, size))?;
            ingest.stat(names::DATA)
        };
        stat().ok().flatten().map_or(0, |stat| stat.disk_bytes)
    }
}
