//! How the sources of one flight fare: failures, pauses, and who delivered wrong bytes. Pure but for the jitter.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stowage_artifact::digest::Digest;
use stowage_store::{BlobSource, SourceError, SourceErrorKind};

use crate::options::EngineOptions;

/// What is known of one origin (host and repository), whoever's credential was used.
#[derive(Debug, Default, Clone)]
pub(crate) struct Health {
    /// Failed tries since the last new byte.
    pub(crate) failures: u32,
    /// Counts episodes of failure: connections that broke together are one failed try.
    pub(crate) episode: u64,
    /// No try before this moment.
    pub(crate) not_before: Option<Instant>,
    /// What it makes of a range.
    pub(crate) ranges: Ranged,
    /// It has honoured one in this flight, so another answer is a fault that may pass.
    pub(crate) honoured: bool,
    /// Passes that ended in wrong bytes and in which it took part.
    pub(crate) strikes: u32,
    /// Bytes a second of one of its connections, of late; none before one was watched long enough.
    pub(crate) rate: Option<f64>,
}

/// What an origin makes of a request for a range.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ranged {
    /// Nothing else is known.
    #[default]
    Honoured,
    /// It answers with the whole blob.
    Ignored,
    /// It answers with an error, or with another range.
    Refused,
}

impl Health {
    /// A try that began in `episode` failed; false if that very fault was counted already.
    pub(crate) fn failed(
        &mut self,
        episode: u64,
        error: &SourceError,
        now: Instant,
        options: &EngineOptions,
    ) -> bool {
        if episode != self.episode {
            return false;
        }
        self.episode += 1;
        self.failures += 1;
        let pause = match (error.kind, error.retry_after) {
            (SourceErrorKind::RateLimited, Some(asked)) => asked.min(options.retry_after_cap),
            _ => backoff(self.failures, options),
        };
        self.not_before = Some(now + pause);
        true
    }

    /// One of its connections ran at so many bytes a second.
    pub(crate) fn ran_at(&mut self, rate: f64) {
        // What was seen before counts less with every look.
        self.rate = Some(self.rate.map_or(rate, |before| before.mul_add(0.7, rate * 0.3)));
    }

    /// A new byte is on disk.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }
}

/// Doubles with each failure up to the cap; the second half of it is left to chance, so that nodes that failed
/// together do not come back together.
fn backoff(failures: u32, options: &EngineOptions) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let full = options.backoff_base.saturating_mul(1 << doublings).min(options.backoff_cap);
    full.mul_f64(rand::random_range(0.5..=1.0))
}

/// Who delivered bytes in one pass, so that a wrong digest has a name.
#[derive(Default)]
pub(crate) struct Deliveries(Mutex<Delivered>);

#[derive(Default)]
struct Delivered {
    origins: BTreeSet<Arc<str>>,
    /// Each with a source that it stood in for.
    mirrors: BTreeMap<Arc<str>, Arc<dyn BlobSource>>,
}

impl Deliveries {
    /// Bytes came from this origin, or from a mirror in its place.
    pub(crate) fn add(&self, origin: &Arc<str>, mirror: Option<&Arc<str>>, source: &Arc<dyn BlobSource>) {
        let mut delivered = self.lock();
        match mirror {
            Some(mirror) if !delivered.mirrors.contains_key(mirror) => {
                delivered.mirrors.insert(Arc::clone(mirror), Arc::clone(source));
            }
            None if !delivered.origins.contains(origin) => {
                delivered.origins.insert(Arc::clone(origin));
            }
            _ => {}
        }
    }

    /// The origins whose own hosts delivered.
    pub(crate) fn origins(&self) -> Vec<Arc<str>> {
        self.lock().origins.iter().cloned().collect()
    }

    /// Tells the sources that their mirrors' bytes were wrong; answers with the names of these mirrors.
    pub(crate) fn distrust_mirrors(&self, digest: &Digest) -> Vec<Arc<str>> {
        let delivered = self.lock();
        for (mirror, source) in &delivered.mirrors {
            source.distrust(digest, mirror);
        }
        delivered.mirrors.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Delivered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hosts that asked for a pause, for all flights of the node.
#[derive(Debug, Default)]
pub(crate) struct QuietHosts(Mutex<HashMap<Arc<str>, Instant>>);

impl QuietHosts {
    /// The host wants no request before this moment.
    pub(crate) fn hush(&self, host: &str, until: Instant, now: Instant) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, end| *end > now);
        let end = hosts.entry(Arc::from(host)).or_insert(until);
        *end = (*end).max(until);
    }

    /// Until when a host is to be left alone, if it is.
    pub(crate) fn until(&self, host: &str, now: Instant) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied().filter(|end| *end > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> SourceError {
        SourceError::new(SourceErrorKind::Unavailable, "connection reset")
    }

    #[test]
    fn connections_that_break_together_are_one_failed_try() {
        let (mut health, now, options) = (Health::default(), Instant::now(), EngineOptions::default());
        assert!(health.failed(0, &unavailable(), now, &options));
        assert!(!health.failed(0, &unavailable(), now, &options));
        assert!(health.failed(1, &unavailable(), now, &options));
        assert_eq!(health.failures, 2);
        health.progressed();
        assert_eq!((health.failures, health.episode), (0, 2));
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_keep_half_of_it_at_least() {
        let options = EngineOptions::default();
        for (failures, full) in
            [(1, 500), (2, 1000), (3, 2000), (6, 16_000), (7, 20_000), (4_000_000, 20_000)]
        {
            let full = Duration::from_millis(full);
            let pause = backoff(failures, &options);
            assert!(pause <= full && pause >= full / 2, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_up_to_five_minutes() {
        let (now, options) = (Instant::now(), EngineOptions::default());
        for (asked, kept) in [(3, 3), (300, 300), (86_400, 300)] {
            let mut health = Health::default();
            let error = SourceError::new(SourceErrorKind::RateLimited, "429")
                .with_retry_after(Some(Duration::from_secs(asked)));
            health.failed(0, &error, now, &options);
            assert_eq!(health.not_before, Some(now + Duration::from_secs(kept)));
        }
    }

    #[test]
    fn a_hushed_host_is_quiet_for_every_flight_until_its_time() {
        let (hosts, now) = (QuietHosts::default(), Instant::now());
        hosts.hush("a", now + Duration::from_secs(9), now);
        hosts.hush("a", now + Duration::from_secs(2), now);
        assert_eq!(hosts.until("a", now), Some(now + Duration::from_secs(9)));
        assert_eq!(hosts.until("a", now + Duration::from_secs(9)), None);
        assert_eq!(hosts.until("b", now), None);
    }
}
