//! Where the bytes of a blob come from: the one trait between the store's callers and the network.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use stowage_artifact::digest::Digest;

/// What a failed read means for the flight that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// No credential, or one that the source does not know.
    Unauthenticated,
    /// A known credential without access.
    Forbidden,
    /// The source has no such blob.
    NotFound,
    /// The source asks for a pause; see [`SourceError::retry_after`].
    RateLimited,
    /// A fault that may pass: reset, time-out, 5xx, a body that ended early.
    Unavailable,
    /// 416, or a Content-Range other than the one asked for: read the whole blob instead.
    RangeRefused,
    /// The source breaks the protocol and is of no use for this blob.
    Protocol,
}

/// Why a source could not deliver. The message is a full sentence and never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// What it means.
    pub kind: SourceErrorKind,
    /// What happened, on which source, as one sentence.
    pub message: String,
    /// How long the source asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl SourceError {
    /// An error without a pause.
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    /// The same error with the pause that the source asked for.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Whether another try at the same source can help.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, SourceErrorKind::RateLimited | SourceErrorKind::Unavailable)
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SourceError {}

/// The answer to one read: which bytes will come, and the stream of them.
///
/// A body shorter than promised ends its stream with [`SourceErrorKind::Unavailable`], a longer one with
/// [`SourceErrorKind::Protocol`].
pub struct BlobBody {
    /// Offset in the blob of the first byte of the stream.
    pub start: u64,
    /// Offset behind the last byte, where the source said so.
    pub end: Option<u64>,
    /// Size of the whole blob, where the source said so.
    pub total: Option<u64>,
    /// Whether the source honoured a range (206). A whole answer to a ranged read has `start` 0 and `false`.
    pub ranged: bool,
    /// The mirror that delivers in the place of the source's own host, by the name that [`BlobSource::distrust`]
    /// takes. Its bytes show nobody's access to that host.
    pub mirror: Option<Arc<str>>,
    /// The bytes.
    pub stream: BoxStream<'static, Result<Bytes, SourceError>>,
}

impl fmt::Debug for BlobBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobBody")
            .field("start", &self.start)
            .field("end", &self.end)
            .field("total", &self.total)
            .field("ranged", &self.ranged)
            .field("mirror", &self.mirror)
            .finish_non_exhaustive()
    }
}

/// One place that may deliver a blob, with the right to read it built in.
pub trait BlobSource: Send + Sync + 'static {
    /// Reads a range of the blob, or the whole of it.
    fn read<'a>(
        &'a self,
        digest: &'a Digest,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<BlobBody, SourceError>>;

    /// Host and repository for messages; no secret.
    fn describe(&self) -> String;

    /// The host that answers for the blob, as grants know it (`host[:port]`), also where a mirror delivers.
    fn host(&self) -> &str;

    /// What this mirror delivered of the blob was wrong: it is not to be asked for it again.
    fn distrust(&self, digest: &Digest, mirror: &str) {
        // A source without mirrors has none to avoid.
        let _ = (digest, mirror);
    }
}
