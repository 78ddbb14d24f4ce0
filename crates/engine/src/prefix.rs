//! The thread of one blob that lets the digest follow the contiguous prefix.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use stowage_store::{IngestError, IngestWriter};
use tokio::sync::oneshot;

/// What the thread and its blob's connections share.
#[derive(Debug, Default)]
pub(crate) struct Frontier {
    wanted: Mutex<Wanted>,
    wake: Condvar,
    hashed: AtomicU64,
}

#[derive(Debug, Default)]
struct Wanted {
    grown: bool,
    closed: bool,
}

impl Frontier {
    /// The contiguous prefix may have grown.
    pub(crate) fn grown(&self) {
        self.lock().grown = true;
        self.wake.notify_one();
    }

    /// Bytes of the prefix that are in the digest.
    pub(crate) fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for more to do; false when there will be none.
    fn wait(&self) -> bool {
        let mut wanted = self.lock();
        while !wanted.grown && !wanted.closed {
            wanted = self.wake.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
        wanted.grown = false;
        !wanted.closed
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the thread ended.
#[derive(Debug)]
pub(crate) enum Hashed {
    /// Every byte is in the digest.
    All,
    /// It was closed before.
    Closed,
    /// The store failed to read back.
    Failed(IngestError),
    /// It died.
    Died,
}

/// The running thread; dropped, it ends by itself.
#[derive(Debug)]
pub(crate) struct Prefix {
    pub(crate) frontier: Arc<Frontier>,
    end: oneshot::Receiver<Hashed>,
}

impl Prefix {
    /// Starts the thread. `told` hears of each step how far the digest is, and whether that was the last one.
    pub(crate) fn start(
        ingest: Arc<IngestWriter>,
        told: impl Fn(u64, bool) + Send + 'static,
    ) -> io::Result<Self> {
        let frontier = Arc::new(Frontier::default());
        let shared = Arc::clone(&frontier);
        let (sender, end) = oneshot::channel();
        // Names of threads end at 15 bytes.
        thread::Builder::new().name("blob-digest".into()).spawn(move || {
            let last_word = LastWord(&told, &shared);
            let hashed = follow(&ingest, &shared, &told);
            // The ingest is free again before anybody hears that this thread has ended.
            drop(ingest);
            drop(sender.send(hashed));
            drop(last_word);
        })?;
        frontier.grown();
        Ok(Self { frontier, end })
    }

    /// Waits until every byte is in the digest.
    pub(crate) async fn hashed(&mut self) -> Hashed {
        (&mut self.end).await.unwrap_or(Hashed::Died)
    }

    /// Ends the thread and waits for that.
    pub(crate) async fn close(mut self) -> Hashed {
        self.frontier.close();
        self.hashed().await
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        self.frontier.close();
    }
}

/// Tells the end even when the thread panics.
struct LastWord<'a, F: Fn(u64, bool)>(&'a F, &'a Frontier);

impl<F: Fn(u64, bool)> Drop for LastWord<'_, F> {
    fn drop(&mut self) {
        (self.0)(self.1.hashed(), true);
    }
}

fn follow(ingest: &IngestWriter, frontier: &Frontier, told: &impl Fn(u64, bool)) -> Hashed {
    loop {
        let hashed = match ingest.advance() {
            Ok(hashed) => hashed,
            Err(error) => return Hashed::Failed(error),
        };
        frontier.hashed.store(hashed, Ordering::Release);
        told(hashed, false);
        if hashed == ingest.size() {
            return Hashed::All;
        }
        let behind = hashed < ingest.frontier();
        if (behind && frontier.is_closed()) || (!behind && !frontier.wait()) {
            return Hashed::Closed;
        }
    }
}
