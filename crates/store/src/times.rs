//! Times: the fixed one of what a volume shows, and the clock of "last used", which never goes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;

/// 1980-01-01T00:00:00Z, the earliest time that zip knows, on every file and directory of a volume.
pub(crate) const FIXED_SECONDS: i64 = 315_532_800;
pub(crate) const FIXED_TIME: TimeSpec = TimeSpec::new(FIXED_SECONDS, 0);

/// Nanoseconds since 1970 of a time as stat(2) gives it; times before 1970 are 1970.
pub(crate) fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(nanoseconds).unwrap_or(0))
}

/// The same for a system call.
pub(crate) fn time_spec(nanoseconds: u64) -> TimeSpec {
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX);
    TimeSpec::new(seconds, (nanoseconds % 1_000_000_000).cast_signed())
}

/// Whole seconds since 1970 by the wall clock.
pub(crate) fn wall_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of "last used": starts behind everything that was used before, and follows the monotonic clock.
///
/// A wall clock that jumps back can thus neither make the newest view look oldest nor stop collection.
#[derive(Debug)]
pub(crate) struct UseClock {
    base: u64,
    started: Instant,
    ahead: AtomicU64,
}

impl UseClock {
    /// `newest` is the latest "last used" on the disk.
    pub(crate) fn starting_after(newest: u64) -> Self {
        let base = wall_nanoseconds().max(newest.saturating_add(1));
        Self { base, started: Instant::now(), ahead: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.base.saturating_add(elapsed).saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// How long ago `then` was; a time to come is no time ago.
    pub(crate) fn age(&self, then: u64) -> Duration {
        Duration::from_nanos(self.now().saturating_sub(then))
    }

    /// Lets time pass, for tests.
    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_behind_the_newest_use_and_never_goes_back() {
        let future = wall_nanoseconds() + 3_600_000_000_000;
        let clock = UseClock::starting_after(future);
        let first = clock.now();
        assert!(first > future);
        assert!(clock.now() >= first);
        assert_eq!(clock.age(first + 10_000_000_000), Duration::ZERO);
        clock.advance(Duration::from_mins(1));
        assert!(clock.age(first) >= Duration::from_mins(1));
    }

    #[test]
    fn times_go_to_the_kernel_and_back_unchanged() {
        let time = 1_700_000_000_123_456_789;
        let spec = time_spec(time);
        assert_eq!(nanoseconds(spec.tv_sec(), spec.tv_nsec()), time);
        assert_eq!(nanoseconds(-5, 0), 0);
    }
}
