//! How a download fails for the one who waits for it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use stowage_artifact::digest::Digest;
use stowage_store::{AdmitError, DecodeError, IngestError, SourceError, StoreError};

/// Why a ticket did not get its blob. What has arrived stays in the store for the next try.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// The ticket's own source refused or is of no use; others in the same flight are not touched.
    #[error("{0}")]
    Source(SourceError),
    /// The source gave not one new byte in as many tries.
    #[error("blob {digest} from {from}: no bytes in {tries} tries, the last one: {last}; try again later")]
    Unavailable {
        /// The blob.
        digest: Digest,
        /// Host and repository.
        from: String,
        /// How often it was tried.
        tries: u32,
        /// The last failure.
        last: SourceError,
    },
    /// The source went on asking for pauses.
    #[error("blob {digest} from {from}: the source limits our rate: {last}; try again later")]
    RateLimited {
        /// The blob.
        digest: Digest,
        /// Host and repository.
        from: String,
        /// The pause that it asked for last.
        retry_after: Option<Duration>,
        /// The last failure.
        last: SourceError,
    },
    /// The disk is full, or a quota is.
    #[error(
        "no space for blob {digest}: {needed} bytes needed, {free} free; free some space or enlarge the disk"
    )]
    NoSpace {
        /// The blob.
        digest: Digest,
        /// Bytes that were needed.
        needed: u64,
        /// Bytes that were free.
        free: u64,
    },
    /// The bytes are not those of the digest, after all tries; they are in quarantine.
    #[error(
        "blob {digest} from {host} has other bytes than its digest says; the artifact must be pushed again"
    )]
    DigestMismatch {
        /// Who delivered the bytes.
        host: String,
        /// The blob.
        digest: Digest,
    },
    /// The source's blob has another size than the descriptor declares.
    #[error(
        "blob {digest} from {host} has {found} bytes where its descriptor declares {declared}; the artifact must \
         be pushed again"
    )]
    SizeMismatch {
        /// Who said so.
        host: String,
        /// The blob.
        digest: Digest,
        /// Bytes in the descriptor.
        declared: u64,
        /// Bytes that the source says.
        found: u64,
    },
    /// More bytes came than the descriptor declares, and the declared ones are not those of the digest.
    #[error(
        "blob {digest} from {host} is longer than the {declared} bytes that its descriptor declares; the artifact \
         must be pushed again"
    )]
    TooLong {
        /// Who delivered the bytes.
        host: String,
        /// The blob.
        digest: Digest,
        /// Bytes in the descriptor.
        declared: u64,
    },
    /// The store failed.
    #[error("cannot {doing} blob {digest}: {source}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// The blob.
        digest: Digest,
        /// What the store says.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A task of the engine died; its log says why.
    #[error("the download of blob {digest} died inside the engine; see the log, then try again")]
    Died {
        /// The blob.
        digest: Digest,
    },
    /// The engine stops; the bytes stay for the next start.
    #[error("the engine is shutting down; try again, the download is resumed")]
    ShuttingDown,
}

impl FetchError {
    pub(crate) fn store(
        doing: &'static str,
        digest: &Digest,
        error: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Store { doing, digest: digest.clone(), source: Arc::new(error) }
    }

    /// An error of a commit that several blobs share.
    pub(crate) fn from_store(
        doing: &'static str,
        digest: &Digest,
        error: &Arc<StoreError>,
        needed: u64,
    ) -> Self {
        let digest = digest.clone();
        if error.is_no_space() {
            return Self::NoSpace { digest, needed, free: 0 };
        }
        Self::Store { doing, digest, source: Arc::clone(error) as _ }
    }

    /// The decoded bytes have no place. What is wrong with the bytes themselves is not told here: they stay as they are.
    fn from_decode(digest: &Digest, error: DecodeError) -> Self {
        let digest = digest.clone();
        match error {
            DecodeError::NoRoom { source: AdmitError::NoSpace { needed, free, .. }, .. } => {
                Self::NoSpace { digest, needed, free }
            }
            DecodeError::NoRoom { .. } => Self::NoSpace { digest, needed: 1, free: 0 },
            DecodeError::Store(error) if error.is_no_space() => Self::NoSpace { digest, needed: 1, free: 0 },
            other => Self::store("decode", &digest, other),
        }
    }

    pub(crate) fn from_ingest(doing: &'static str, digest: &Digest, error: IngestError) -> Self {
        match error {
            IngestError::NoSpace { needed, free, .. } => {
                Self::NoSpace { digest: digest.clone(), needed, free }
            }
            // The disk said so late, when it was to keep what it had taken.
            IngestError::Io(error) if error.is_no_space() => {
                Self::NoSpace { digest: digest.clone(), needed: 1, free: 0 }
            }
            IngestError::Decode(error) => Self::from_decode(digest, *error),
            other => Self::store(doing, digest, other),
        }
    }
}
