//! Room on the disk that downloads have been promised. Volumes that share a download share its room.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use stowage_artifact::Digest;
use stowage_store::{Admission, AdmitError, Store};

use crate::needs::Need;

/// The room for one blob; given back when the last volume that waits for it lets go.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// Shared with the other blobs that were admitted in one step.
    admission: Arc<Admission>,
    bytes: u64,
    on_disk: AtomicBool,
}

impl Reserved {
    /// The blob's bytes are reserved on the disk itself now, where everybody sees them.
    pub(crate) fn on_disk(&self) {
        if !self.on_disk.swap(true, Ordering::AcqRel) {
            self.admission.written(self.bytes);
        }
    }
}

/// What has been promised, by blob and declared size, as downloads are: whoever lies about a size shares nobody's
/// room.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Mutex<HashMap<(Digest, u64), Weak<Reserved>>>);

impl Reservations {
    /// Promises room for those of `blobs` that nobody has been promised room for; evicts before it refuses.
    pub(crate) fn admit(
        &self,
        store: &Store,
        blobs: &BTreeMap<Digest, Need>,
    ) -> Result<HashMap<Digest, Arc<Reserved>>, AdmitError> {
        let mut shared = HashMap::new();
        if blobs.is_empty() {
            return Ok(shared);
        }
        let mut promised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        promised.retain(|_, reserved| reserved.strong_count() > 0);
        let mut new = Vec::new();
        let (mut needed, mut plain) = (0_u64, 0_u64);
        for (digest, need) in blobs {
            let blob = (digest.clone(), need.size);
            if let Some(reserved) = promised.get(&blob).and_then(Weak::upgrade) {
                shared.insert(digest.clone(), reserved);
            } else {
                // What an interrupted download has on the disk needs no room again.
                let there = store.ingest_bytes(digest, need.size);
                needed = needed.saturating_add(need.size.saturating_sub(there));
                plain = plain.saturating_add(need.plain);
                new.push((blob, need.size.saturating_sub(there)));
            }
        }
        let admission = Arc::new(store.admit(needed.saturating_add(plain), new.len() as u64)?);
        // There must be room for what the blobs decode to, and decoding asks for it itself, as nobody knows how much it will
        // be: kept here too, it would be counted twice.
        admission.written(plain);
        for (blob, bytes) in new {
            let reserved = Arc::new(Reserved {
                admission: Arc::clone(&admission),
                bytes,
                on_disk: AtomicBool::new(false),
            });
            shared.insert(blob.0.clone(), Arc::clone(&reserved));
            promised.insert(blob, Arc::downgrade(&reserved));
        }
        Ok(shared)
    }
}

#[cfg(test)]
mod tests {
    use stowage_artifact::{Algorithm, Codec};
    use stowage_store::{MadeUpSpace, MinFree, StoreOptions, Testing};

    use super::*;

    fn needs(digest: Digest, size: u64) -> BTreeMap<Digest, Need> {
        BTreeMap::from([(digest, Need { size, raw: true, ..Need::default() })])
    }

    #[test]
    fn a_shared_download_is_promised_room_once_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            min_free: MinFree { bytes_percent: 0, inodes_percent: 0 },
            testing: Testing { space: Some(MadeUpSpace::new(100 << 20, 0)), ..Testing::default() },
            ..StoreOptions::default()
        };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        let blob = |name: &str| needs(Digest::of(Algorithm::Sha256, name.as_bytes()), 60 << 20);
        let reservations = Reservations::default();
        let first = reservations.admit(&store, &blob("a")).unwrap();
        let second = reservations.admit(&store, &blob("a")).unwrap();
        assert!(reservations.admit(&store, &blob("b")).is_err(), "60 + 60 of 100 MiB");
        drop(first);
        assert!(reservations.admit(&store, &blob("b")).is_err(), "the second volume still waits");
        drop(second);
        assert!(reservations.admit(&store, &blob("b")).is_ok());
    }

    #[test]
    fn whoever_declares_another_size_shares_nobodys_room() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            min_free: MinFree { bytes_percent: 0, inodes_percent: 0 },
            testing: Testing { space: Some(MadeUpSpace::new(100 << 20, 0)), ..Testing::default() },
            ..StoreOptions::default()
        };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"a");
        let reservations = Reservations::default();
        let _liar = reservations.admit(&store, &needs(digest.clone(), 1)).unwrap();
        assert!(reservations.admit(&store, &needs(digest, 200 << 20)).is_err(), "200 of 100 MiB");
    }

    #[test]
    fn room_for_plain_bytes_is_wanted_and_left_to_the_decoding() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            min_free: MinFree { bytes_percent: 0, inodes_percent: 0 },
            testing: Testing { space: Some(MadeUpSpace::new(100 << 20, 0)), ..Testing::default() },
            ..StoreOptions::default()
        };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        let need = |name: &[u8], plain| {
            let need = Need { size: 30 << 20, codec: Some(Codec::Gzip), plain, ..Need::default() };
            BTreeMap::from([(Digest::of(Algorithm::Sha256, name), need)])
        };
        let reservations = Reservations::default();
        assert!(reservations.admit(&store, &need(b"a", 80 << 20)).is_err(), "30 + 80 of 100 MiB");
        let _held = reservations.admit(&store, &need(b"a", 60 << 20)).unwrap();
        assert!(store.admit(70 << 20, 1).is_ok(), "the decoding gets what it was admitted for");
        assert!(store.admit(71 << 20, 1).is_err(), "the download keeps its own");
    }

    #[test]
    fn bytes_on_the_disk_are_not_counted_twice() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            min_free: MinFree { bytes_percent: 0, inodes_percent: 0 },
            testing: Testing { space: Some(MadeUpSpace::new(100 << 20, 0)), ..Testing::default() },
            ..StoreOptions::default()
        };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"a");
        let reservations = Reservations::default();
        let held = reservations.admit(&store, &needs(digest.clone(), 60 << 20)).unwrap();
        let ingest = store.ingest(&digest, 60 << 20).unwrap();
        ingest.preallocate().unwrap();
        for _ in 0..2 {
            held[&digest].on_disk();
        }
        let other = needs(Digest::of(Algorithm::Sha256, b"b"), 30 << 20);
        assert!(reservations.admit(&store, &other).is_ok());
        drop((held, ingest));
        // A restart finds the bytes of the interrupted download in place.
        assert!(reservations.admit(&store, &needs(digest, 60 << 20)).is_ok());
    }
}
