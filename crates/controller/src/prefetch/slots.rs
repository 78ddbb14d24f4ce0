//! How many questions of one namespace may be on their way: a silent registry must not take all the room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Questions of one namespace at the same time.
const MOST: usize = 4;

/// The questions on their way, by namespace.
#[derive(Default)]
pub(crate) struct Slots(Arc<Mutex<HashMap<String, usize>>>);

/// One question; its end gives the room back.
pub(crate) struct Slot {
    taken: Arc<Mutex<HashMap<String, usize>>>,
    namespace: String,
}

impl Slots {
    /// Room for one more; nothing where the namespace has its share.
    pub(crate) fn take(&self, namespace: &str) -> Option<Slot> {
        let mut taken = lock(&self.0);
        let number = taken.entry(namespace.to_owned()).or_default();
        if *number >= MOST {
            return None;
        }
        *number += 1;
        Some(Slot { taken: Arc::clone(&self.0), namespace: namespace.to_owned() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(number) = taken.get_mut(&self.namespace) {
            *number -= 1;
            if *number == 0 {
                taken.remove(&self.namespace);
            }
        }
    }
}

fn lock(taken: &Mutex<HashMap<String, usize>>) -> MutexGuard<'_, HashMap<String, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_share_and_no_more() {
        let slots = Slots::default();
        let mut held: Vec<Slot> = (0..MOST).map(|_| slots.take("team").unwrap()).collect();
        assert!(slots.take("team").is_none());
        assert!(slots.take("other").is_some());
        held.pop();
        assert!(slots.take("team").is_some());
        drop(held);
        assert!(lock(&slots.0).is_empty(), "nothing is kept of who does not ask");
    }
}
