//! Pauses that grow, one for each object: nothing wakes a step so often that it must be repeated as often.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::api::ObjectMeta;
use tokio::time::Instant;

/// How long a pause that is over is remembered: the next one is longer.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Pauses by the object's uid. A change of its spec ends the pause.
pub(crate) struct Pauses<T> {
    first: Duration,
    longest: Duration,
    by_uid: Mutex<HashMap<String, Pause<T>>>,
}

struct Pause<T> {
    generation: Option<i64>,
    length: Duration,
    until: Instant,
    note: T,
}

impl<T: Clone> Pauses<T> {
    /// The first pause lasts `first`; each one after it twice as long as the last, up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, by_uid: Mutex::default() }
    }

    /// What is left of the object's pause, and why there is one.
    pub(crate) fn left(&self, object: &ObjectMeta) -> Option<(Duration, T)> {
        let pauses = self.lock();
        let pause = pauses.get(object.uid.as_deref()?)?;
        let left = pause.until.saturating_duration_since(Instant::now());
        (pause.generation == object.generation && !left.is_zero()).then(|| (left, pause.note.clone()))
    }

    /// Begins the next pause, and says how long it is: within `limit`, unless `at_least` is more.
    pub(crate) fn next(&self, object: &ObjectMeta, note: T, at_least: Duration, limit: Duration) -> Duration {
        let Some(uid) = object.uid.clone() else { return self.first.max(at_least) };
        let now = Instant::now();
        let mut pauses = self.lock();
        pauses.retain(|_, pause| now < pause.until + REMEMBERED);
        let before = pauses.get(&uid).filter(|pause| pause.generation == object.generation);
        let doubled = before.map_or(self.first, |pause| pause.length.saturating_mul(2));
        let length = doubled.min(self.longest).min(limit);
        let pause = length.max(at_least);
        pauses.insert(uid, Pause { generation: object.generation, length, until: now + pause, note });
        pause
    }

    /// The next pause is a first one again.
    pub(crate) fn end(&self, object: &ObjectMeta) {
        if let Some(uid) = &object.uid {
            self.lock().remove(uid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pause<T>>> {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn object(uid: &str, generation: i64) -> ObjectMeta {
        ObjectMeta { uid: Some(uid.to_owned()), generation: Some(generation), ..ObjectMeta::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_a_limit_and_begin_anew_with_a_change() {
        let pauses = Pauses::new(seconds(10), seconds(300));
        let one = object("1", 1);
        assert_eq!(pauses.left(&one), None);
        let next = |at_least| pauses.next(&one, "why", at_least, Duration::MAX);
        let lengths: Vec<u64> = (0..7).map(|_| next(Duration::ZERO).as_secs()).collect();
        assert_eq!(lengths, [10, 20, 40, 80, 160, 300, 300]);
        tokio::time::advance(seconds(299)).await;
        assert_eq!(pauses.left(&one), Some((seconds(1), "why")));
        assert_eq!(pauses.left(&object("2", 1)), None, "each object has its own");
        assert_eq!(pauses.left(&object("1", 2)), None, "a change is looked at once");
        assert_eq!(pauses.next(&object("1", 2), "why", Duration::ZERO, Duration::MAX), seconds(10));
        pauses.end(&one);
        assert_eq!(next(seconds(400)), seconds(400), "who asks for patience gets it");
        assert_eq!(pauses.next(&one, "why", Duration::ZERO, seconds(15)), seconds(15));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_long_over_is_forgotten() {
        let pauses = Pauses::new(seconds(10), seconds(300));
        pauses.next(&object("1", 1), (), Duration::ZERO, Duration::MAX);
        tokio::time::advance(seconds(3700)).await;
        pauses.next(&object("2", 1), (), Duration::ZERO, Duration::MAX);
        assert_eq!(pauses.lock().len(), 1);
    }
}
