//! One connection: a body of a source, gathered into buffers, handed to a writer thread.

use std::future::pending;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt as _;
use stowage_store::{BlobBody, IngestError, SourceError, SourceErrorKind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffer;
use crate::error::FetchError;
use crate::flight::Lease;
use crate::options::BUFFER_BYTES;
use crate::pace::Meter;
use crate::parts::ClaimId;
use crate::transfer::Transfer;
use crate::writer::Write;

/// What one connection is to fetch.
pub(crate) struct Job {
    pub(crate) claim: ClaimId,
    /// The range to ask for; none for the whole blob.
    pub(crate) ask: Option<Range<u64>>,
    /// Another connection got the whole blob as one stream and takes over.
    pub(crate) preempt: CancellationToken,
    /// Another connection would be faster.
    pub(crate) make_way: CancellationToken,
    /// Counts the bytes that come, and the time in which we did not read.
    pub(crate) meter: Arc<Meter>,
}

/// Why a connection ended.
pub(crate) enum Ended {
    /// Its part is there, or as much of it as the source meant to send.
    Done,
    /// The flight stops, the source's owner left, or another connection takes over.
    Interrupted,
    /// It was slow, and something else can be tried.
    MadeWay,
    /// The source failed.
    Source(SourceError),
    /// The source is of no use for this blob, for a reason of its own.
    Unfit(FetchError),
    /// We failed.
    Local(FetchError),
}

/// Fetches one job with one source. Whatever the end, all bytes that came are on disk.
pub(crate) async fn fetch(transfer: &Arc<Transfer>, lease: &Lease, job: &Job) -> Ended {
    let flight = &transfer.flight;
    let inactivity = transfer.engine.options.inactivity;
    let answer = tokio::select! {
        biased;
        ended = interrupted(transfer, lease, job, false) => return ended,
        answer = timeout(inactivity, lease.source.read(&flight.digest, job.ask.clone())) => answer,
    };
    let body = match answer {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return Ended::Source(error),
        Err(_) => return Ended::Source(silent(lease, inactivity.as_secs())),
    };
    let whole_instead = match check(transfer, lease, job, &body) {
        Ok(whole_instead) => whole_instead,
        Err(ended) => return ended,
    };
    if whole_instead && !transfer.take_over(job, lease).await {
        return Ended::Interrupted;
    }
    // Only now: a manifest that lies about the size must not reserve the disk.
    if total_of(&body) == Some(flight.size)
        && let Err(error) = transfer.preallocate().await
    {
        return Ended::Local(error);
    }
    if body.ranged && job.ask.is_some() {
        transfer.ranges_work(lease);
    }
    pump(transfer, lease, job, body, whole_instead).await
}

/// Compares the answer with what was asked; true if the whole blob comes where a part was wanted.
fn check(transfer: &Transfer, lease: &Lease, job: &Job, body: &BlobBody) -> Result<bool, Ended> {
    let flight = &transfer.flight;
    if let Some(found) = total_of(body).filter(|found| *found != flight.size) {
        return Err(Ended::Unfit(FetchError::SizeMismatch {
            host: lease.origin.to_string(),
            digest: flight.digest.clone(),
            declared: flight.size,
            found,
        }));
    }
    let asked = job.ask.clone().unwrap_or(0..flight.size);
    let expected = if body.ranged { asked.start } else { 0 };
    if body.start != expected {
        let message = format!(
            "{} answered with bytes from {} on where those from {expected} on were asked for",
            lease.origin, body.start
        );
        return Err(Ended::Source(SourceError::new(SourceErrorKind::RangeRefused, message)));
    }
    let whole_instead = !body.ranged && asked != (0..flight.size);
    if whole_instead && flight.has_honoured(&lease.origin) {
        let message = format!("{} answered a request for a range with the whole blob", lease.origin);
        return Err(Ended::Source(SourceError::new(SourceErrorKind::RangeRefused, message)));
    }
    Ok(whole_instead)
}

/// The source's own word on the size of the blob.
pub(crate) fn total_of(body: &BlobBody) -> Option<u64> {
    body.total.or(if body.ranged { None } else { body.end })
}

pub(crate) fn silent(lease: &Lease, seconds: u64) -> SourceError {
    let message = format!("{} sent nothing for {seconds} s", lease.origin);
    SourceError::new(SourceErrorKind::Unavailable, message)
}

/// Ends when this connection has to. One that took over is the one that others make way for.
async fn interrupted(transfer: &Transfer, lease: &Lease, job: &Job, took_over: bool) -> Ended {
    tokio::select! {
        () = transfer.halt.cancelled() => Ended::Interrupted,
        () = lease.gone.cancelled() => Ended::Interrupted,
        () = job.preempt.cancelled(), if !took_over => Ended::Interrupted,
        () = job.make_way.cancelled() => Ended::MadeWay,
    }
}

async fn pump(
    transfer: &Arc<Transfer>,
    lease: &Lease,
    job: &Job,
    mut body: BlobBody,
    took_over: bool,
) -> Ended {
    let mut intake = Intake::new(transfer, lease, job, &body);
    let mut interrupted = pin!(interrupted(transfer, lease, job, took_over));
    let inactivity = transfer.engine.options.inactivity;
    let ended = loop {
        if intake.is_full() {
            break Ended::Done;
        }
        if transfer.is_far_ahead(intake.position) {
            // One stream has no parts to hold back, so it is not read further until the digest has followed.
            let since = Instant::now();
            if let Err(error) = intake.flush().await {
                break Ended::Local(error);
            }
            tokio::select! {
                biased;
                ended = &mut interrupted => break ended,
                () = transfer.until_near(intake.position) => {}
            }
            job.meter.held(since.elapsed());
        }
        tokio::select! {
            biased;
            ended = &mut interrupted => break ended,
            written = settled(&mut intake.writing) => if let Err(error) = intake.landed(written) {
                break Ended::Local(error);
            },
            chunk = timeout(inactivity, body.stream.next()) => match chunk {
                Err(_) => break Ended::Source(silent(lease, inactivity.as_secs())),
                Ok(Some(Err(error))) => break Ended::Source(error),
                Ok(None) if intake.took > 0 && body.end == Some(intake.position) => break Ended::Done,
                Ok(None) => break Ended::Source(SourceError::new(
                    SourceErrorKind::Unavailable,
                    format!("the body from {} ended early, at byte {}", lease.origin, intake.position),
                )),
                Ok(Some(Ok(chunk))) => {
                    job.meter.received(chunk.len());
                    let since = Instant::now();
                    if let Err(error) = intake.take(&chunk).await {
                        break Ended::Local(error);
                    }
                    let rate = transfer.engine.byte_rate.take(&lease.namespace, chunk.len() as u64);
                    tokio::select! {
                        biased;
                        ended = &mut interrupted => break ended,
                        () = rate => {}
                    }
                    job.meter.held(since.elapsed());
                }
            },
        }
    };
    match intake.flush().await {
        Ok(()) => ended,
        Err(error) => Ended::Local(error),
    }
}

/// A write under way: its range, and the writer's answer to come.
type Writing = Option<(Range<u64>, oneshot::Receiver<Result<(), IngestError>>)>;

/// The answer of the write that is under way, none from a dead writer thread; never ends without a write.
async fn settled(writing: &mut Writing) -> Option<Result<(), IngestError>> {
    match writing {
        Some((_, reply)) => reply.await.ok(),
        None => pending().await,
    }
}

/// Gathers the wanted bytes of one body. At most two buffers: one being filled, one being written.
struct Intake<'a> {
    transfer: &'a Arc<Transfer>,
    lease: &'a Lease,
    claim: ClaimId,
    /// Who delivers in the source's place.
    mirror: Option<Arc<str>>,
    queue: mpsc::Sender<Write>,
    /// Where in the blob the next byte of the body belongs.
    position: u64,
    /// Bytes that the body has brought.
    took: u64,
    /// Bytes that belong in the buffer that is being filled.
    wanted: Range<u64>,
    filling: Option<(u64, Buffer)>,
    writing: Writing,
}

impl<'a> Intake<'a> {
    fn new(transfer: &'a Arc<Transfer>, lease: &'a Lease, job: &Job, body: &BlobBody) -> Self {
        Self {
            transfer,
            lease,
            claim: job.claim,
            queue: transfer.engine.writers.queue(),
            mirror: body.mirror.clone(),
            position: body.start,
            took: 0,
            wanted: 0..0,
            filling: None,
            writing: None,
        }
    }

    /// Whether the body has nothing more to bring.
    fn is_full(&self) -> bool {
        self.wanted.is_empty() && self.transfer.is_received(self.claim)
    }

    /// Takes what is wanted of a chunk; the rest was there before, or is another connection's business.
    async fn take(&mut self, chunk: &Bytes) -> Result<(), FetchError> {
        let end = self.position + chunk.len() as u64;
        self.took += chunk.len() as u64;
        let mut at = self.position;
        while at < end {
            if self.wanted.is_empty() {
                // What has been filled belongs together; what is wanted next may be elsewhere.
                self.submit().await?;
                let Some(wanted) = self.transfer.receive(self.claim, at, BUFFER_BYTES) else { break };
                self.wanted = wanted;
            }
            at = at.max(self.wanted.start);
            if at >= end {
                break;
            }
            let bytes =
                &chunk[(at - self.position) as usize..(end.min(self.wanted.end) - self.position) as usize];
            let (_, buffer) = self.filling.get_or_insert_with(|| (at, self.transfer.engine.buffers.take()));
            at += buffer.fill(bytes) as u64;
            self.wanted.start = at;
        }
        self.position = end;
        if end > self.transfer.flight.size {
            self.transfer.overrun.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Hands the buffer over, after the one before it has landed.
    async fn submit(&mut self) -> Result<(), FetchError> {
        self.wait_for_write().await?;
        let Some((offset, buffer)) = self.filling.take() else { return Ok(()) };
        let range = offset..offset + buffer.bytes().len() as u64;
        let (reply, answer) = oneshot::channel();
        let write = Write {
            ingest: Arc::clone(&self.transfer.ingest),
            frontier: Arc::clone(&self.transfer.frontier),
            offset,
            buffer,
            reply,
        };
        self.writing = Some((range, answer));
        // A queue without its thread drops the write, and with it the answer.
        drop(self.queue.send(write).await);
        Ok(())
    }

    /// Everything that came is on disk.
    async fn flush(&mut self) -> Result<(), FetchError> {
        self.submit().await?;
        self.wait_for_write().await
    }

    async fn wait_for_write(&mut self) -> Result<(), FetchError> {
        if self.writing.is_none() {
            return Ok(());
        }
        let written = settled(&mut self.writing).await;
        self.landed(written)
    }

    fn landed(&mut self, written: Option<Result<(), IngestError>>) -> Result<(), FetchError> {
        let Some((range, _)) = self.writing.take() else { return Ok(()) };
        match written {
            Some(Ok(())) => {
                self.transfer.arrived(self.claim, &range, self.lease, self.mirror.as_ref());
                Ok(())
            }
            Some(Err(error)) => Err(self.transfer.ingest_failed("write", error)),
            None => Err(FetchError::Died { digest: self.transfer.flight.digest.clone() }),
        }
    }
}
