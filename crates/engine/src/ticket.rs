//! What a caller asks for, and what it holds while the engine works.

use std::fmt;
use std::sync::Arc;

use stowage_artifact::Codec;
use stowage_artifact::digest::Digest;
use stowage_store::BlobSource;
use tokio::sync::{oneshot, watch};

use crate::error::FetchError;
use crate::flight::Flight;

/// One caller's wish for a blob, with the source that this caller may use.
#[derive(Clone)]
pub struct FetchRequest {
    /// The blob.
    pub digest: Digest,
    /// Its size by the descriptor, in bytes.
    pub size: u64,
    /// Where this caller may read it.
    pub source: Arc<dyn BlobSource>,
    /// Under which name the queue treats this caller fairly.
    pub namespace: String,
    /// Whose access the source stands for: what one caller's source delivers, all callers with the same value have
    /// been delivered. Without one this caller stands for itself alone.
    pub authority: Option<[u8; 32]>,
    /// How the blob is compressed, where this caller wants what it decodes to and not the blob itself.
    ///
    /// A wish: where the download runs already, or the bytes are not what they are said to be, the blob is stored as it is, and
    /// [`stowage_store::Store::decode_blob`] makes the rest of it.
    pub decode: Option<Codec>,
}

impl fmt::Debug for FetchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchRequest")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("source", &self.source.describe())
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// A blob that is now in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of it that came through this ticket's own source, and others of the same authority.
    pub bytes_from_my_source: u64,
    /// Whether every byte did: this caller's authority has proven access to the blob.
    pub whole_by_me: bool,
    /// Size of the blob.
    pub total: u64,
    /// Bytes that an earlier, interrupted download had left.
    pub resumed: u64,
}

/// How far a flight is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on disk, resumed ones too.
    pub done: u64,
    /// Of these, bytes that were on disk when the pass began; 0 while that is not known.
    pub resumed: u64,
    /// Size of the blob.
    pub total: u64,
}

/// Interest in one blob. Dropped, the interest and its source leave; the last ticket stops the flight.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) id: u64,
    /// Where the interest stands; none if the engine took no flight up for it.
    pub(crate) flight: Option<Arc<Flight>>,
    pub(crate) digest: Digest,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) outcome: Outcome,
}

/// The end of a ticket: on its way, or here.
#[derive(Debug)]
pub(crate) enum Outcome {
    Waiting(oneshot::Receiver<Result<Fetched, FetchError>>),
    Known(Result<Fetched, FetchError>),
}

impl Ticket {
    /// Waits for the blob. Cancel safe, and gives the same answer when asked again.
    pub async fn done(&mut self) -> Result<Fetched, FetchError> {
        let result = match &mut self.outcome {
            Outcome::Known(result) => return result.clone(),
            Outcome::Waiting(receiver) => {
                receiver.await.unwrap_or_else(|_| Err(FetchError::Died { digest: self.digest.clone() }))
            }
        };
        self.outcome = Outcome::Known(result.clone());
        result
    }

    /// The blob that this ticket waits for.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How far the flight is now.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// A view on the progress that tells when it changes and that is no interest by itself.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(flight) = &self.flight {
            flight.leave(self.id);
        }
    }
}
