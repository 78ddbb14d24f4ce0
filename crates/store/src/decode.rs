//! Compressed blobs, decoded once: `decoded/<alg>-<hex>.json` says which blob came out of which.
//!
//! The plain bytes are a blob like any other, under a digest that is computed here and never taken on anybody's word. The
//! compressed blob need not stay: [`IngestWriter::decode`](crate::IngestWriter::decode) makes the plain one of the bytes as they
//! pass. Whoever wants to use it must still show access to the compressed one, whose digest the manifest names;
//! [`DecodedBlob::samples`] are what such a proof is compared with.

mod sampler;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use stowage_artifact::Codec;
use stowage_artifact::digest::{Algorithm, Digest};

use crate::admission::AdmitError;
use crate::error::StoreError;
use crate::io::IoError;
use crate::names::{self, Sibling};
use crate::store::{Inner, Store};

pub(crate) use stream::Decoding;

pub use sampler::Sample;

const FORMAT: u32 = 1;
/// Grows when the same bytes would be decoded to others, which no codec here should ever do.
const DECODER: u32 = 1;
/// How much of a stored blob is decoded in one step.
const READ_STEP: usize = 256 << 10;

/// Why a blob cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not in the form that the artifact says, or are cut off.
    #[error(
        "blob {digest} is said to be compressed with {codec} and cannot be decoded: {reason}; correct the layer's media type, or push it again"
    )]
    Malformed {
        /// The blob.
        digest: Digest,
        /// What it is said to be.
        codec: Codec,
        /// The decoder's word.
        reason: String,
    },
    /// It decodes to more than any honest blob of its size would.
    #[error(
        "blob {digest} decodes to more than {limit} bytes from {size}, which no honest layer does; push it uncompressed if it is one"
    )]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// How many bytes it may decode to.
        limit: u64,
    },
    /// There is no room for the plain bytes.
    #[error("no space to decode blob {digest}: {source}")]
    NoRoom {
        /// The blob.
        digest: Digest,
        /// How much is missing.
        source: AdmitError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<IoError> for DecodeError {
    fn from(error: IoError) -> Self {
        Self::Store(error.into())
    }
}

impl DecodeError {
    /// Whether the blob itself is at fault, and would be again.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Malformed { .. } | Self::TooLarge { .. })
    }
}

/// A blob that was decoded, kept from collection while this value is held.
#[derive(Debug)]
pub struct DecodedBlob {
    document: Document,
    _held: Held,
}

impl DecodedBlob {
    /// The digest of the plain bytes, by which they are a blob of the store.
    pub fn plain(&self) -> &Digest {
        &self.document.plain
    }

    /// How many plain bytes there are.
    pub fn plain_size(&self) -> u64 {
        self.document.plain_size
    }

    /// The size of the compressed blob in bytes.
    pub fn size(&self) -> u64 {
        self.document.size
    }

    /// Digests of ranges of the compressed blob that nobody outside knows; none for one that is small enough to be read whole.
    pub fn samples(&self) -> &[Sample] {
        &self.document.samples
    }
}

/// The content of `decoded/<alg>-<hex>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    format: u32,
    decoder: u32,
    codec: Codec,
    size: u64,
    plain: Digest,
    plain_size: u64,
    #[serde(default)]
    samples: Vec<Sample>,
}

/// Keeps one blob from collection.
struct Held {
    store: Arc<Inner>,
    digest: Digest,
}

impl Held {
    fn new(store: &Arc<Inner>, digest: &Digest) -> Self {
        store.refs().held.add(digest);
        Self { store: Arc::clone(store), digest: digest.clone() }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.digest).finish()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.store.refs().held.remove(&self.digest);
    }
}

impl Store {
    /// What a compressed blob was decoded to, where the plain bytes are in the store.
    pub fn decoded(&self, digest: &Digest) -> Result<Option<DecodedBlob>, StoreError> {
        let inner = self.inner();
        let Some(document) = inner.read_decoded(digest)? else { return Ok(None) };
        // Held first: what is there now stays.
        let held = Held::new(inner, &document.plain);
        let there = self.blob_size(&document.plain) == Some(document.plain_size);
        Ok(there.then_some(DecodedBlob { document, _held: held }))
    }

    /// Decodes a compressed blob that is in the store, unless that was done before.
    pub fn decode_blob(&self, digest: &Digest, codec: Codec) -> Result<DecodedBlob, DecodeError> {
        let inner = self.inner();
        inner.view_locks.with(&format!("decode {digest}"), || {
            if let Some(decoded) = self.decoded(digest)? {
                return Ok(decoded);
            }
            let file = inner.open_blob(digest)?;
            let size = file.length()?;
            let mut decoding = Decoding::start(inner, digest, size, codec)?;
            let mut buffer = vec![0; READ_STEP.min(size as usize)];
            let mut at = 0;
            while at < size {
                let step = buffer.len().min((size - at) as usize);
                file.read_at("blob.read", at, &mut buffer[..step])?;
                decoding.push(&buffer[..step])?;
                at += step as u64;
            }
            decoding.finish()
        })
    }
}

impl Inner {
    fn read_decoded(&self, digest: &Digest) -> Result<Option<Document>, IoError> {
        let name = names::decoded(digest);
        let bytes = match self.dirs.decoded.read("decoded.read", &name) {
            Err(error) if error.is_not_found() => return Ok(None),
            read => read?,
        };
        let document: Option<Document> = serde_json::from_slice(&bytes).ok();
        if document.is_none() {
            tracing::warn!(%digest, "what it was decoded to cannot be read; it is decoded again");
        }
        Ok(document.filter(|document| document.format == FORMAT && document.decoder == DECODER))
    }

    /// Remembers what came of a blob.
    fn put_decoded(&self, digest: &Digest, document: &Document) -> Result<(), IoError> {
        let name = names::decoded(digest);
        let json = serde_json::to_vec(document).map_err(|error| {
            IoError::new("write", self.io.full(&self.dirs.decoded.path().join(&name)), error.into())
        })?;
        self.refs().add_plain(&document.plain, digest);
        self.dirs.decoded.replace("decoded.write", &name, &json, true)
    }

    /// Learns, once, what earlier processes have decoded. Collection wants to know it.
    pub(crate) fn load_decoded(&self) -> Result<(), IoError> {
        if self.decoded_known.load(Ordering::Acquire) {
            return Ok(());
        }
        for name in self.dirs.decoded.names()? {
            let Some(digest) = names::parse_decoded(&name) else { continue };
            if let Some(document) = self.read_decoded(&digest)? {
                self.refs().add_plain(&document.plain, &digest);
            }
        }
        self.decoded_known.store(true, Ordering::Release);
        Ok(())
    }

    /// Forgets what was decoded to blobs that are gone.
    pub(crate) fn prune_decoded(&self) -> Result<(), IoError> {
        for name in self.dirs.decoded.names()? {
            let Some(digest) = names::parse_decoded(&name) else { continue };
            let gone = match self.read_decoded(&digest)? {
                None => true,
                Some(document) => self.blob_stat(&document.plain, Sibling::BASE)?.is_none(),
            };
            if gone {
                crate::io::gone_is_fine(self.dirs.decoded.unlink("decoded.remove", &name))?;
                self.refs().remove_plain(&digest);
            }
        }
        Ok(())
    }
}

/// The algorithm of plain digests; that of `rootfs.diff_ids` in practice.
const PLAIN_ALGORITHM: Algorithm = Algorithm::Sha256;
