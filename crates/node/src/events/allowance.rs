//! How many calls of the API server this node may make.

use std::time::Duration;

use tokio::time::Instant;

/// Calls that may be made at once after a quiet time.
const BURST: u32 = 25;
/// Between two calls in the long run: five a second.
const EVERY: Duration = Duration::from_millis(200);

/// A token bucket. It only knows when it will be full again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    full_at: Instant,
}

impl Allowance {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// From when on the next call may be made; the past where it may be made at once.
    pub(super) fn ready(&self) -> Instant {
        self.full_at.checked_sub(EVERY * (BURST - 1)).unwrap_or(self.full_at)
    }

    /// One call is made.
    pub(super) fn spend(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_the_steady_rate() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut allowance = Allowance::new(start);
        let mut now = start;
        for _ in 0..BURST {
            assert!(allowance.ready() <= now);
            allowance.spend(now);
        }
        for _ in 0..10 {
            assert_eq!(allowance.ready() - now, EVERY);
            now = allowance.ready();
            allowance.spend(now);
        }
        // A quiet time gives one burst back and no more.
        now += EVERY * BURST * 10;
        let made = std::iter::from_fn(|| (allowance.ready() <= now).then(|| allowance.spend(now)));
        assert_eq!(made.count(), BURST as usize);
    }
}
