//! One connection: a body of a source, gathered into buffers, handed to a writer thread.

use std::collections::VecDeque;
use std::future::pending;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt as _;
use stowage_store::{BlobBody, IngestError, SourceError, SourceErrorKind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffer;
use crate::error::FetchError;
use crate::flight::Lease;
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
}

/// Why a connection ended.
pub(crate) enum Ended {
    /// Its part is there, or as much of it as the source meant to send.
    Done,
    /// The flight stops, the source's owner left, or another connection takes over.
    Interrupted,
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
        () = interrupted(transfer, lease, Some(&job.preempt)) => return Ended::Interrupted,
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
fn total_of(body: &BlobBody) -> Option<u64> {
    body.total.or(if body.ranged { None } else { body.end })
}

fn silent(lease: &Lease, seconds: u64) -> SourceError {
    let message = format!("{} sent nothing for {seconds} s", lease.origin);
    SourceError::new(SourceErrorKind::Unavailable, message)
}

/// Ends when this connection has to.
async fn interrupted(transfer: &Transfer, lease: &Lease, preempt: Option<&CancellationToken>) {
    let preempted = async {
        match preempt {
            Some(token) => token.cancelled().await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = transfer.halt.cancelled() => {}
        () = lease.gone.cancelled() => {}
        () = preempted => {}
    }
}

async fn pump(
    transfer: &Arc<Transfer>,
    lease: &Lease,
    job: &Job,
    mut body: BlobBody,
    took_over: bool,
) -> Ended {
    let mut intake = Intake::new(transfer, lease, job, body.start);
    let mut interrupted = pin!(interrupted(transfer, lease, (!took_over).then_some(&job.preempt)));
    let inactivity = transfer.engine.options.inactivity;
    let ended = loop {
        if intake.wanted.is_empty() {
            break Ended::Done;
        }
        if transfer.is_far_ahead(intake.position) {
            // One stream has no parts to hold back, so it is not read further until the digest has followed.
            if let Err(error) = intake.flush().await {
                break Ended::Local(error);
            }
            tokio::select! {
                biased;
                () = &mut interrupted => break Ended::Interrupted,
                () = transfer.until_near(intake.position) => {}
            }
        }
        tokio::select! {
            biased;
            () = &mut interrupted => break Ended::Interrupted,
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
                Ok(Some(Ok(chunk))) => if let Err(error) = intake.take(&chunk).await {
                    break Ended::Local(error);
                },
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
    queue: mpsc::Sender<Write>,
    /// Where in the blob the next byte of the body belongs.
    position: u64,
    /// Bytes that the body has brought.
    took: u64,
    wanted: VecDeque<Range<u64>>,
    filling: Option<(u64, Buffer)>,
    writing: Writing,
}

impl<'a> Intake<'a> {
    fn new(transfer: &'a Arc<Transfer>, lease: &'a Lease, job: &Job, position: u64) -> Self {
        Self {
            transfer,
            lease,
            claim: job.claim,
            queue: transfer.engine.writers.queue(),
            position,
            took: 0,
            wanted: transfer.wanted(job.claim).into(),
            filling: None,
            writing: None,
        }
    }

    /// Takes what is wanted of a chunk; the rest was there before, or is nobody's business.
    async fn take(&mut self, chunk: &Bytes) -> Result<(), FetchError> {
        let end = self.position + chunk.len() as u64;
        self.took += chunk.len() as u64;
        let mut at = self.position;
        while let Some(front) = self.wanted.front().cloned() {
            at = at.max(front.start);
            if at >= end {
                break;
            }
            if self.filling.as_ref().is_some_and(|(start, held)| start + held.bytes().len() as u64 != at) {
                self.submit().await?;
            }
            let bytes = &chunk[(at - self.position) as usize..(end.min(front.end) - self.position) as usize];
            let (_, buffer) = self.filling.get_or_insert_with(|| (at, self.transfer.engine.buffers.take()));
            at += buffer.fill(bytes) as u64;
            let full = buffer.is_full();
            self.wanted.pop_front();
            if at < front.end {
                self.wanted.push_front(at..front.end);
            }
            if full {
                self.submit().await?;
            }
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
                self.transfer.arrived(self.claim, &range, self.lease);
                Ok(())
            }
            Some(Err(error)) => Err(self.transfer.ingest_failed("write", error)),
            None => Err(FetchError::Died { digest: self.transfer.flight.digest.clone() }),
        }
    }
}
