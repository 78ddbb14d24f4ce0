//! How fast connections are, and what follows from it: which should make way, which part is shared out. Pure.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often paces are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// A pace is known after this long, and forgets what is older than twice that.
const WINDOW: Duration = Duration::from_secs(1);
/// Whoever is this much slower than a rival makes way.
const MUCH_SLOWER: f64 = 4.0;
/// Below this rate, in bytes a second, a rival that nobody has tried gets a try ...
const CRAWL: f64 = 65_536.0;
/// ... after this time.
const CRAWL_PATIENCE: Duration = Duration::from_secs(2);
/// The end of a part that would take less than this is left to its connection.
const WORTH_SPLITTING: Duration = Duration::from_secs(1);
/// No piece of a part is smaller than this many bytes.
const LEAST_PIECE: u64 = 256 << 10;

/// What one connection counts.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    held_nanos: AtomicU64,
}

impl Meter {
    /// So many bytes came.
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So long it was not read, for reasons of our own.
    pub(crate) fn held(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.held_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn read(&self, at: Instant) -> Mark {
        let held = Duration::from_nanos(self.held_nanos.load(Ordering::Relaxed));
        Mark { at, held, bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// What a meter said at a moment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    held: Duration,
    bytes: u64,
}

impl Mark {
    /// Bytes since `before`, and how long the source had for them.
    fn since(&self, before: &Self) -> (f64, Duration) {
        let time = self.at.saturating_duration_since(before.at);
        let held = self.held.saturating_sub(before.held);
        (self.bytes.saturating_sub(before.bytes) as f64, time.saturating_sub(held))
    }
}

/// Bytes of one connection over time.
#[derive(Debug)]
pub(crate) struct Pace {
    meter: Arc<Meter>,
    begin: Mark,
    /// Two moments, the older one first, a window apart once it is old enough.
    marks: [Mark; 2],
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        let begin = Mark { at: now, held: Duration::ZERO, bytes: 0 };
        Self { meter: Arc::default(), begin, marks: [begin; 2] }
    }

    /// Where the connection counts.
    pub(crate) fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// How long it runs.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begin.at)
    }

    /// Moves the window on; to be called every [`TICK`].
    pub(crate) fn observe(&mut self, now: Instant) {
        if now.saturating_duration_since(self.marks[1].at) >= WINDOW {
            self.marks = [self.marks[1], self.meter.read(now)];
        }
    }

    /// Bytes a second of late; none while it is too young to tell, or was not read for most of the time.
    pub(crate) fn rate(&self, now: Instant) -> Option<f64> {
        let (bytes, time) = self.meter.read(now).since(&self.marks[0]);
        (self.age(now) >= WINDOW && time >= WINDOW / 2).then(|| bytes / time.as_secs_f64())
    }

    /// Bytes a second over its whole life, if that was long enough to mean something.
    pub(crate) fn lifetime_rate(&self, now: Instant) -> Option<f64> {
        const SHORTEST: Duration = Duration::from_millis(5);
        let (bytes, time) = self.meter.read(now).since(&self.begin);
        (bytes >= LEAST_PIECE as f64 || time >= WINDOW).then(|| bytes / time.max(SHORTEST).as_secs_f64())
    }
}

/// Another origin that could be used in place of a connection's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rival {
    /// Bytes a second of one of its connections, if it was tried.
    pub(crate) rate: Option<f64>,
    /// Whether a connection is trying it now.
    pub(crate) busy: bool,
}

/// Whether a connection of this rate and age should give its part to a rival, or to another connection of its own
/// origin, of which `own` is known.
pub(crate) fn should_make_way(rate: Option<f64>, age: Duration, own: Option<f64>, rivals: &[Rival]) -> bool {
    let Some(rate) = rate else { return false };
    if rate < CRAWL && age >= CRAWL_PATIENCE && own.is_some_and(|own| own >= MUCH_SLOWER * rate.max(1.0)) {
        return true;
    }
    rivals.iter().any(|rival| match rival.rate {
        Some(theirs) => theirs >= MUCH_SLOWER * rate.max(1.0),
        None => !rival.busy && rate < CRAWL && age >= CRAWL_PATIENCE,
    })
}

/// How a source stands among those of its flight: the least is used first.
///
/// Each one is tried once, with one connection; then the fast ones are used, whoever came last.
pub(crate) fn class(rate: Option<f64>, busy: bool, best: Option<f64>) -> u8 {
    match (rate, best) {
        (None, _) => 2 * u8::from(busy),
        (Some(rate), _) if rate < CRAWL => 3,
        (Some(rate), Some(best)) if MUCH_SLOWER * rate.max(1.0) <= best => 3,
        (Some(_), _) => 1,
    }
}

/// Where a helper should cut what a connection has still to fetch, so that both are done at the same time; none if
/// it is not worth a connection.
pub(crate) fn split(open: &Range<u64>, rate: Option<f64>, helper: Option<f64>) -> Option<u64> {
    let rate = rate?.max(1.0);
    let left = open.end.saturating_sub(open.start);
    if (left as f64 / rate) < WORTH_SPLITTING.as_secs_f64() || left < 2 * LEAST_PIECE {
        return None;
    }
    let helper = helper.unwrap_or(rate).max(1.0);
    // In whole pieces, which are few.
    let pieces = (left as f64 * rate / (rate + helper) / LEAST_PIECE as f64).floor();
    let most = left / LEAST_PIECE - 1;
    let keep = (1..=most).rev().find(|n| *n as f64 <= pieces).unwrap_or(1);
    Some(open.start + keep * LEAST_PIECE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MIB: f64 = 1_048_576.0;

    #[test]
    fn a_pace_is_what_came_of_late() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let meter = pace.meter();
        assert_eq!(pace.rate(start + SECOND / 2), None);
        // A megabyte a second for three seconds, then nothing.
        for tick in 1..=12_u32 {
            meter.received(250_000);
            pace.observe(start + tick * TICK);
        }
        let rate = pace.rate(start + 3 * SECOND).unwrap();
        assert!((rate - 1e6).abs() < 1e5, "{rate}");
        for tick in 13..=24 {
            pace.observe(start + tick * TICK);
        }
        assert_eq!(pace.rate(start + 6 * SECOND), Some(0.0));
        assert_eq!(pace.lifetime_rate(start + 6 * SECOND), Some(500_000.0));
        // Not its fault: for half of the time nobody read.
        meter.held(3 * SECOND);
        assert_eq!(pace.lifetime_rate(start + 6 * SECOND), Some(1e6));
        assert_eq!(pace.rate(start + 6 * SECOND), None);
    }

    #[test]
    fn who_crawls_makes_way_for_whoever_is_better_or_untried() {
        let tried = |rate| Rival { rate: Some(rate), busy: true };
        let fresh = Rival { rate: None, busy: false };
        let in_use = Rival { rate: None, busy: true };
        for (rate, age, rivals, expected) in [
            (None, 9 * SECOND, vec![tried(1e9), fresh], false),
            (Some(MIB), 9 * SECOND, vec![], false),
            (Some(MIB), SECOND, vec![tried(3.0 * MIB)], false),
            (Some(MIB), SECOND, vec![tried(5.0 * MIB)], true),
            (Some(MIB), 9 * SECOND, vec![fresh], false),
            (Some(1000.0), SECOND, vec![fresh], false),
            (Some(1000.0), 2 * SECOND, vec![in_use], false),
            (Some(1000.0), 2 * SECOND, vec![in_use, fresh], true),
            (Some(0.0), 2 * SECOND, vec![tried(0.0)], false),
            (Some(0.0), 2 * SECOND, vec![tried(1000.0)], true),
        ] {
            assert_eq!(should_make_way(rate, age, None, &rivals), expected, "{rate:?} {age:?} {rivals:?}");
        }
        // One that hangs while others of the same origin run.
        assert!(should_make_way(Some(0.0), 2 * SECOND, Some(MIB), &[]));
        assert!(!should_make_way(Some(MIB), 9 * SECOND, Some(99.0 * MIB), &[]));
    }

    #[test]
    fn each_source_is_tried_once_before_the_fast_ones_are_preferred() {
        let best = Some(8.0 * MIB);
        let order = [
            class(None, false, best),
            class(Some(7.0 * MIB), true, best),
            class(None, true, best),
            class(Some(MIB), false, best),
        ];
        assert!(order.is_sorted() && order[0] != order[3], "{order:?}");
        assert_eq!(class(Some(1e6), true, Some(1e6)), class(Some(9e9), true, Some(9e9)));
        assert!(class(Some(1000.0), true, Some(1000.0)) > class(None, true, Some(1000.0)));
    }

    #[test]
    fn a_slow_part_is_shared_so_that_both_end_together() {
        let part = 0..16 << 20;
        assert_eq!(split(&part, None, None), None);
        assert_eq!(split(&part, Some(16.5 * MIB), Some(MIB)), None, "done in a second anyway");
        assert_eq!(split(&part, Some(MIB), Some(MIB)), Some(8 << 20));
        assert_eq!(split(&part, Some(MIB), Some(15.0 * MIB)), Some(1 << 20));
        // A stalled one keeps the least piece, of which most is in its buffer.
        assert_eq!(split(&part, Some(0.0), Some(MIB)), Some(LEAST_PIECE));
        assert_eq!(split(&(0..LEAST_PIECE * 2 - 1), Some(0.0), Some(MIB)), None);
        let odd = 1000..1000 + 2 * LEAST_PIECE;
        assert_eq!(split(&odd, Some(1.0), Some(1e9)), Some(1000 + LEAST_PIECE));
    }
}
