//! One digest on its way: who waits for it, and whose source may be used.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use stowage_artifact::Codec;
use stowage_artifact::digest::Digest;
use stowage_store::{BlobSource, SourceError, SourceErrorKind};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::error::FetchError;
use crate::health::{Health, QuietHosts, Ranged};
use crate::options::EngineOptions;
use crate::pace::{self, Rival};
use crate::ticket::{FetchRequest, Fetched, Outcome, Progress, Ticket};

/// A flight; it ends when its blob is committed, when the store fails, or when nobody is interested any more.
pub(crate) struct Flight {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// How the bytes are decoded as they come.
    pub(crate) decode: Option<Codec>,
    /// Whether somebody wants the blob as it is.
    keep_encoded: AtomicBool,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    changed: watch::Sender<()>,
}

struct State {
    /// By ticket, so the freshest is the last.
    joiners: BTreeMap<u64, Joiner>,
    health: HashMap<Arc<str>, Health>,
    /// Bytes that each authority's sources have delivered, also those of callers who have left.
    delivered: HashMap<[u8; 32], Arc<AtomicU64>>,
    /// After wrong bytes one origin is tried alone, so that the next ones have a name.
    alone: Option<Arc<str>>,
    /// Passes that ended in wrong bytes and in which mirrors took part.
    wrong_mirrors: u32,
    /// Stops the pass that is running.
    pass: CancellationToken,
}

struct Joiner {
    source: Arc<dyn BlobSource>,
    origin: Arc<str>,
    namespace: Arc<str>,
    gone: CancellationToken,
    bytes: Arc<AtomicU64>,
    outcome: oneshot::Sender<Result<Fetched, FetchError>>,
}

/// A joiner's source in use by one connection, for one try.
#[derive(Clone)]
pub(crate) struct Lease {
    pub(crate) ticket: u64,
    pub(crate) source: Arc<dyn BlobSource>,
    /// Host and repository.
    pub(crate) origin: Arc<str>,
    pub(crate) namespace: Arc<str>,
    /// The owner has left: the source must not be used any more.
    pub(crate) gone: CancellationToken,
    pub(crate) ranges: Ranged,
    episode: u64,
    bytes: Arc<AtomicU64>,
}

/// So many passes may end in the wrong bytes of mirrors before the origins have to answer for them.
const MOST_WRONG_MIRRORS: u32 = 4;

/// The least is the best: honours ranges, failed least, is fast, is the freshest ticket's.
type Rank = (bool, u32, u8, Reverse<u64>);

/// How many connections of a flight each origin has.
pub(crate) type Busy = HashMap<Arc<str>, usize>;

/// Which source to use now.
pub(crate) enum Pick {
    Use(Lease),
    /// All of them are to be left alone until then.
    Later(Instant),
    Nobody,
}

impl Flight {
    pub(crate) fn new(digest: Digest, size: u64, decode: Option<Codec>) -> Self {
        Self {
            digest,
            size,
            decode,
            keep_encoded: AtomicBool::new(false),
            state: Mutex::new(State {
                joiners: BTreeMap::new(),
                health: HashMap::new(),
                delivered: HashMap::new(),
                alone: None,
                wrong_mirrors: 0,
                pass: CancellationToken::new(),
            }),
            progress: watch::Sender::new(Progress { total: size, ..Progress::default() }),
            changed: watch::Sender::new(()),
        }
    }

    /// Adds a caller and its source; both count from now on.
    pub(crate) fn join(self: &Arc<Self>, id: u64, request: FetchRequest) -> Ticket {
        let (outcome, receiver) = oneshot::channel();
        if request.decode.is_none() {
            self.keep_encoded.store(true, Ordering::Release);
        }
        let mut state = self.lock();
        let bytes =
            request.authority.map(|authority| Arc::clone(state.delivered.entry(authority).or_default()));
        let joiner = Joiner {
            origin: Arc::from(request.source.describe()),
            source: request.source,
            namespace: Arc::from(request.namespace),
            gone: CancellationToken::new(),
            bytes: bytes.unwrap_or_default(),
            outcome,
        };
        state.joiners.insert(id, joiner);
        drop(state);
        self.bump();
        Ticket {
            id,
            flight: Some(Arc::clone(self)),
            digest: request.digest,
            progress: self.progress.subscribe(),
            outcome: Outcome::Waiting(receiver),
        }
    }

    pub(crate) fn keeps_encoded(&self) -> bool {
        self.keep_encoded.load(Ordering::Acquire)
    }

    /// A caller has lost interest.
    pub(crate) fn leave(&self, ticket: u64) {
        self.remove(|id, _| id == ticket);
    }

    /// Fails one caller; the flight goes on for the others.
    pub(crate) fn fail_owner(&self, ticket: u64, error: &FetchError) {
        self.fail_where(error, |id, _| id == ticket);
    }

    /// Fails all callers whose sources are at this origin.
    fn fail_origin(&self, origin: &str, error: &FetchError) {
        self.fail_where(error, |_, joiner| *joiner.origin == *origin);
    }

    fn fail_where(&self, error: &FetchError, which: impl Fn(u64, &Joiner) -> bool) {
        for joiner in self.remove(which) {
            drop(joiner.outcome.send(Err(error.clone())));
        }
    }

    /// Takes joiners out and stops their connections; without any left the running pass stops.
    fn remove(&self, which: impl Fn(u64, &Joiner) -> bool) -> Vec<Joiner> {
        let removed: Vec<Joiner> = {
            let mut state = self.lock();
            let removed =
                state.joiners.extract_if(.., |id, joiner| which(*id, joiner)).map(|(_, j)| j).collect();
            if state.joiners.is_empty() {
                state.pass.cancel();
            }
            removed
        };
        for joiner in &removed {
            joiner.gone.cancel();
        }
        self.bump();
        removed
    }

    /// Begins a pass that `shutdown` and the last caller's leaving stop; none when nobody is interested.
    pub(crate) fn begin_pass(&self, shutdown: &CancellationToken) -> Option<CancellationToken> {
        let mut state = self.lock();
        if state.joiners.is_empty() {
            return None;
        }
        state.pass = shutdown.child_token();
        Some(state.pass.clone())
    }

    /// Gives every caller its end.
    pub(crate) fn settle(&self, end: &Result<u64, FetchError>) {
        let joiners = std::mem::take(&mut self.lock().joiners);
        for joiner in joiners.into_values() {
            let bytes = joiner.bytes.load(Ordering::Relaxed);
            let result = end.clone().map(|resumed| Fetched {
                bytes_from_my_source: bytes,
                whole_by_me: bytes >= self.size,
                total: self.size,
                resumed,
            });
            drop(joiner.outcome.send(result));
        }
        self.bump();
    }

    /// The freshest source of the best that may be used now.
    pub(crate) fn pick(&self, quiet: &QuietHosts, now: Instant, busy: &Busy) -> Pick {
        let state = self.lock();
        let best_rate =
            state.usable(quiet, now).filter_map(|(_, health)| health?.rate).max_by(f64::total_cmp);
        let alone = state.alone.as_deref().filter(|o| state.joiners.values().any(|j| *j.origin == **o));
        let mut best: Option<(Rank, &Joiner, Health)> = None;
        let mut soonest: Option<Instant> = None;
        for (&id, joiner) in &state.joiners {
            if alone.is_some_and(|origin| *joiner.origin != *origin) {
                continue;
            }
            let health = state.health.get(&joiner.origin).cloned().unwrap_or_default();
            let quiet_until = quiet.until(joiner.source.host(), now);
            if let Some(ready) = health.not_before.filter(|at| *at > now).max(quiet_until) {
                soonest = Some(soonest.map_or(ready, |at| at.min(ready)));
                continue;
            }
            let class = pace::class(health.rate, busy.contains_key(&joiner.origin), best_rate);
            let rank = (health.ranges != Ranged::Honoured, health.failures, class, Reverse(id));
            if best.as_ref().is_none_or(|(other, ..)| rank < *other) {
                best = Some((rank, joiner, health));
            }
        }
        match (best, soonest) {
            (Some(((.., Reverse(ticket)), joiner, health)), _) => Pick::Use(Lease {
                ticket,
                source: Arc::clone(&joiner.source),
                origin: Arc::clone(&joiner.origin),
                namespace: Arc::clone(&joiner.namespace),
                gone: joiner.gone.clone(),
                ranges: health.ranges,
                episode: health.episode,
                bytes: Arc::clone(&joiner.bytes),
            }),
            (None, Some(at)) => Pick::Later(at),
            (None, None) => Pick::Nobody,
        }
    }

    /// Whether a lease is as good as when it was picked: its owner is there and its origin has not failed since.
    pub(crate) fn stands(&self, lease: &Lease) -> bool {
        let episode = self.lock().health.get(&lease.origin).map_or(0, |health| health.episode);
        episode == lease.episode && !lease.gone.is_cancelled()
    }

    /// One of an origin's connections ran at so many bytes a second.
    pub(crate) fn ran_at(&self, origin: &Arc<str>, rate: f64) {
        self.lock().health.entry(Arc::clone(origin)).or_default().ran_at(rate);
    }

    /// What is known of an origin's rate.
    pub(crate) fn rate_of(&self, origin: &str) -> Option<f64> {
        self.lock().health.get(origin)?.rate
    }

    /// The origins besides `own` that may be used now.
    pub(crate) fn rivals(&self, own: &str, quiet: &QuietHosts, now: Instant, busy: &Busy) -> Vec<Rival> {
        let state = self.lock();
        if state.alone.is_some() {
            return Vec::new();
        }
        state
            .usable(quiet, now)
            .filter(|(joiner, _)| *joiner.origin != *own)
            .map(|(joiner, health)| Rival {
                rate: health.and_then(|health| health.rate),
                busy: busy.contains_key(&joiner.origin),
            })
            .collect()
    }

    /// A try failed: waits, reads whole blobs from now on, or does without this source. True if it is tried again.
    pub(crate) fn source_failed(
        &self,
        lease: &Lease,
        error: SourceError,
        quiet: &QuietHosts,
        options: &EngineOptions,
    ) -> bool {
        match error.kind {
            SourceErrorKind::Unauthenticated
            | SourceErrorKind::Forbidden
            | SourceErrorKind::NotFound
            | SourceErrorKind::Protocol => {
                self.fail_owner(lease.ticket, &FetchError::Source(error));
                false
            }
            SourceErrorKind::RangeRefused if !self.has_honoured(&lease.origin) => {
                if lease.ranges == Ranged::Refused {
                    self.fail_owner(lease.ticket, &FetchError::Source(error));
                    return false;
                }
                self.set_ranges(&lease.origin, Ranged::Refused);
                true
            }
            SourceErrorKind::RangeRefused | SourceErrorKind::RateLimited | SourceErrorKind::Unavailable => {
                self.passing_fault(lease, error, quiet, options)
            }
        }
    }

    /// A fault that may pass: a pause, until there have been too many without a byte in between.
    fn passing_fault(
        &self,
        lease: &Lease,
        error: SourceError,
        quiet: &QuietHosts,
        options: &EngineOptions,
    ) -> bool {
        let now = Instant::now();
        let failures = {
            let mut state = self.lock();
            let health = state.health.entry(Arc::clone(&lease.origin)).or_default();
            if !health.failed(lease.episode, &error, now, options) {
                return true;
            }
            if error.kind == SourceErrorKind::RateLimited
                && let Some(until) = health.not_before
            {
                quiet.hush(lease.source.host(), until, now);
            }
            if error.kind == SourceErrorKind::RangeRefused && health.failures >= options.tries {
                // Ranges worked once and no longer do.
                *health = Health { ranges: Ranged::Refused, honoured: false, failures: 0, ..health.clone() };
            }
            health.failures
        };
        self.bump();
        if failures < options.tries {
            return true;
        }
        self.fail_origin(&lease.origin, &self.gave_up(&lease.origin, failures, error));
        false
    }

    fn gave_up(&self, origin: &str, tries: u32, last: SourceError) -> FetchError {
        let (digest, from) = (self.digest.clone(), origin.to_owned());
        if last.kind == SourceErrorKind::RateLimited {
            return FetchError::RateLimited { digest, from, retry_after: last.retry_after, last };
        }
        FetchError::Unavailable { digest, from, tries, last }
    }

    /// What this origin makes of ranges.
    pub(crate) fn set_ranges(&self, origin: &Arc<str>, ranges: Ranged) {
        {
            let mut state = self.lock();
            let health = state.health.entry(Arc::clone(origin)).or_default();
            health.ranges = ranges;
            health.honoured |= ranges == Ranged::Honoured;
        }
        self.bump();
    }

    /// Whether this origin has honoured a range in this flight.
    pub(crate) fn has_honoured(&self, origin: &str) -> bool {
        self.lock().health.get(origin).is_some_and(|health| health.honoured)
    }

    /// Whether a source that honours ranges is among those still interested.
    pub(crate) fn has_ranged_source(&self) -> bool {
        let state = self.lock();
        state
            .joiners
            .values()
            .any(|joiner| state.health.get(&joiner.origin).is_none_or(|h| h.ranges == Ranged::Honoured))
    }

    /// New bytes are on disk. Those of a mirror show nobody's access to the origin.
    pub(crate) fn arrived(&self, lease: &Lease, bytes: u64, mirrored: bool) {
        if !mirrored {
            lease.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        if let Some(health) = self.lock().health.get_mut(&lease.origin) {
            health.progressed();
        }
        self.progress.send_modify(|progress| progress.done += bytes);
    }

    /// A pass begins with this much on disk.
    pub(crate) fn set_done(&self, done: u64) {
        self.progress.send_replace(Progress { done, resumed: done, total: self.size });
    }

    /// What had come is forgotten: it has shown nobody's access.
    pub(crate) fn start_over(&self) {
        self.lock().forget_deliveries();
        self.set_done(0);
    }

    /// A pass ended in wrong bytes, and mirrors took part. They are avoided from now on and no origin is blamed;
    /// false if that has happened too often for it to end by itself.
    pub(crate) fn wrong_mirrors(&self) -> bool {
        let again = {
            let mut state = self.lock();
            state.wrong_mirrors += 1;
            state.wrong_mirrors <= MOST_WRONG_MIRRORS
        };
        if again {
            self.start_over();
        }
        again
    }

    /// A pass ended in wrong bytes. Each origin in it gets a strike; with the second one, and nobody else to
    /// blame, its callers fail. The next pass starts from zero with the least suspect origin alone.
    pub(crate) fn wrong_bytes(&self, origins: &[Arc<str>], resumed: u64, error: &FetchError) {
        let mut condemned = None;
        {
            let mut state = self.lock();
            for origin in origins {
                let health = state.health.entry(Arc::clone(origin)).or_default();
                health.strikes += 1;
                if health.strikes > 1 && origins.len() == 1 && resumed == 0 {
                    condemned = Some(Arc::clone(origin));
                }
            }
            state.forget_deliveries();
        }
        if let Some(origin) = condemned {
            self.fail_origin(&origin, error);
        } else if origins.is_empty() && resumed == 0 {
            self.fail_where(error, |_, _| true);
        }
        let mut state = self.lock();
        let strikes = |joiner: &Joiner| state.health.get(&joiner.origin).map_or(0, |health| health.strikes);
        // The oldest of equals: nobody comes first by joining late.
        let least = state.joiners.iter().min_by_key(|(id, joiner)| (strikes(joiner), **id));
        state.alone = least.map(|(_, joiner)| Arc::clone(&joiner.origin));
    }

    /// The namespaces of all who wait, each once.
    pub(crate) fn namespaces(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.lock().joiners.values().map(|j| Arc::clone(&j.namespace)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Tells when anything about the flight or its transfer has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Wakes everything that waits for a change.
    pub(crate) fn bump(&self) {
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_deliveries(&self) {
        let own = self.joiners.values().map(|joiner| &joiner.bytes);
        for bytes in own.chain(self.delivered.values()) {
            bytes.store(0, Ordering::Relaxed);
        }
    }

    /// The callers whose sources need no pause.
    fn usable(&self, quiet: &QuietHosts, now: Instant) -> impl Iterator<Item = (&Joiner, Option<&Health>)> {
        self.joiners.values().map(|joiner| (joiner, self.health.get(&joiner.origin))).filter(
            move |(joiner, health)| {
                let pause = health.and_then(|health| health.not_before).filter(|at| *at > now);
                pause.is_none() && quiet.until(joiner.source.host(), now).is_none()
            },
        )
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
