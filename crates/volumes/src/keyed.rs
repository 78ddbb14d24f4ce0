//! One asynchronous lock a key, gone when nobody holds or waits for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Locks by key. Keys that nobody uses take no memory.
#[derive(Debug)]
pub(crate) struct KeyedLocks<K: Eq + Hash + Clone>(Arc<Mutex<HashMap<K, Lock>>>);

/// Holds the lock of one key.
#[derive(Debug)]
pub(crate) struct KeyedGuard<K: Eq + Hash + Clone> {
    guard: Option<OwnedMutexGuard<()>>,
    key: K,
    locks: Arc<Mutex<HashMap<K, Lock>>>,
}

impl<K: Eq + Hash + Clone> Default for KeyedLocks<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> KeyedLocks<K> {
    /// Waits for the lock of `key`.
    pub(crate) async fn lock(&self, key: &K) -> KeyedGuard<K> {
        let lock =
            Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
        let guard = lock.lock_owned().await;
        KeyedGuard { guard: Some(guard), key: key.clone(), locks: Arc::clone(&self.0) }
    }
}

impl<K: Eq + Hash + Clone> Drop for KeyedGuard<K> {
    fn drop(&mut self) {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard.take();
        // The map's own reference is the last one: nobody holds and nobody waits.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holder_a_key_and_nothing_kept_afterwards() {
        let locks = KeyedLocks::<u8>::default();
        let first = locks.lock(&1).await;
        let other = locks.lock(&2).await;
        let waiting = {
            let (second, map) = (KeyedLocks(Arc::clone(&locks.0)), Arc::clone(&locks.0));
            tokio::spawn(async move {
                let guard = second.lock(&1).await;
                assert!(map.lock().unwrap().contains_key(&1));
                drop(guard);
            })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop((first, other));
        waiting.await.unwrap();
        assert!(locks.0.lock().unwrap().is_empty());
    }
}
