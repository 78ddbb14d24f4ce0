//! What is due when, and whose turn it is. Namespaces take turns, so that none waits for all that another one has to tell.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use super::{Place, Reason};

/// When something is due; the number keeps the order of what is due at the same time.
pub(super) type Slot = (Instant, u64);

/// What waits, by namespace.
#[derive(Debug, Default)]
pub(super) struct Due {
    namespaces: HashMap<String, Waiting>,
    slots: u64,
    turns: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    slots: BTreeMap<Slot, (Place, Reason)>,
    /// The higher the later; one that had nothing to tell comes first.
    last_turn: u64,
}

impl Due {
    pub(super) fn insert(&mut self, namespace: &str, at: Instant, what: (Place, Reason)) -> Slot {
        self.slots += 1;
        let slot = (at, self.slots);
        self.namespaces.entry(namespace.to_owned()).or_default().slots.insert(slot, what);
        slot
    }

    pub(super) fn remove(&mut self, namespace: &str, slot: Slot) {
        if let Some(waiting) = self.namespaces.get_mut(namespace) {
            waiting.slots.remove(&slot);
            if waiting.slots.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
    }

    /// When the next thing is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let firsts = self.namespaces.values().filter_map(|waiting| waiting.slots.first_key_value());
        firsts.map(|((at, _), _)| *at).min()
    }

    /// The oldest of what is due `now`, of the namespace whose last turn was the longest ago.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Place, Reason)> {
        let due = self.namespaces.iter().filter_map(|(namespace, waiting)| {
            let (slot, _) = waiting.slots.first_key_value().filter(|((at, _), _)| *at <= now)?;
            Some((waiting.last_turn, *slot, namespace))
        });
        let (_, slot, namespace) = due.min()?;
        let namespace = namespace.clone();
        self.turns += 1;
        let waiting = self.namespaces.get_mut(&namespace)?;
        waiting.last_turn = self.turns;
        let what = waiting.slots.remove(&slot);
        if waiting.slots.is_empty() {
            self.namespaces.remove(&namespace);
        }
        what
    }
}
