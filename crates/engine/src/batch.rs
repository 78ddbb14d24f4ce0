//! Small blobs on their way into the store: those that come while one batch is committed are the next batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use stowage_artifact::digest::Digest;
use stowage_store::{Store, StoreError, WholeBlob};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The store commits so many together.
const MOST_BLOBS: usize = 256;
/// Bytes of small blobs that are read or wait for their commit, in KiB.
const ROOM_KIB: u32 = 16 << 10;
/// Bytes of those whose download pauses half-way, in KiB: others are begun anew.
const KEPT_KIB: u32 = 8 << 10;

/// Why a small blob did not get into the store.
#[derive(Debug, Clone)]
pub(crate) enum BatchError {
    /// The bytes have another digest.
    WrongBytes(Digest),
    /// The store failed, with all blobs of the batch.
    Store(Arc<StoreError>),
    /// The thread died.
    Died,
}

/// The batches of one engine.
#[derive(Debug)]
pub(crate) struct Batches {
    store: Store,
    room: Arc<Semaphore>,
    kept: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Whether a task commits.
    committing: bool,
}

#[derive(Debug)]
struct Waiting {
    digest: Digest,
    bytes: Bytes,
    /// Goes back when the bytes are no longer in memory.
    room: OwnedSemaphorePermit,
    answer: oneshot::Sender<Result<(), BatchError>>,
}

impl Batches {
    pub(crate) fn new(store: Store) -> Self {
        let room = |kib: u32| Arc::new(Semaphore::new(kib as usize));
        Self { store, room: room(ROOM_KIB), kept: room(KEPT_KIB), state: Arc::default() }
    }

    /// Waits until there is memory for a blob of this size. Only for who holds a connection, so that the wait is
    /// for commits and not for somebody's slow registry.
    pub(crate) async fn room(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_many_owned(kib(size)).await.ok()
    }

    /// Memory for what has come of a blob whose download pauses, if there is any.
    pub(crate) fn keep(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.kept).try_acquire_many_owned(kib(size)).ok()
    }

    /// Commits a blob together with others.
    pub(crate) async fn commit(
        &self,
        digest: Digest,
        bytes: Bytes,
        room: OwnedSemaphorePermit,
    ) -> Result<(), BatchError> {
        let (answer, receiver) = oneshot::channel();
        let begin = {
            let mut state = lock(&self.state);
            state.waiting.push(Waiting { digest, bytes, room, answer });
            !std::mem::replace(&mut state.committing, true)
        };
        if begin {
            tokio::spawn(commit_all(self.store.clone(), Arc::clone(&self.state)));
        }
        receiver.await.unwrap_or(Err(BatchError::Died))
    }
}

async fn commit_all(store: Store, state: Arc<Mutex<State>>) {
    loop {
        let batch: Vec<Waiting> = {
            let mut state = lock(&state);
            let most = state.waiting.len().min(MOST_BLOBS);
            if most == 0 {
                state.committing = false;
                return;
            }
            state.waiting.drain(..most).collect()
        };
        let store = store.clone();
        // A panic drops the answers, which says so to those who wait.
        drop(tokio::task::spawn_blocking(move || commit(&store, batch)).await);
    }
}

fn commit(store: &Store, batch: Vec<Waiting>) {
    let (mut blobs, mut answers, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
    for Waiting { digest, bytes, room, answer } in batch {
        match WholeBlob::check(digest.clone(), bytes.clone()) {
            Ok(blob) => {
                blobs.push(blob);
                answers.push(answer);
                rooms.push(room);
            }
            Err(found) => {
                if let Err(error) = store.quarantine_bytes(&digest, &bytes, &found) {
                    tracing::warn!(%digest, %error, "wrong bytes cannot be kept in quarantine");
                }
                drop(answer.send(Err(BatchError::WrongBytes(found))));
            }
        }
    }
    let outcome = store.put_whole_blobs(&blobs).map_err(|error| BatchError::Store(Arc::new(error)));
    drop((blobs, rooms));
    for answer in answers {
        drop(answer.send(outcome.clone()));
    }
}

fn kib(size: u64) -> u32 {
    u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, KEPT_KIB)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
