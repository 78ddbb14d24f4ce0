//! The node's limit of bytes a second, in which namespaces take turns.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// What may be spent at once after a pause, in time at the full rate.
const BURST: Duration = Duration::from_millis(100);

/// Spreads bytes over time. Without a limit it costs nothing.
#[derive(Debug)]
pub(crate) struct ByteRate(Option<Arc<Limited>>);

#[derive(Debug)]
struct Limited {
    bytes_per_second: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Until when the bytes that were handed out last.
    paid_until: Instant,
    /// Bytes that each namespace could have had up to now: start-time fair queueing.
    virtual_now: u64,
    queues: Vec<Queue>,
    /// Whether a task hands out.
    serving: bool,
}

/// One namespace.
#[derive(Debug)]
struct Queue {
    namespace: Arc<str>,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
    /// Where its last turn ended in the time that `virtual_now` counts.
    finish: u64,
}

impl ByteRate {
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self(bytes_per_second.map(|bytes_per_second| {
            let state =
                State { paid_until: Instant::now(), virtual_now: 0, queues: Vec::new(), serving: false };
            Arc::new(Limited { bytes_per_second, state: Mutex::new(state) })
        }))
    }

    /// Waits until so many bytes may be received for this namespace.
    pub(crate) async fn take(&self, namespace: &Arc<str>, bytes: u64) {
        let Some(limited) = &self.0 else { return };
        let (sender, turn) = oneshot::channel();
        let begin = {
            let mut state = limited.lock();
            state.enqueue(namespace, bytes, sender);
            !std::mem::replace(&mut state.serving, true)
        };
        if begin {
            tokio::spawn(Arc::clone(limited).serve());
        }
        // A dropped sender is the end of the runtime.
        drop(turn.await);
    }
}

impl Limited {
    async fn serve(self: Arc<Self>) {
        loop {
            let until = {
                let mut state = self.lock();
                let now = Instant::now();
                if let Some(earliest) = now.checked_sub(BURST) {
                    state.paid_until = state.paid_until.max(earliest);
                }
                if state.paid_until > now {
                    state.paid_until
                } else if let Some(bytes) = state.hand_out() {
                    state.paid_until += Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
                    continue;
                } else {
                    state.serving = false;
                    return;
                }
            };
            tokio::time::sleep_until(until).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, namespace: &Arc<str>, bytes: u64, sender: oneshot::Sender<()>) {
        let place = self.queues.iter().position(|queue| queue.namespace == *namespace).unwrap_or_else(|| {
            let finish = self.virtual_now;
            self.queues.push(Queue { namespace: Arc::clone(namespace), waiting: VecDeque::new(), finish });
            self.queues.len() - 1
        });
        self.queues[place].waiting.push_back((bytes, sender));
    }

    /// Serves the namespace that has had the least, and says how many bytes that took.
    fn hand_out(&mut self) -> Option<u64> {
        loop {
            let now = self.virtual_now;
            // One that has nobody waiting is remembered as long as it is ahead of the others.
            self.queues.retain(|queue| !queue.waiting.is_empty() || queue.finish > now);
            let waiting = self.queues.iter_mut().filter(|queue| !queue.waiting.is_empty());
            let queue = waiting.min_by_key(|queue| queue.finish.max(now))?;
            while let Some((bytes, sender)) = queue.waiting.pop_front() {
                // One that has gone takes nothing.
                if sender.send(()).is_ok() {
                    self.virtual_now = queue.finish.max(now);
                    queue.finish = self.virtual_now + bytes;
                    return Some(bytes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_over_time() {
        let rate = ByteRate::new(Some(1000));
        let (begun, a) = (Instant::now(), name("a"));
        for _ in 0..100 {
            rate.take(&a, 50).await;
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(4750) && took <= Duration::from_millis(5100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_share_by_bytes_however_many_wait() {
        let rate = Arc::new(ByteRate::new(Some(100_000)));
        let (many, one) = (name("many"), name("one"));
        let crowd: Vec<_> = (0..40)
            .map(|_| {
                let (rate, many) = (Arc::clone(&rate), Arc::clone(&many));
                tokio::spawn(async move {
                    for _ in 0..100 {
                        rate.take(&many, 1000).await;
                    }
                })
            })
            .collect();
        let begun = Instant::now();
        // Half of the rate: 100 kB in 2 s, in pieces of another size, and not more than half.
        for _ in 0..400 {
            rate.take(&one, 250).await;
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1700) && took <= Duration::from_millis(2300), "{took:?}");
        for task in crowd {
            task.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_queue_takes_nothing() {
        let rate = ByteRate::new(Some(1000));
        let (a, begun) = (name("a"), Instant::now());
        rate.take(&a, 1000).await;
        let gone = rate.take(&a, 100_000);
        assert!(tokio::time::timeout(Duration::from_millis(10), gone).await.is_err());
        rate.take(&a, 10).await;
        assert!(begun.elapsed() < Duration::from_millis(1500));
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        let rate = ByteRate::new(None);
        rate.take(&name("a"), u64::MAX).await;
    }
}
