//! Volume records: which volume stands at which target, and what it needs of the store.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stowage_artifact::digest::{Algorithm, Digest};

use crate::error::StoreError;
use crate::io::{Dir, IoFile, gone_is_fine};
use crate::refs::Refs;
use crate::store::{Inner, Store};

/// Records are synced at most this often.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// How far a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordState {
    /// Not mounted yet; what it names is kept from collection.
    Pending,
    /// Mounted at its target.
    Mounted,
}

/// The record of one volume at one target: a root of collection.
///
/// A mounted record keeps its view, and through it the blobs of its files; `blobs` may then name the rest only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRecord {
    /// The volume's id, as the orchestrator gave it.
    pub volume_id: String,
    /// Where it is published.
    pub target: PathBuf,
    /// Pending or mounted.
    pub state: RecordState,
    /// Whether the request said read-only.
    pub readonly: bool,
    /// The capability of the request, in words.
    #[serde(default)]
    pub capability: String,
    /// The volume's own attributes; never a token or a secret.
    pub attributes: BTreeMap<String, String>,
    /// The reference that was asked for.
    pub reference: String,
    /// What the reference was resolved to, for the life of the volume.
    pub manifest_digest: Option<Digest>,
    /// The view that is mounted.
    pub view: Option<String>,
    /// Blobs that must stay.
    pub blobs: Vec<Digest>,
    /// Device and inode of the mount's root.
    pub dev_ino: Option<(u64, u64)>,
    /// Seconds since 1970.
    pub created: u64,
}

impl VolumeRecord {
    fn key(&self) -> String {
        key(&self.volume_id, &self.target)
    }
}

/// `sha256(volume id, NUL, target)`: a tenant's text never becomes a file name.
fn key(volume_id: &str, target: &Path) -> String {
    let mut bytes = volume_id.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend(target.as_os_str().as_bytes());
    Digest::of(Algorithm::Sha256, &bytes).hex().to_owned()
}

fn file_name(key: &str) -> String {
    format!("{key}.json")
}

impl Store {
    /// Writes the record. From here on nothing that it names is collected. A view that it names must be there.
    pub fn put_record(&self, record: &VolumeRecord) -> Result<(), StoreError> {
        let inner = self.inner();
        let (key, dir) = (record.key(), &inner.dirs.volumes);
        let name = file_name(&key);
        let bytes = serde_json::to_vec(record).map_err(|error| StoreError::Unreadable {
            path: inner.io.full(&dir.path().join(&name)),
            reason: error.to_string(),
        })?;
        let temporary = inner.io.temporary("record");
        let write = || {
            let file = dir.create("record.create", &temporary)?;
            file.write_at("record.write", 0, &bytes)?;
            let mut refs = inner.refs();
            if let Some(view) = record.view.as_ref().filter(|view| refs.view(view).is_none()) {
                // Collected a moment ago: the caller builds it again.
                return Err(StoreError::NoSuchView(view.clone()));
            }
            dir.rename_lazily("record.rename", &temporary, &name)?;
            refs.put_record(&key, record);
            Ok(file)
        };
        let file = write().inspect_err(|_| {
            let _ = dir.unlink("record.abandon", &temporary);
        })?;
        // It has to survive the process, not the machine: nobody waits for the disk.
        if inner.unsynced_records().add(key, file) {
            inner.sync_records_soon();
        }
        Ok(())
    }

    /// Writes the pending record, and says which of the blobs that it names are not in the store. The others,
    /// and those that arrive from now on, are kept from collection.
    pub fn pin(&self, record: &VolumeRecord) -> Result<Vec<Digest>, StoreError> {
        self.put_record(record)?;
        let mut missing = Vec::new();
        let named: std::collections::BTreeSet<&Digest> = record.blobs.iter().collect();
        for digest in named {
            if self.blob_size(digest).is_none() {
                missing.push(digest.clone());
            }
        }
        Ok(missing)
    }

    /// Removes the record; one that is not there is removed already.
    pub fn remove_record(&self, volume_id: &str, target: &Path) -> Result<(), StoreError> {
        let inner = self.inner();
        let key = key(volume_id, target);
        let mut refs = inner.refs();
        gone_is_fine(inner.dirs.volumes.unlink("record.remove", &file_name(&key)))?;
        refs.remove_record(&key);
        inner.unsynced_records().files.remove(&key);
        Ok(())
    }

    /// The record of a volume at a target.
    pub fn record(&self, volume_id: &str, target: &Path) -> Result<Option<VolumeRecord>, StoreError> {
        Ok(self.inner().refs().record(&key(volume_id, target)))
    }

    /// The records of a volume at all its targets.
    pub fn records_of(&self, volume_id: &str) -> Result<Vec<VolumeRecord>, StoreError> {
        Ok(self.inner().refs().records_where(|record| record.volume_id == volume_id).collect())
    }

    /// The records of all volumes at a target.
    pub fn records_at(&self, target: &Path) -> Result<Vec<VolumeRecord>, StoreError> {
        Ok(self.inner().refs().records_where(|record| record.target == target).collect())
    }

    /// The records of the volumes that use a view.
    pub fn records_of_view(&self, view: &str) -> Result<Vec<VolumeRecord>, StoreError> {
        Ok(self.inner().refs().records_where(|record| record.view.as_deref() == Some(view)).collect())
    }

    /// Every record.
    pub fn records(&self) -> Result<Vec<VolumeRecord>, StoreError> {
        Ok(self.inner().refs().records().collect())
    }
}

/// Records that are not known to be on the disk.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    files: BTreeMap<String, IoFile>,
    synced_at: Option<Instant>,
    runs: bool,
}

impl Unsynced {
    /// Adds the newest state of a record; true if it is time to sync. A record that is replaced while it is being
    /// written out keeps the next one waiting, so that is not done for each.
    fn add(&mut self, key: String, file: IoFile) -> bool {
        self.files.insert(key, file);
        self.synced_at.is_none_or(|at| at.elapsed() >= SYNC_EVERY) && !std::mem::replace(&mut self.runs, true)
    }
}

impl Inner {
    fn unsynced_records(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced_records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the records synced in the background.
    pub(crate) fn sync_records_soon(&self) {
        let (unsynced, dir) = (Arc::clone(&self.unsynced_records), self.dirs.volumes.clone());
        self.worker.submit(move || sync_records(&unsynced, &dir));
    }
}

/// Syncs the newest state of each record that was written since the last time.
fn sync_records(unsynced: &Mutex<Unsynced>, dir: &Dir) {
    let files = {
        let mut unsynced = unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        unsynced.synced_at = Some(Instant::now());
        unsynced.runs = false;
        std::mem::take(&mut unsynced.files)
    };
    if files.is_empty() {
        return;
    }
    let synced = files.values().try_for_each(|file| file.sync_data("record.sync"));
    if let Err(error) = synced.and_then(|()| dir.sync("record.dirsync")) {
        tracing::warn!(%error, "a volume record may not outlive a power cut");
    }
}

/// What a file in `volumes/` is.
pub(crate) enum Found {
    Record(Box<VolumeRecord>),
    Temporary,
    Unreadable(String),
}

/// Reads one file in `volumes/`. What is not a record under its own name counts as absent.
pub(crate) fn read(dir: &Dir, name: &str) -> Result<Found, crate::io::IoError> {
    if crate::names::is_temporary(name) {
        return Ok(Found::Temporary);
    }
    let bytes = match dir.read("record.read", name) {
        Err(error) if error.errno() == Some(libc::EIO) => return Ok(Found::Unreadable(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Ok(Found::Unreadable(error.to_string()));
        }
        read => read?,
    };
    Ok(match serde_json::from_slice::<VolumeRecord>(&bytes) {
        Ok(record) if file_name(&record.key()) == name => Found::Record(Box::new(record)),
        Ok(_) => Found::Unreadable("it is under another record's name".to_owned()),
        Err(error) => Found::Unreadable(error.to_string()),
    })
}

/// Reads every record at the start.
pub(crate) fn load(dir: &Dir, refs: &mut Refs) -> Result<(), crate::io::IoError> {
    for name in dir.names()? {
        match read(dir, &name)? {
            Found::Record(record) => refs.put_record(&record.key(), &record),
            Found::Temporary => {}
            Found::Unreadable(reason) => {
                tracing::warn!(record = name, reason, "a volume record cannot be read and counts as absent");
            }
        }
    }
    Ok(())
}
