//! One pass over the missing ranges of a blob: who fetches which part, until all are there or it must stop.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use stowage_store::{IngestError, IngestWriter};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection::{Ended, Job, fetch};
use crate::engine::{Shared, blocking};
use crate::error::FetchError;
use crate::flight::{Busy, Flight, Lease, Pick};
use crate::health::{Deliveries, Ranged};
use crate::pace::{self, Pace};
use crate::parts::{ClaimId, Parts};
use crate::prefix::Frontier;
use crate::stats::Counters;

/// A pass. It has all bytes, or was halted, when [`Transfer::run`] returns.
pub(crate) struct Transfer {
    pub(crate) engine: Arc<Shared>,
    pub(crate) flight: Arc<Flight>,
    pub(crate) ingest: Arc<IngestWriter>,
    pub(crate) frontier: Arc<Frontier>,
    /// Stops every connection: nobody is interested, the engine shuts down, or the store failed.
    pub(crate) halt: CancellationToken,
    /// Whether a source sent more than the blob's declared size.
    pub(crate) overrun: AtomicBool,
    pub(crate) deliveries: Deliveries,
    /// Where the contiguous bytes of earlier downloads end. They are hashed again beside the fetch, so the window
    /// is not measured from behind this.
    resumed_prefix: u64,
    plan: Mutex<Plan>,
    preallocated: OnceCell<()>,
    failure: OnceLock<FetchError>,
}

struct Plan {
    parts: Parts,
    /// Who fetches each claim, and how fast.
    running: BTreeMap<ClaimId, Running>,
    /// Whether an answer has shown that parts can be had side by side; one connection at a time until then.
    side_by_side: bool,
    /// Stops the connections of parts when one stream takes over.
    preempt: CancellationToken,
}

/// A claim that a connection fetches.
struct Running {
    origin: Arc<str>,
    pace: Pace,
    /// Ends the connection, so that another one gets the claim.
    make_way: CancellationToken,
}

impl Plan {
    fn busy(&self) -> Busy {
        let mut busy = Busy::new();
        for running in self.running.values() {
            *busy.entry(Arc::clone(&running.origin)).or_default() += 1;
        }
        busy
    }

    fn begin(&mut self, claim: ClaimId, ask: Option<Range<u64>>, lease: &Lease) -> Job {
        let pace = Pace::new(Instant::now());
        let job = Job {
            claim,
            ask,
            preempt: self.preempt.clone(),
            make_way: CancellationToken::new(),
            meter: pace.meter(),
        };
        let make_way = job.make_way.clone();
        self.running.insert(claim, Running { origin: Arc::clone(&lease.origin), pace, make_way });
        job
    }

    /// Whether there is a part to start, or one to help with.
    fn has_work(&self, followed: u64) -> bool {
        ((self.side_by_side || self.parts.active() == 0) && self.parts.startable(followed))
            || self.worst(None, Instant::now()).is_some()
    }

    /// The claim whose end would take longest, and where a helper of this rate should cut it.
    fn worst(&self, helper: Option<f64>, now: Instant) -> Option<(ClaimId, u64)> {
        if !self.side_by_side {
            return None;
        }
        let slow = self.running.iter().filter_map(|(&claim, running)| {
            let (open, rate) = (self.parts.last_open(claim)?, running.pace.rate(now)?);
            let at = pace::split(&open, Some(rate), helper)?;
            Some((claim, at, (open.end - open.start) as f64 / rate.max(1.0)))
        });
        slow.max_by(|a, b| a.2.total_cmp(&b.2)).map(|(claim, at, _)| (claim, at))
    }
}

impl Transfer {
    pub(crate) fn new(
        engine: Arc<Shared>,
        flight: Arc<Flight>,
        ingest: Arc<IngestWriter>,
        frontier: Arc<Frontier>,
        halt: CancellationToken,
        missing: Vec<Range<u64>>,
    ) -> Arc<Self> {
        let resumed_prefix = missing.first().map_or(flight.size, |range| range.start);
        let parts = Parts::new(missing, engine.options.part_bytes, engine.options.window_bytes);
        let plan =
            Plan { parts, running: BTreeMap::new(), side_by_side: false, preempt: CancellationToken::new() };
        Arc::new(Self {
            engine,
            flight,
            ingest,
            frontier,
            halt,
            overrun: AtomicBool::new(false),
            deliveries: Deliveries::default(),
            resumed_prefix,
            plan: Mutex::new(plan),
            preallocated: OnceCell::new(),
            failure: OnceLock::new(),
        })
    }

    /// Fetches until all parts are there, the pass is halted, or no source is left.
    pub(crate) async fn run(self: &Arc<Self>) -> Result<(), FetchError> {
        let pending = self.plan().parts.pending_bytes();
        // One more than there are parts: it helps where a part turns out to be slow.
        let useful = pending.div_ceil(self.engine.options.part_bytes) + 1;
        let mut connections = JoinSet::new();
        for _ in 0..self.engine.options.connections_per_blob.min(useful as usize) {
            connections.spawn(Arc::clone(self).work());
        }
        let mut tick = tokio::time::interval(pace::TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = connections.join_next() => match ended {
                    Some(Ok(())) => {}
                    Some(Err(_)) => self.fail(FetchError::Died { digest: self.flight.digest.clone() }),
                    None => break,
                },
                _ = tick.tick() => self.look_at_paces(Instant::now()),
            }
        }
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Whether every byte has arrived.
    pub(crate) fn is_finished(&self) -> bool {
        self.plan().parts.is_finished()
    }

    /// One connection's life: a source, a permit, a part, again.
    async fn work(self: Arc<Self>) {
        let mut changes = self.flight.changes();
        while !self.halt.is_cancelled() {
            changes.mark_unchanged();
            let lease = match self.outlook() {
                Outlook::Finished => return,
                Outlook::Blocked => None,
                Outlook::Startable => match self.pick() {
                    Pick::Use(lease) => Some(lease),
                    Pick::Nobody => return,
                    Pick::Later(at) => {
                        tokio::select! {
                            () = tokio::time::sleep_until(at.into()) => {}
                            _ = changes.changed() => {}
                            () = self.halt.cancelled() => {}
                        }
                        continue;
                    }
                },
            };
            let worked = match lease {
                Some(lease) => self.try_part(&lease).await,
                None => false,
            };
            if !worked {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = self.halt.cancelled() => {}
                }
            }
        }
    }

    fn outlook(&self) -> Outlook {
        let plan = self.plan();
        if plan.parts.is_finished() {
            Outlook::Finished
        } else if plan.has_work(self.followed()) {
            Outlook::Startable
        } else {
            Outlook::Blocked
        }
    }

    /// Fetches one part; false if there was none to be had after all.
    async fn try_part(self: &Arc<Self>, lease: &Lease) -> bool {
        let permit = tokio::select! {
            biased;
            () = self.halt.cancelled() => return true,
            () = lease.gone.cancelled() => return true,
            permit = self.engine.connections.acquire(&lease.namespace, lease.source.host()) => permit,
        };
        // Much may have happened in the queue: the source is chosen again.
        let host = lease.source.host();
        let lease = match self.pick() {
            Pick::Use(lease) if lease.source.host() == host => lease,
            // The permit counts for another registry.
            _ => return true,
        };
        let Some(job) = self.claim(&lease) else { return false };
        let ended = fetch(self, &lease, &job).await;
        drop(permit);
        self.note_pace(&lease, job.claim);
        // Health first: whoever wakes by the released claim must find the source's new state.
        let again = match ended {
            Ended::Done | Ended::Interrupted => false,
            Ended::MadeWay => {
                tracing::debug!(digest = %self.flight.digest, from = %lease.origin, "a slow connection made way");
                false
            }
            Ended::Source(error) => {
                tracing::debug!(digest = %self.flight.digest, from = %lease.origin, %error, "a read failed");
                self.flight.source_failed(&lease, error, &self.engine.quiet, &self.engine.options)
            }
            Ended::Unfit(error) => {
                self.flight.fail_owner(lease.ticket, &error);
                false
            }
            Ended::Local(error) => {
                self.fail(error);
                false
            }
        };
        if again {
            Counters::add(&self.engine.counters.retries, 1);
        }
        {
            let mut plan = self.plan();
            plan.running.remove(&job.claim);
            plan.parts.release(job.claim);
        }
        self.flight.bump();
        true
    }

    fn pick(&self) -> Pick {
        let busy = self.plan().busy();
        self.flight.pick(&self.engine.quiet, Instant::now(), &busy)
    }

    /// Remembers how fast a connection was that has ended.
    fn note_pace(&self, lease: &Lease, claim: ClaimId) {
        let now = Instant::now();
        let rate = self.plan().running.get(&claim).and_then(|running| running.pace.lifetime_rate(now));
        if let Some(rate) = rate {
            self.flight.ran_at(&lease.origin, rate);
        }
    }

    /// Measures all connections; those that hold up the blob make way, and helpers are woken for slow parts.
    fn look_at_paces(&self, now: Instant) {
        let busy = self.plan().busy();
        let mut seen = Vec::new();
        for running in self.plan().running.values_mut() {
            running.pace.observe(now);
            let Some(rate) = running.pace.rate(now) else { continue };
            let age = running.pace.age(now);
            seen.push((Arc::clone(&running.origin), running.make_way.clone(), rate, age));
        }
        for (origin, make_way, rate, age) in seen {
            let own = self.flight.rate_of(&origin);
            self.flight.ran_at(&origin, rate);
            let rivals = self.flight.rivals(&origin, &self.engine.quiet, now, &busy);
            if pace::should_make_way(Some(rate), age, own, &rivals) {
                make_way.cancel();
            }
        }
        if self.plan().worst(None, now).is_some() {
            self.flight.bump();
        }
    }

    /// What this connection fetches next with this source.
    fn claim(&self, lease: &Lease) -> Option<Job> {
        let hashed = self.followed();
        let size = self.flight.size;
        let mut plan = self.plan();
        // Whoever gave this claim back may have found the source at fault: health changes before claims do.
        if !self.flight.stands(lease) {
            return None;
        }
        if lease.ranges == Ranged::Honoured && plan.side_by_side {
            let (claim, part) = if let Some(claimed) = plan.parts.claim_part(hashed) {
                claimed
            } else {
                let (slow, at) = plan.worst(self.flight.rate_of(&lease.origin), Instant::now())?;
                plan.parts.split(slow, at)?
            };
            return Some(plan.begin(claim, Some(part), lease));
        }
        if plan.parts.active() > 0 {
            return None;
        }
        plan.side_by_side = false;
        let untouched = plan.parts.pending_bytes() == size;
        let small = untouched && size <= self.engine.options.part_bytes;
        if lease.ranges == Ranged::Honoured && !small {
            let (claim, part) = plan.parts.claim_part(hashed)?;
            return Some(plan.begin(claim, Some(part), lease));
        }
        let first = plan.parts.first_pending()?;
        let claim = plan.parts.claim_rest()?;
        // One that ignored a range before may honour this one, and answers with the whole blob if it does not.
        let ask = (lease.ranges == Ranged::Ignored && first > 0).then_some(first..size);
        Some(plan.begin(claim, ask, lease))
    }

    /// A source answered a range with the whole blob. If no better source is left this connection becomes the
    /// only one and takes all that is missing; false if it must make way.
    pub(crate) async fn take_over(&self, job: &Job, lease: &Lease) -> bool {
        self.flight.set_ranges(&lease.origin, Ranged::Ignored);
        let mut changes = self.flight.changes();
        {
            let mut plan = self.plan();
            if job.preempt.is_cancelled() || (plan.side_by_side && self.flight.has_ranged_source()) {
                return false;
            }
            plan.side_by_side = false;
            std::mem::take(&mut plan.preempt).cancel();
        }
        loop {
            changes.mark_unchanged();
            {
                let mut plan = self.plan();
                if plan.parts.active() == 1 {
                    plan.parts.extend_to_rest(job.claim);
                    return true;
                }
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = self.halt.cancelled() => return false,
                () = lease.gone.cancelled() => return false,
            }
        }
    }

    /// A source honoured a range: the other connections may start.
    pub(crate) fn ranges_work(&self, lease: &Lease) {
        self.plan().side_by_side = true;
        if lease.ranges != Ranged::Honoured || !self.flight.has_honoured(&lease.origin) {
            self.flight.set_ranges(&lease.origin, Ranged::Honoured);
        }
    }

    /// Reserves the blob's bytes on disk, once.
    pub(crate) async fn preallocate(&self) -> Result<(), FetchError> {
        let reserve = || async {
            let ingest = Arc::clone(&self.ingest);
            match blocking(&self.flight.digest, move || ingest.preallocate()).await? {
                Ok(()) => Ok(()),
                Err(error) => Err(self.ingest_failed("reserve space for", error)),
            }
        };
        self.preallocated.get_or_try_init(reserve).await.copied()
    }

    /// The next bytes of a claim that its connection is to put into a buffer.
    pub(crate) fn receive(&self, claim: ClaimId, at: u64, most: usize) -> Option<Range<u64>> {
        self.plan().parts.receive(claim, at, most as u64)
    }

    /// Whether the body of a claim's connection has nothing more to bring.
    pub(crate) fn is_received(&self, claim: ClaimId) -> bool {
        self.plan().parts.is_received(claim)
    }

    /// Bytes of a claim are on disk.
    pub(crate) fn arrived(
        &self,
        claim: ClaimId,
        range: &Range<u64>,
        lease: &Lease,
        mirror: Option<&Arc<str>>,
    ) {
        self.plan().parts.arrived(claim, range);
        self.deliveries.add(&lease.origin, mirror, &lease.source);
        let bytes = range.end - range.start;
        Counters::add(&self.engine.counters.bytes_fetched, bytes);
        self.flight.arrived(lease, bytes, mirror.is_some());
    }

    /// From where the window is measured.
    fn followed(&self) -> u64 {
        self.frontier.hashed().max(self.resumed_prefix)
    }

    /// Whether a stream at this position is too far ahead of the digest.
    pub(crate) fn is_far_ahead(&self, position: u64) -> bool {
        let slack = self.engine.options.window_bytes.saturating_add(self.engine.options.part_bytes);
        position > self.followed().saturating_add(slack)
    }

    /// Waits for the digest to follow.
    pub(crate) async fn until_near(&self, position: u64) {
        let mut changes = self.flight.changes();
        while self.is_far_ahead(position) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends the pass with an error of ours.
    pub(crate) fn fail(&self, error: FetchError) {
        drop(self.failure.set(error));
        self.halt.cancel();
    }

    /// The store's error in the flight's words.
    pub(crate) fn ingest_failed(&self, doing: &'static str, error: IngestError) -> FetchError {
        FetchError::from_ingest(doing, &self.flight.digest, error)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Outlook {
    Finished,
    /// Nothing may start before something changes.
    Blocked,
    Startable,
}
