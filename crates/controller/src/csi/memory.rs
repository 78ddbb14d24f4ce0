//! Which volumes were made: so that a call that is repeated gets the same answer.
//!
//! With an API server the memory is a shortcut: what it has lost, the PersistentVolume of that name says. Without one
//! (csi-sanity) a file keeps it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stowage_artifact::VolumeAttributes;
use tokio::sync::Mutex;

use super::REQUESTED_REFERENCE;

/// Volumes that are remembered at most; the oldest makes room.
const MOST: usize = 10_000;
const REFERENCE: &str = "reference";

/// The memory's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the memory of volumes {path}: {source}; name another file with --memory")]
pub struct MemoryError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// A volume that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    /// What every later call about the volume is given.
    pub(crate) context: BTreeMap<String, String>,
    /// In bytes; unknown where a PersistentVolume says it in a form of its own.
    pub(crate) capacity: Option<i64>,
}

impl Made {
    /// A volume of `attributes`, pinned to `reference`.
    pub(crate) fn new(attributes: &VolumeAttributes, reference: String, capacity: i64) -> Self {
        let mut context = attributes.canonical();
        context.insert(REFERENCE.to_owned(), reference);
        context.insert(REQUESTED_REFERENCE.to_owned(), attributes.reference.to_string());
        Self { context, capacity: Some(capacity) }
    }

    /// Whether the volume was made of these attributes.
    pub(crate) fn is_of(&self, attributes: &VolumeAttributes) -> bool {
        let mut asked = attributes.canonical();
        if let Some(reference) = asked.remove(REFERENCE) {
            asked.insert(REQUESTED_REFERENCE.to_owned(), reference);
        }
        let own = self.context.iter().filter(|(key, _)| *key != REFERENCE);
        own.eq(asked.iter())
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volumes {
    next: u64,
    volumes: BTreeMap<String, (u64, Made)>,
}

/// The volumes that were made. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Memory {
    volumes: Arc<Mutex<Volumes>>,
    file: Option<PathBuf>,
}

impl Memory {
    /// A memory that ends with the process.
    pub fn volatile() -> Self {
        Self { volumes: Arc::default(), file: None }
    }

    /// A memory in a file, which is made with the first volume.
    pub fn open(path: &Path) -> Result<Self, MemoryError> {
        let failed = |source| MemoryError { doing: "read", path: path.to_owned(), source };
        let volumes = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Volumes::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { volumes: Arc::new(Mutex::new(volumes)), file: Some(path.to_owned()) })
    }

    pub(crate) async fn get(&self, name: &str) -> Option<Made> {
        self.volumes.lock().await.volumes.get(name).map(|(_, made)| made.clone())
    }

    pub(crate) async fn put(&self, name: &str, made: Made) -> Result<(), MemoryError> {
        let mut known = self.volumes.lock().await;
        let number = known.next;
        known.next += 1;
        known.volumes.insert(name.to_owned(), (number, made));
        if known.volumes.len() > MOST {
            let oldest = known.volumes.iter().min_by_key(|(_, (number, _))| *number);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                known.volumes.remove(&name);
            }
        }
        self.save(&known).await
    }

    pub(crate) async fn forget(&self, name: &str) -> Result<(), MemoryError> {
        let mut known = self.volumes.lock().await;
        match known.volumes.remove(name) {
            Some(_) => self.save(&known).await,
            None => Ok(()),
        }
    }

    /// Writes a new file beside the old one and renames it: a reader sees one or the other.
    async fn save(&self, volumes: &Volumes) -> Result<(), MemoryError> {
        let Some(path) = self.file.clone() else { return Ok(()) };
        let failed = |source| MemoryError { doing: "write", path: path.clone(), source };
        let bytes = serde_json::to_vec(volumes).map_err(|error| failed(error.into()))?;
        let hidden = path.with_extension(format!("{}.tmp", std::process::id()));
        tokio::fs::write(&hidden, bytes).await.map_err(failed)?;
        tokio::fs::rename(&hidden, &path).await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(reference: &str, include: &str) -> VolumeAttributes {
        let map = [("reference", reference), ("include", include)];
        VolumeAttributes::parse(&map.map(|(k, v)| (k.to_owned(), v.to_owned())).into()).unwrap()
    }

    fn made() -> Made {
        Made::new(&attributes("r.example/a:v1", "*.bin"), "r.example/a@sha256:…".to_owned(), 7)
    }

    #[test]
    fn a_volume_is_known_by_what_was_asked_for_not_by_its_pin() {
        assert!(made().is_of(&attributes("r.example/a:v1", "*.bin")));
        assert!(!made().is_of(&attributes("r.example/a:v2", "*.bin")));
        assert!(!made().is_of(&attributes("r.example/a:v1", "*.txt")));
        assert!(!made().is_of(&attributes("r.example/a:v1", "")));
    }

    #[tokio::test]
    async fn a_file_keeps_the_volumes_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volumes.json");
        let memory = Memory::open(&path).unwrap();
        assert!(!path.exists(), "nothing is written before there is something to say");
        memory.put("pvc-1", made()).await.unwrap();
        memory.put("pvc-2", made()).await.unwrap();
        memory.forget("pvc-2").await.unwrap();
        memory.forget("pvc-3").await.unwrap();
        let again = Memory::open(&path).unwrap();
        assert_eq!(again.get("pvc-1").await, Some(made()));
        assert_eq!(again.get("pvc-2").await, None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        std::fs::write(&path, "{").unwrap();
        assert!(Memory::open(&path).unwrap_err().to_string().contains("volumes.json"));
    }

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let memory = Memory::volatile();
        for number in 0..=MOST {
            memory.put(&format!("pvc-{number}"), made()).await.unwrap();
        }
        assert_eq!(memory.get("pvc-0").await, None);
        assert!(memory.get("pvc-1").await.is_some());
    }
}
