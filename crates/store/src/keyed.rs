//! One lock per name, made when it is wanted and dropped when nobody has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Locks by name.
#[derive(Debug, Default)]
pub(crate) struct KeyedLocks(Mutex<HashMap<String, Weak<Mutex<()>>>>);

impl KeyedLocks {
    /// Runs `work` while no other caller runs for the same name.
    pub(crate) fn with<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let known = locks.get(name).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let new = Arc::default();
                locks.insert(name.to_owned(), Arc::downgrade(&new));
                new
            })
        };
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}
