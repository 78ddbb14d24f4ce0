//! A small blob: read whole into memory, and committed in a batch with others. No journal: what a killed process
//! has read of it is read again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use futures::StreamExt as _;
use stowage_store::{BlobBody, SourceError, SourceErrorKind};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::batch::BatchError;
use crate::connection::{silent, total_of};
use crate::engine::Shared;
use crate::error::FetchError;
use crate::flight::{Busy, Flight, Lease, Pick};
use crate::health::{Deliveries, Ranged};
use crate::runner::{End, same_size};
use crate::stats::Counters;

/// How long one try may take while there is another source to try; it doubles with each that was cut short.
const PATIENCE: Duration = Duration::from_secs(3);

/// How one try failed. What had come until then is kept.
enum Failed {
    Interrupted,
    /// It took too long, and something else can be tried.
    Slow,
    Source(SourceError),
    Unfit(FetchError),
}

/// The bytes so far, and who brought them.
#[derive(Default)]
struct Small {
    bytes: BytesMut,
    /// While the download pauses.
    kept: Option<OwnedSemaphorePermit>,
    deliveries: Deliveries,
    /// Who delivered in the source's place in the last try.
    mirror: Option<Arc<str>>,
    /// Whether a source sent more than the declared size.
    overrun: bool,
}

impl Small {
    /// A try has failed: what has come stays where there is memory for it, or is forgotten.
    fn pause(&mut self, engine: &Shared, flight: &Flight) {
        if self.bytes.is_empty() || self.kept.is_some() {
            return;
        }
        self.kept = engine.batches.keep(flight.size);
        if self.kept.is_none() {
            *self = Self::default();
            flight.start_over();
        }
    }
}

/// One pass over a small blob: tries until its bytes are in the store, nobody wants it, or the store fails.
pub(crate) async fn pass(
    engine: &Arc<Shared>,
    flight: &Arc<Flight>,
    stop: &CancellationToken,
) -> Result<End, FetchError> {
    // One look at a name in a directory that is in memory; a thread for it would cost ten times as much.
    if let Some(found) = engine.store.blob_size(&flight.digest) {
        return same_size(flight.digest.clone(), flight.size, found)
            .map(|()| End::Committed { resumed: flight.size });
    }
    flight.start_over();
    let mut small = Small::default();
    let Some(room) = fetch(engine, flight, stop, &mut small).await else { return Ok(End::Stopped) };
    let bytes = std::mem::take(&mut small.bytes).freeze();
    let committed = engine.batches.commit(flight.digest.clone(), bytes, room).await;
    landed(engine, flight, &small, committed)
}

/// Tries until all bytes are there; none if nobody is interested, or nobody is left to ask. Answers with the
/// memory that they take.
async fn fetch(
    engine: &Shared,
    flight: &Flight,
    stop: &CancellationToken,
    small: &mut Small,
) -> Option<OwnedSemaphorePermit> {
    let mut changes = flight.changes();
    let mut patience = PATIENCE;
    loop {
        changes.mark_unchanged();
        let lease = match flight.pick(&engine.quiet, Instant::now(), &Busy::new()) {
            Pick::Use(lease) => lease,
            Pick::Nobody => return None,
            Pick::Later(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    _ = changes.changed() => {}
                    () = stop.cancelled() => return None,
                }
                continue;
            }
        };
        let _permit = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = lease.gone.cancelled() => continue,
            permit = engine.connections.acquire(&lease.namespace, lease.source.host()) => permit,
        };
        let room = engine.batches.room(flight.size).await?;
        let before = small.bytes.len();
        let outcome = attempt(engine, flight, &lease, stop, patience, small).await;
        let came = small.bytes.len().saturating_sub(before) as u64;
        if came > 0 {
            small.deliveries.add(&lease.origin, small.mirror.as_ref(), &lease.source);
            flight.arrived(&lease, came, small.mirror.is_some());
            Counters::add(&engine.counters.bytes_fetched, came);
        }
        match outcome {
            Ok(()) => return Some(room),
            Err(Failed::Interrupted) if stop.is_cancelled() => return None,
            Err(Failed::Interrupted) => {}
            Err(Failed::Slow) => {
                flight.ran_at(&lease.origin, came as f64 / patience.as_secs_f64());
                patience *= 2;
            }
            Err(Failed::Unfit(error)) => flight.fail_owner(lease.ticket, &error),
            Err(Failed::Source(error)) => {
                tracing::debug!(digest = %flight.digest, from = %lease.origin, %error, "a read failed");
                if flight.source_failed(&lease, error, &engine.quiet, &engine.options) {
                    Counters::add(&engine.counters.retries, 1);
                }
            }
        }
        small.pause(engine, flight);
    }
}

/// Reads once what is missing.
async fn attempt(
    engine: &Shared,
    flight: &Flight,
    lease: &Lease,
    stop: &CancellationToken,
    patience: Duration,
    small: &mut Small,
) -> Result<(), Failed> {
    let too_slow = async {
        tokio::time::sleep(patience).await;
        while flight.rivals(&lease.origin, &engine.quiet, Instant::now(), &Busy::new()).is_empty() {
            tokio::time::sleep(PATIENCE / 10).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Failed::Interrupted),
        () = lease.gone.cancelled() => Err(Failed::Interrupted),
        () = too_slow => Err(Failed::Slow),
        read = read(engine, flight, lease, small) => read,
    }
}

async fn read(engine: &Shared, flight: &Flight, lease: &Lease, small: &mut Small) -> Result<(), Failed> {
    let inactivity = engine.options.inactivity;
    let silent = || Failed::Source(silent(lease, inactivity.as_secs()));
    let from = small.bytes.len() as u64;
    let ask = (from > 0 && lease.ranges != Ranged::Refused).then_some(from..flight.size);
    let answer = timeout(inactivity, lease.source.read(&flight.digest, ask)).await;
    let mut body = answer.map_err(|_| silent())?.map_err(Failed::Source)?;
    check(flight, lease, &body, from)?;
    small.mirror.clone_from(&body.mirror);
    // What is there already is passed over where the whole comes again.
    let mut skip = from - body.start;
    small.bytes.reserve((flight.size - from) as usize);
    while (small.bytes.len() as u64) < flight.size {
        let Some(chunk) = timeout(inactivity, body.stream.next()).await.map_err(|_| silent())? else {
            let message =
                format!("the body from {} ended early, at byte {}", lease.origin, small.bytes.len());
            return Err(Failed::Source(SourceError::new(SourceErrorKind::Unavailable, message)));
        };
        let mut chunk = chunk.map_err(Failed::Source)?;
        engine.byte_rate.take(&lease.namespace, chunk.len() as u64).await;
        let passed = skip.min(chunk.len() as u64);
        chunk.advance(passed as usize);
        skip -= passed;
        let wanted = (flight.size - small.bytes.len() as u64) as usize;
        small.overrun |= chunk.len() > wanted;
        small.bytes.extend_from_slice(&chunk[..chunk.len().min(wanted)]);
    }
    Ok(())
}

/// Compares the answer with what was asked: what is missing, or the whole.
fn check(flight: &Flight, lease: &Lease, body: &BlobBody, from: u64) -> Result<(), Failed> {
    if let Some(found) = total_of(body).filter(|found| *found != flight.size) {
        return Err(Failed::Unfit(FetchError::SizeMismatch {
            host: lease.origin.to_string(),
            digest: flight.digest.clone(),
            declared: flight.size,
            found,
        }));
    }
    let expected = if body.ranged { from } else { 0 };
    if body.start != expected {
        let message = format!(
            "{} answered with bytes from {} on where those from {expected} on were asked for",
            lease.origin, body.start
        );
        return Err(Failed::Source(SourceError::new(SourceErrorKind::RangeRefused, message)));
    }
    Ok(())
}

fn landed(
    engine: &Shared,
    flight: &Flight,
    small: &Small,
    committed: Result<(), BatchError>,
) -> Result<End, FetchError> {
    let digest = flight.digest.clone();
    match committed {
        Ok(()) => {
            Counters::add(&engine.counters.blobs_completed, 1);
            Ok(End::Committed { resumed: 0 })
        }
        Err(BatchError::WrongBytes(found)) => {
            Counters::add(&engine.counters.digest_mismatches, 1);
            let (origins, mirrors) = (small.deliveries.origins(), small.deliveries.distrust_mirrors(&digest));
            let host = [&origins[..], &mirrors[..]].concat().join(", ");
            tracing::warn!(%digest, %found, from = %host, "wrong bytes for a small blob, now in quarantine");
            if !mirrors.is_empty() && flight.wrong_mirrors() {
                return Ok(End::WrongBytes);
            }
            let error = if small.overrun {
                FetchError::TooLong { host, digest, declared: flight.size }
            } else {
                FetchError::DigestMismatch { host, digest }
            };
            flight.wrong_bytes(&origins, 0, &error);
            Ok(End::WrongBytes)
        }
        Err(BatchError::Store(error)) => Err(FetchError::from_store("commit", &digest, &error, flight.size)),
        Err(BatchError::Died) => Err(FetchError::Died { digest }),
    }
}
