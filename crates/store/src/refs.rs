//! What is referred to, in memory: the state under the `refs` lock.
//!
//! Roots are volume records (and through them views), running downloads, and views being built. Publishers check
//! and record under the lock, collection decides and renames under it. Nothing waits under it for a disk's sync
//! or for the network.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use stowage_artifact::digest::Digest;

use crate::records::VolumeRecord;
use crate::views::Summary;

/// How often each thing is referred to.
#[derive(Debug)]
pub(crate) struct Counts<T>(HashMap<Arc<T>, usize>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash + Clone> Counts<T> {
    /// Adds one reference and returns the shared name.
    pub(crate) fn add(&mut self, what: &T) -> Arc<T> {
        if let Some((shared, _)) = self.0.get_key_value(what) {
            let shared = Arc::clone(shared);
            if let Some(count) = self.0.get_mut(what) {
                *count += 1;
            }
            return shared;
        }
        let shared = Arc::new(what.clone());
        self.0.insert(Arc::clone(&shared), 1);
        shared
    }

    pub(crate) fn remove(&mut self, what: &T) {
        if let Some(count) = self.0.get_mut(what) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(what);
            }
        }
    }

    pub(crate) fn contains(&self, what: &T) -> bool {
        self.0.contains_key(what)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &T> {
        self.0.keys().map(|name| &**name)
    }
}

/// A record with its digests shared: a hundred pods of an artifact of ten thousand blobs are ordinary.
#[derive(Debug)]
struct Kept {
    record: VolumeRecord,
    blobs: Vec<Arc<Digest>>,
}

impl Kept {
    fn to_record(&self) -> VolumeRecord {
        let blobs = self.blobs.iter().map(|digest| Digest::clone(digest)).collect();
        VolumeRecord { blobs, ..self.record.clone() }
    }
}

/// What is known of one view on the disk.
#[derive(Debug, Default)]
pub(crate) struct ViewSlot {
    /// Its `view.json`, once that was read.
    pub(crate) summary: Option<Arc<Summary>>,
    /// Whether it may get new volumes.
    pub(crate) health: Health,
}

/// Whether a view may get new volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not looked at since the start.
    #[default]
    Unknown,
    Good,
    /// Why it may not.
    Condemned(String),
}

/// Everything under the `refs` lock.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    records: BTreeMap<String, Kept>,
    record_blobs: Counts<Digest>,
    record_views: Counts<String>,
    views: BTreeMap<String, ViewSlot>,
    view_blobs: Counts<Digest>,
    /// Blobs of views that are being built.
    pub(crate) held: Counts<Digest>,
    /// Plain blobs, and the compressed ones that they were decoded from.
    plain: HashMap<Digest, Vec<Digest>>,
    /// Downloads that are running, by the sizes that their callers declare.
    ingests: HashMap<Digest, Vec<u64>>,
    /// Counts blobs that were taken away as bad, so that a build notices.
    pub(crate) quarantines: u64,
}

impl Refs {
    pub(crate) fn put_record(&mut self, key: &str, record: &VolumeRecord) {
        let blobs = record
            .blobs
            .iter()
            .chain(&record.manifest_digest)
            .map(|digest| self.record_blobs.add(digest))
            .collect::<Vec<_>>();
        if let Some(view) = &record.view {
            self.record_views.add(view);
        }
        let kept = Kept {
            record: VolumeRecord { blobs: Vec::new(), ..record.clone() },
            blobs: blobs[..record.blobs.len()].to_vec(),
        };
        if let Some(before) = self.records.insert(key.to_owned(), kept) {
            self.release(&before);
        }
    }

    pub(crate) fn remove_record(&mut self, key: &str) {
        if let Some(before) = self.records.remove(key) {
            self.release(&before);
        }
    }

    fn release(&mut self, kept: &Kept) {
        for digest in &kept.blobs {
            self.record_blobs.remove(digest);
        }
        if let Some(digest) = &kept.record.manifest_digest {
            self.record_blobs.remove(digest);
        }
        if let Some(view) = &kept.record.view {
            self.record_views.remove(view);
        }
    }

    pub(crate) fn record(&self, key: &str) -> Option<VolumeRecord> {
        self.records.get(key).map(Kept::to_record)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = VolumeRecord> + '_ {
        self.records.values().map(Kept::to_record)
    }

    /// The records that a condition on everything but the blobs holds for.
    pub(crate) fn records_where<'a>(
        &'a self,
        condition: impl Fn(&VolumeRecord) -> bool + 'a,
    ) -> impl Iterator<Item = VolumeRecord> + 'a {
        self.records.values().filter(move |kept| condition(&kept.record)).map(Kept::to_record)
    }

    pub(crate) fn record_count(&self) -> u64 {
        self.records.len() as u64
    }

    /// Adds a view, or what has become known of it.
    pub(crate) fn add_view(&mut self, id: &str, summary: Option<Arc<Summary>>) {
        let slot = self.views.entry(id.to_owned()).or_default();
        if let Some(summary) = summary
            && slot.summary.is_none()
        {
            for digest in summary.blobs() {
                self.view_blobs.add(digest);
            }
            slot.summary = Some(summary);
        }
    }

    pub(crate) fn remove_view(&mut self, id: &str) {
        if let Some(slot) = self.views.remove(id)
            && let Some(summary) = slot.summary
        {
            for digest in summary.blobs() {
                self.view_blobs.remove(digest);
            }
        }
    }

    pub(crate) fn view(&self, id: &str) -> Option<&ViewSlot> {
        self.views.get(id)
    }

    pub(crate) fn view_mut(&mut self, id: &str) -> Option<&mut ViewSlot> {
        self.views.get_mut(id)
    }

    pub(crate) fn view_ids(&self) -> impl Iterator<Item = &String> {
        self.views.keys()
    }

    /// The views `<hash>.<n>`.
    pub(crate) fn view_ids_of<'a>(&'a self, hash: &str) -> impl Iterator<Item = &'a String> + use<'a> {
        // A slash follows directly behind the dot.
        self.views.range(format!("{hash}.")..format!("{hash}/")).map(|(id, _)| id)
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = (&String, &ViewSlot)> {
        self.views.iter()
    }

    /// Whether a record uses the view.
    pub(crate) fn is_view_used(&self, id: &str) -> bool {
        self.record_views.contains(&id.to_owned())
    }

    /// Whether something that is no view refers to the blob.
    pub(crate) fn is_blob_rooted(&self, digest: &Digest) -> bool {
        let rooted = |digest: &Digest| {
            self.record_blobs.contains(digest)
                || self.held.contains(digest)
                || self.ingests.contains_key(digest)
        };
        rooted(digest) || self.plain.get(digest).is_some_and(|encoded| encoded.iter().any(rooted))
    }

    /// `plain` is what `encoded` was decoded to: what keeps the one keeps the other.
    pub(crate) fn add_plain(&mut self, plain: &Digest, encoded: &Digest) {
        let from = self.plain.entry(plain.clone()).or_default();
        if !from.contains(encoded) {
            from.push(encoded.clone());
        }
    }

    /// Nothing is known any more of what `encoded` was decoded to.
    pub(crate) fn remove_plain(&mut self, encoded: &Digest) {
        self.plain.retain(|_, from| {
            from.retain(|other| other != encoded);
            !from.is_empty()
        });
    }

    /// Takes a download for one writer; false if another has it.
    pub(crate) fn begin_ingest(&mut self, digest: &Digest, size: u64) -> bool {
        let sizes = self.ingests.entry(digest.clone()).or_default();
        let free = !sizes.contains(&size);
        if free {
            sizes.push(size);
        }
        free
    }

    pub(crate) fn end_ingest(&mut self, digest: &Digest, size: u64) {
        if let Some(sizes) = self.ingests.get_mut(digest) {
            sizes.retain(|other| *other != size);
            if sizes.is_empty() {
                self.ingests.remove(digest);
            }
        }
    }

    /// Whether a writer has this download.
    pub(crate) fn is_ingesting(&self, digest: &Digest, size: u64) -> bool {
        self.ingests.get(digest).is_some_and(|sizes| sizes.contains(&size))
    }

    /// Whether a view on the disk has the blob.
    pub(crate) fn is_blob_in_view(&self, digest: &Digest) -> bool {
        self.view_blobs.contains(digest)
    }

    /// For each blob that something refers to, one record, view or download that does, in words.
    pub(crate) fn users_of_blobs(&self) -> HashMap<&Digest, String> {
        let mut users = HashMap::new();
        for (id, slot) in &self.views {
            for digest in slot.summary.iter().flat_map(|summary| summary.blobs()) {
                users.entry(digest).or_insert_with(|| format!("view {id}"));
            }
        }
        for kept in self.records.values() {
            let named = kept.blobs.iter().map(|digest| &**digest).chain(&kept.record.manifest_digest);
            for digest in named {
                users.insert(digest, format!("volume {}", kept.record.volume_id));
            }
        }
        users.extend(self.held.names().map(|digest| (digest, "a view that is being built".to_owned())));
        users.extend(self.ingests.keys().map(|digest| (digest, "a running download".to_owned())));
        users
    }

    /// One record, view or download that refers to the blob, in words.
    pub(crate) fn user_of_blob(&self, digest: &Digest) -> Option<String> {
        if !self.is_blob_rooted(digest) && !self.is_blob_in_view(digest) {
            return None;
        }
        let mut users = self.users_of_blobs();
        let encoded = self.plain.get(digest).into_iter().flatten();
        users.remove(digest).or_else(|| encoded.into_iter().find_map(|encoded| users.remove(encoded)))
    }

    /// A volume that uses the view, in words.
    pub(crate) fn user_of_view(&self, id: &str) -> Option<String> {
        self.records_where(|record| record.view.as_deref() == Some(id))
            .next()
            .map(|record| format!("volume {}", record.volume_id))
    }
}
