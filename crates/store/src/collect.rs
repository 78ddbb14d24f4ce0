//! Collection: what nobody refers to goes, least recently used first, until there is room.

use std::collections::{BTreeSet, HashSet};
use std::sync::PoisonError;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stowage_artifact::digest::Digest;
use stowage_sys::Space;

use crate::error::StoreError;
use crate::options::{MinFree, StoreOptions, Watermarks};
use crate::store::{Inner, Store};
use crate::trash::Freed;
use crate::usage::{Usage, ingests, quarantined};

/// How a collection runs; what is `None` is as the store was opened.
#[derive(Clone, Debug, Default)]
pub struct CollectOptions {
    /// Everything that nobody refers to goes, whatever the watermarks say.
    pub force: bool,
    /// Room to make for bytes that are about to come, besides what is kept free. Where all that may go would
    /// not make that room, nothing goes for it: nobody can empty the cache by asking for too much.
    pub need_bytes: u64,
    /// Room to make for inodes that are about to come.
    pub need_inodes: u64,
    /// What was used in this time stays.
    pub min_age: Option<Duration>,
    /// The most bytes that the store may hold.
    pub max_bytes: Option<u64>,
    /// What is kept free when there is something that needs room.
    pub min_free: Option<MinFree>,
    /// When collection starts and stops.
    pub watermarks: Option<Watermarks>,
}

/// What a collection has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectReport {
    /// Views.
    pub views: u64,
    /// Blobs.
    pub blobs: u64,
    /// Downloads that nobody wanted any more.
    pub ingests: u64,
    /// Blobs in quarantine.
    pub quarantined: u64,
    /// Bytes that are free now.
    pub bytes: u64,
}

/// Files and directory of a download, or of what is in quarantine.
const ASIDE_INODES: u64 = 3;

/// How much has to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Goal {
    bytes: u64,
    inodes: u64,
}

impl Goal {
    const EVERYTHING: Self = Self { bytes: u64::MAX, inodes: u64::MAX };

    /// The goal of a collection, from the options and what the filesystem and the store hold.
    fn of(options: &CollectOptions, defaults: &StoreOptions, space: &Space, usage: &Usage) -> Self {
        if options.force {
            return Self::EVERYTHING;
        }
        let marks = options.watermarks.unwrap_or(defaults.watermarks);
        let min_free = options.min_free.unwrap_or(defaults.min_free);
        let mut goal = Self::default();
        let used = space.bytes_total.saturating_sub(space.bytes_free);
        if used >= percent(space.bytes_total, marks.start_percent) {
            let over = used.saturating_sub(percent(space.bytes_total, marks.stop_percent));
            let above_floor = usage.bytes.saturating_sub(percent(space.bytes_total, marks.floor_percent));
            goal.bytes = over.min(above_floor);
        }
        if options.need_bytes > 0 {
            let wanted =
                options.need_bytes.saturating_add(percent(space.bytes_total, min_free.bytes_percent));
            goal.bytes = goal.bytes.max(wanted.saturating_sub(space.bytes_free));
        }
        if let Some(limit) = options.max_bytes.or(defaults.max_bytes) {
            let after = usage.bytes.saturating_add(options.need_bytes);
            goal.bytes = goal.bytes.max(after.saturating_sub(limit));
        }
        if space.inodes_total > 0 {
            let keep = percent(space.inodes_total, min_free.inodes_percent);
            goal.inodes = keep.saturating_add(options.need_inodes).saturating_sub(space.inodes_free);
        }
        goal
    }

    const fn is_reached(self, freed: Freed) -> bool {
        freed.bytes >= self.bytes && freed.inodes >= self.inodes
    }
}

pub(crate) fn percent(whole: u64, percent: u8) -> u64 {
    (u128::from(whole) * u128::from(percent) / 100) as u64
}

/// Something that may go.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Candidate {
    View(String),
    Blob(Digest),
    /// With the declared size, then the bytes on the disk.
    Ingest(Digest, u64, u64),
    Quarantined(Digest, u64),
}

impl Store {
    /// Removes what nobody refers to, as far as the options ask for it.
    pub fn collect(&self, options: &CollectOptions) -> Result<CollectReport, StoreError> {
        let inner = self.inner();
        let _one = inner.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        inner.sync_records_soon();
        inner.load_views();
        inner.load_decoded()?;
        let mut run = Run { store: inner, report: CollectReport::default(), freed: Freed::default() };
        run.drop_old_ingests()?;
        let space = inner.space()?;
        let usage = inner.scan_usage()?;
        let goal = Goal::of(options, &inner.options, &space, &usage);
        let min_age = options.min_age.unwrap_or(inner.options.min_age);
        run.freed = Freed::default();
        if goal != Goal::default() {
            let candidates = run.candidates(min_age)?;
            let goal = if options.force || goal.is_reached(run.reclaimable(&candidates)?) {
                goal
            } else {
                let without_need = CollectOptions { need_bytes: 0, need_inodes: 0, ..options.clone() };
                Goal::of(&without_need, &inner.options, &space, &usage)
            };
            for (last_used, candidate) in candidates {
                if goal.is_reached(run.freed) {
                    break;
                }
                run.evict(last_used, candidate, min_age)?;
            }
        }
        self.prune_tags()?;
        inner.prune_decoded()?;
        inner.grants.compact_if_worth()?;
        let report = run.report;
        if report != CollectReport::default() {
            tracing::info!(
                views = report.views,
                blobs = report.blobs,
                ingests = report.ingests,
                bytes = report.bytes,
                "collected what nobody uses"
            );
        }
        Ok(report)
    }
}

struct Run<'a> {
    store: &'a Inner,
    report: CollectReport,
    freed: Freed,
}

impl Run<'_> {
    fn count(&mut self, freed: Freed) {
        self.freed.bytes += freed.bytes;
        self.freed.inodes += freed.inodes;
        self.report.bytes += freed.bytes;
    }

    /// Bytes of a download that nobody has wanted for a day.
    fn drop_old_ingests(&mut self) -> Result<(), StoreError> {
        for aside in ingests(&self.store.dirs.ingest)? {
            if self.store.clock().age(aside.changed) >= self.store.options.max_ingest_age
                && self.store.remove_idle_ingest(&aside.digest, aside.size)?
            {
                self.report.ingests += 1;
                self.count(Freed { bytes: aside.bytes, inodes: aside.inodes });
            }
        }
        Ok(())
    }

    /// What may go, least recently used first. Only a first look: [`Run::evict`] decides under the lock.
    fn candidates(&self, min_age: Duration) -> Result<Vec<(u64, Candidate)>, StoreError> {
        let store = self.store;
        // Outside the lock below, which the clock's first use takes.
        let clock = store.clock();
        let old = |time: u64| clock.age(time) >= min_age;
        let mut candidates = Vec::new();
        let unused: Vec<String> = {
            let refs = store.refs();
            refs.view_ids().filter(|id| !refs.is_view_used(id)).cloned().collect()
        };
        for id in unused {
            if let Some(last_used) = store.view_last_used(&id).filter(|&time| old(time)) {
                candidates.push((last_used, Candidate::View(id)));
            }
        }
        store.each_blob(|blob| {
            let refs = store.refs();
            if !refs.is_blob_rooted(&blob.digest)
                && !refs.is_blob_in_view(&blob.digest)
                && old(blob.changed())
            {
                candidates.push((blob.changed(), Candidate::Blob(blob.digest.clone())));
            }
        })?;
        for aside in ingests(&store.dirs.ingest)? {
            if !store.refs().is_ingesting(&aside.digest, aside.size) && old(aside.changed) {
                candidates.push((aside.changed, Candidate::Ingest(aside.digest, aside.size, aside.bytes)));
            }
        }
        for aside in quarantined(&store.dirs.quarantine)? {
            if old(aside.changed) {
                candidates.push((aside.changed, Candidate::Quarantined(aside.digest, aside.bytes)));
            }
        }
        candidates.sort_unstable();
        Ok(candidates)
    }

    /// What would be free if every candidate went.
    fn reclaimable(&self, candidates: &[(u64, Candidate)]) -> Result<Freed, StoreError> {
        let store = self.store;
        let mut sum = Freed::default();
        let (mut going, mut loose) = (HashSet::new(), HashSet::new());
        for (_, candidate) in candidates {
            match candidate {
                Candidate::View(id) => {
                    going.insert(id);
                }
                Candidate::Blob(digest) => {
                    loose.insert(digest);
                }
                Candidate::Ingest(_, _, bytes) | Candidate::Quarantined(_, bytes) => {
                    sum.bytes += bytes;
                    sum.inodes += ASIDE_INODES;
                }
            }
        }
        let (mut staying, mut freed_by_views) = (HashSet::new(), HashSet::new());
        for (id, slot) in store.refs().views() {
            let blobs = slot.summary.iter().flat_map(|summary| summary.blobs()).cloned();
            if going.contains(id) { freed_by_views.extend(blobs) } else { staying.extend(blobs) }
        }
        store.each_blob(|blob| {
            let digest = &blob.digest;
            let goes =
                loose.contains(digest) || (freed_by_views.contains(digest) && !staying.contains(digest));
            if goes && !store.refs().is_blob_rooted(digest) {
                sum.bytes += blob.bytes();
                sum.inodes += blob.siblings.len() as u64;
            }
        })?;
        Ok(sum)
    }

    fn evict(&mut self, last_used: u64, candidate: Candidate, min_age: Duration) -> Result<(), StoreError> {
        match candidate {
            Candidate::View(id) => self.evict_view(last_used, &id, min_age),
            Candidate::Blob(digest) => self.evict_blob(&digest),
            Candidate::Ingest(digest, size, bytes) => {
                if self.store.remove_idle_ingest(&digest, size)? {
                    self.report.ingests += 1;
                    self.count(Freed { bytes, inodes: ASIDE_INODES });
                }
                Ok(())
            }
            Candidate::Quarantined(digest, bytes) => {
                let name = crate::names::flat(&digest);
                self.store.dirs.quarantine.remove_all("quarantine.remove", &name)?;
                self.report.quarantined += 1;
                self.count(Freed { bytes, inodes: ASIDE_INODES });
                Ok(())
            }
        }
    }

    /// A view goes with the blobs that only it has.
    fn evict_view(&mut self, last_used: u64, id: &str, min_age: Duration) -> Result<(), StoreError> {
        let summary = self.store.view_summary(id).ok().flatten();
        // Used between the listing and now.
        let touched = self.store.view_last_used(id).is_some_and(|time| time != last_used);
        if (touched && !min_age.is_zero()) || !self.store.remove_unused_view(id)? {
            return Ok(());
        }
        self.report.views += 1;
        let blobs: BTreeSet<Digest> = summary.iter().flat_map(|summary| summary.blobs()).cloned().collect();
        for digest in blobs {
            self.evict_blob(&digest)?;
        }
        Ok(())
    }

    fn evict_blob(&mut self, digest: &Digest) -> Result<(), StoreError> {
        if let Some(freed) = self.store.remove_unused_blob(digest)? {
            self.report.blobs += 1;
            self.count(freed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn goal(options: &CollectOptions, free: u64, store: u64) -> Goal {
        let space = Space { bytes_total: 100 * GIB, bytes_free: free, inodes_total: 1000, inodes_free: 500 };
        let usage = Usage { bytes: store, ..Usage::default() };
        Goal::of(options, &StoreOptions::default(), &space, &usage)
    }

    #[test]
    fn the_watermarks_start_and_stop_a_collection() {
        let options = CollectOptions::default();
        assert_eq!(goal(&options, 21 * GIB, 50 * GIB).bytes, 0, "79 % is below the start");
        assert_eq!(goal(&options, 20 * GIB, 50 * GIB).bytes, 5 * GIB, "from 80 % down to 75 %");
        assert_eq!(goal(&options, 5 * GIB, 50 * GIB).bytes, 20 * GIB);
    }

    #[test]
    fn a_full_neighbour_does_not_empty_the_cache() {
        let options = CollectOptions::default();
        assert_eq!(goal(&options, GIB, 6 * GIB).bytes, GIB, "down to 5 % of the disk");
        assert_eq!(goal(&options, GIB, 4 * GIB).bytes, 0);
        let needed = CollectOptions { need_bytes: GIB, ..CollectOptions::default() };
        assert_eq!(goal(&needed, GIB, 4 * GIB).bytes, 20 * GIB, "what is needed now is another matter");
    }

    #[test]
    fn caps_and_needs_are_all_met() {
        let capped = CollectOptions { max_bytes: Some(10 * GIB), ..CollectOptions::default() };
        assert_eq!(goal(&capped, 90 * GIB, 12 * GIB).bytes, 2 * GIB);
        let both = CollectOptions { need_bytes: 3 * GIB, ..capped };
        assert_eq!(goal(&both, 90 * GIB, 12 * GIB).bytes, 5 * GIB);
        let need = CollectOptions { need_bytes: 3 * GIB, ..CollectOptions::default() };
        assert_eq!(goal(&need, 22 * GIB, 12 * GIB).bytes, GIB, "3 GiB besides the 20 % kept free");
        let inodes = CollectOptions { need_inodes: 450, ..CollectOptions::default() };
        assert_eq!(goal(&inodes, 90 * GIB, 0), Goal { bytes: 0, inodes: 50 });
        let force = CollectOptions { force: true, ..CollectOptions::default() };
        assert_eq!(goal(&force, 90 * GIB, 0), Goal::EVERYTHING);
    }
}
