//! What has happened, what of it the API server knows, and when it may be told the rest.
//!
//! One entry for each object: a pod's volume and a reason. What the server does not know yet is due at once. What
//! repeats is due thirty seconds after the last write for the volume; until then the newest message takes the place of
//! the one that waits, and the occurrences add up. Namespaces take turns, and share the room for volumes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::due::{Due, Slot};
use super::{Notice, Place, Reason, Subject};

/// For a volume, no object is patched sooner than this after its last write.
pub(super) const PATCH_EVERY: Duration = Duration::from_secs(30);
/// What could not be told in this time is no news any more.
pub(super) const STALE: Duration = Duration::from_mins(10);
/// Volumes that are remembered. Of one that was forgotten the server is asked for the count.
pub(super) const MOST_VOLUMES: usize = 1000;

/// The entries of all volumes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    volumes: HashMap<Place, Volume>,
    due: Due,
}

#[derive(Debug)]
struct Volume {
    subject: Subject,
    entries: BTreeMap<Reason, Entry>,
    touched: Instant,
    written: Option<Instant>,
    /// The volume was unpublished: what has happened is still told, and then forgotten.
    over: bool,
}

#[derive(Debug)]
struct Entry {
    /// All occurrences, also those that are not written.
    count: i32,
    first: Timestamp,
    /// Whether the server has the object, as far as we know.
    known: bool,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    message: String,
    last: Timestamp,
    since: Instant,
    slot: Slot,
}

/// One object to be written now.
#[derive(Clone, Debug)]
pub(super) struct Writing {
    pub(super) subject: Subject,
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) count: i32,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// Whether it is to be patched, not created.
    pub(super) known: bool,
    since: Instant,
}

impl Ledger {
    /// Something has happened. Returns how many older occurrences had to be forgotten for it.
    pub(super) fn enter(&mut self, notice: Notice, now: Instant) -> u64 {
        let Notice { subject, reason, message, at } = notice;
        let place = subject.place.clone();
        let dropped = if self.volumes.contains_key(&place) { 0 } else { self.make_room() };
        let namespace = subject.namespace.clone();
        if reason.ends_progress() {
            self.cancel(&place, Reason::Progress);
        }
        let volume = self.volumes.entry(place.clone()).or_insert_with(|| Volume {
            subject,
            entries: BTreeMap::new(),
            touched: now,
            written: None,
            over: false,
        });
        volume.touched = now;
        volume.over = false;
        let due = due(volume.entries.get(&reason).is_some_and(|entry| entry.known), volume.written, now);
        let entry = volume.entries.entry(reason).or_insert(Entry {
            count: 0,
            first: at,
            known: false,
            waiting: None,
        });
        entry.count = entry.count.saturating_add(1);
        if let Some(waiting) = &mut entry.waiting {
            waiting.message = message;
            waiting.last = at;
            waiting.since = now;
        } else {
            let slot = self.due.insert(&namespace, due, (place, reason));
            entry.waiting = Some(Waiting { message, last: at, since: now, slot });
        }
        dropped
    }

    /// The volume was unpublished: its figures are of no use any more.
    pub(super) fn end(&mut self, place: &Place) {
        self.cancel(place, Reason::Progress);
        if let Some(volume) = self.volumes.get_mut(place) {
            volume.over = true;
            self.forget_if_told(place);
        }
    }

    /// When the next write is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.next()
    }

    /// The next object that is due; it waits no longer. Returns also how many were too old to be told.
    pub(super) fn take(&mut self, now: Instant) -> (Option<Writing>, u64) {
        let mut stale = 0;
        while let Some((place, reason)) = self.due.pop(now) {
            let Some(volume) = self.volumes.get_mut(&place) else { continue };
            let Some(entry) = volume.entries.get_mut(&reason) else { continue };
            let Some(mut waiting) = entry.waiting.take() else { continue };
            let due = due(entry.known, volume.written, now);
            if due > now {
                // Another object of the volume was written since.
                waiting.slot = self.due.insert(&volume.subject.namespace, due, (place, reason));
                entry.waiting = Some(waiting);
            } else if now.duration_since(waiting.since) > STALE {
                stale += 1;
                self.forget_if_told(&place);
            } else {
                let Waiting { message, last, since, .. } = waiting;
                let (count, first, known) = (entry.count, entry.first, entry.known);
                let subject = volume.subject.clone();
                let writing = Writing { subject, reason, message, count, first, last, known, since };
                return (Some(writing), stale);
            }
        }
        (None, stale)
    }

    /// The server has it, with so many occurrences.
    pub(super) fn written(&mut self, writing: &Writing, count: i32, now: Instant) {
        let place = &writing.subject.place;
        if let Some(volume) = self.volumes.get_mut(place) {
            volume.written = Some(now);
            if let Some(entry) = volume.entries.get_mut(&writing.reason) {
                entry.known = true;
                entry.count = count;
            }
        }
        self.forget_if_told(place);
    }

    /// The server could not be told now; it is tried again at `due`, with what is known of the object by now.
    pub(super) fn put_back(&mut self, writing: Writing, due: Instant) {
        let Writing { subject, reason, message, count, last, known, since, .. } = writing;
        let entry = self.volumes.get_mut(&subject.place).and_then(|volume| volume.entries.get_mut(&reason));
        if let Some(entry) = entry {
            let slot = self.due.insert(&subject.namespace, due, (subject.place, reason));
            (entry.count, entry.known) = (count, known);
            entry.waiting = Some(Waiting { message, last, since, slot });
        }
    }

    /// The server will not have it.
    pub(super) fn give_up(&mut self, writing: &Writing) {
        self.forget_if_told(&writing.subject.place);
    }

    fn cancel(&mut self, place: &Place, reason: Reason) {
        let Some(volume) = self.volumes.get_mut(place) else { return };
        if let Some(waiting) = volume.entries.get_mut(&reason).and_then(|entry| entry.waiting.take()) {
            self.due.remove(&volume.subject.namespace, waiting.slot);
        }
    }

    /// An unpublished volume of which everything is told needs no entry.
    fn forget_if_told(&mut self, place: &Place) {
        let told = |volume: &Volume| volume.entries.values().all(|entry| entry.waiting.is_none());
        if self.volumes.get(place).is_some_and(|volume| volume.over && told(volume)) {
            self.volumes.remove(place);
        }
    }

    /// Where there are too many, forgets the volume that was quiet for the longest time, of the namespace with the most.
    fn make_room(&mut self) -> u64 {
        if self.volumes.len() < MOST_VOLUMES {
            return 0;
        }
        let Some(quiet) = self.quietest_of_most() else { return 0 };
        let Some(volume) = self.volumes.remove(&quiet) else { return 0 };
        let mut dropped = 0;
        for waiting in volume.entries.into_values().filter_map(|entry| entry.waiting) {
            self.due.remove(&volume.subject.namespace, waiting.slot);
            dropped += 1;
        }
        dropped
    }

    fn quietest_of_most(&self) -> Option<Place> {
        let mut shares: HashMap<&str, usize> = HashMap::new();
        for volume in self.volumes.values() {
            *shares.entry(&volume.subject.namespace).or_default() += 1;
        }
        let (most, _) = shares.into_iter().max_by_key(|(_, share)| *share)?;
        let of_most = self.volumes.iter().filter(|(_, volume)| volume.subject.namespace == most);
        of_most.min_by_key(|(_, volume)| volume.touched).map(|(place, _)| place.clone())
    }
}

fn due(known: bool, written: Option<Instant>, now: Instant) -> Instant {
    written.filter(|_| known).map_or(now, |written| now.max(written + PATCH_EVERY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::tests::{notice, place};

    fn taken(ledger: &mut Ledger, now: Instant) -> Vec<Reason> {
        let mut taken = Vec::new();
        while let (Some(writing), _) = ledger.take(now) {
            ledger.written(&writing, writing.count, now);
            taken.push(writing.reason);
        }
        taken
    }

    #[test]
    fn what_is_new_is_due_at_once_in_its_order_and_what_repeats_after_thirty_seconds() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        for reason in [Reason::Pulling, Reason::Pulled, Reason::Mounted] {
            ledger.enter(notice("u-1", reason, "x"), start);
        }
        assert_eq!(taken(&mut ledger, start), [Reason::Pulling, Reason::Pulled, Reason::Mounted]);
        let later = start + Duration::from_secs(10);
        ledger.enter(notice("u-1", Reason::PullFailed, "new"), later);
        ledger.enter(notice("u-1", Reason::Pulling, "again"), later);
        assert_eq!(taken(&mut ledger, later), [Reason::PullFailed]);
        assert_eq!(ledger.next_due(), Some(start + PATCH_EVERY));
        // The failure was written in between, and counts for the volume.
        assert_eq!(taken(&mut ledger, start + PATCH_EVERY), []);
        assert_eq!(ledger.next_due(), Some(later + PATCH_EVERY));
        assert_eq!(taken(&mut ledger, later + PATCH_EVERY), [Reason::Pulling]);
        assert_eq!(ledger.next_due(), None);
    }

    #[test]
    fn figures_that_wait_end_with_the_pull_and_with_the_volume() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.enter(notice("u-1", Reason::Progress, "30 %"), now);
        ledger.enter(notice("u-1", Reason::Pulled, "x"), now);
        assert_eq!(taken(&mut ledger, now), [Reason::Pulled]);
        ledger.enter(notice("u-2", Reason::Progress, "30 %"), now);
        ledger.end(&place("u-2"));
        assert_eq!(ledger.next_due(), None);
        assert!(!ledger.volumes.contains_key(&place("u-2")));
    }

    #[test]
    fn an_unpublished_volume_is_forgotten_when_all_is_told() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.enter(notice("u-1", Reason::PullFailed, "x"), now);
        ledger.end(&place("u-1"));
        assert_eq!(taken(&mut ledger, now), [Reason::PullFailed]);
        assert!(ledger.volumes.is_empty() && ledger.next_due().is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_the_quietest_volume_goes_first() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        for number in 0..MOST_VOLUMES {
            let now = start + Duration::from_millis(number as u64);
            assert_eq!(ledger.enter(notice(&format!("u-{number}"), Reason::Pulling, "x"), now), 0);
        }
        let late = start + Duration::from_mins(1);
        ledger.enter(notice("u-0", Reason::Pulling, "still here"), late);
        assert_eq!(ledger.enter(notice("u-new", Reason::Pulling, "x"), late), 1);
        assert_eq!(ledger.volumes.len(), MOST_VOLUMES);
        assert_eq!(taken(&mut ledger, late).len(), MOST_VOLUMES);
        assert!(ledger.volumes.contains_key(&place("u-0")));
        assert!(!ledger.volumes.contains_key(&place("u-1")));
    }

    #[test]
    fn what_could_not_be_told_for_long_is_dropped_and_counted() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        ledger.enter(notice("u-1", Reason::PullFailed, "x"), start);
        let (writing, _) = ledger.take(start);
        let late = start + STALE + Duration::from_secs(1);
        ledger.put_back(writing.unwrap(), late);
        let (none, stale) = ledger.take(late);
        assert!(none.is_none() && stale == 1);
        // It was never written, so the next occurrence is due at once, and counts both.
        ledger.enter(notice("u-1", Reason::PullFailed, "y"), late);
        let (writing, _) = ledger.take(late);
        assert_eq!(writing.map(|writing| (writing.count, writing.known)), Some((2, false)));
    }

    #[test]
    fn what_is_newer_than_ten_minutes_is_told_however_long_its_predecessors_have_waited() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        ledger.enter(notice("u-1", Reason::PullFailed, "old"), start);
        let late = start + STALE + Duration::from_secs(1);
        ledger.enter(notice("u-1", Reason::PullFailed, "new"), late);
        let (writing, stale) = ledger.take(late + STALE);
        assert_eq!((writing.map(|writing| writing.message).as_deref(), stale), (Some("new"), 0));
    }

    /// A notice of a pod in another namespace.
    fn of(namespace: &str, number: usize) -> Notice {
        let mut notice = notice(&format!("{namespace}-{number}"), Reason::PullFailed, "x");
        notice.subject.namespace = namespace.to_owned();
        notice
    }

    #[test]
    fn a_namespace_with_much_to_tell_leaves_the_others_their_turns_and_their_room() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        for number in 0..MOST_VOLUMES + 100 {
            ledger.enter(of("evil", number), start);
        }
        for number in 0..2 {
            ledger.enter(of("team", number), start + Duration::from_secs(1));
            ledger.enter(of("other", number), start + Duration::from_secs(1));
        }
        let now = start + Duration::from_secs(2);
        let mut turns = Vec::new();
        for _ in 0..7 {
            let (writing, _) = ledger.take(now);
            let writing = writing.unwrap();
            ledger.written(&writing, 1, now);
            turns.push(writing.subject.namespace);
        }
        for namespace in ["team", "other"] {
            let first = turns.iter().take(3).filter(|turn| *turn == namespace).count();
            let all = turns.iter().filter(|turn| *turn == namespace).count();
            assert_eq!((first, all), (1, 2), "{turns:?}");
        }
        // One more of them takes the place of one of the many.
        let others = |ledger: &Ledger| {
            ledger.volumes.values().filter(|volume| volume.subject.namespace != "evil").count()
        };
        for number in 2..50 {
            ledger.enter(of("team", number), now);
            ledger.enter(of("evil", 5000 + number), now);
        }
        assert_eq!((others(&ledger), ledger.volumes.len()), (52, MOST_VOLUMES));
    }
}
