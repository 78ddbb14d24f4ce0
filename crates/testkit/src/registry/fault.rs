//! What the registry can be told to do wrong.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use stowage_artifact::Digest;

use super::rules::Request;
use super::traffic::Place;

/// A place in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Byte N of the blob: an answer that does not hold this byte is left alone.
    Blob(u64),
    /// After N bytes of whatever the answer holds.
    Body(u64),
}

impl At {
    /// Where this is in an answer that holds `range` of the blob.
    pub(super) fn in_body(self, range: &Range<u64>) -> Option<u64> {
        match self {
            Self::Blob(n) => range.contains(&n).then(|| n - range.start),
            Self::Body(n) => (n < range.end - range.start).then_some(n),
        }
    }
}

/// How a refusal says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Not at all.
    Silent,
    /// In seconds.
    Seconds(u64),
    /// As a date this far in the future.
    Date(Duration),
}

/// What is wrong with a `Content-Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongRange {
    /// It starts this many bytes later than asked.
    Starts(u64),
    /// It ends this many bytes later than the body.
    Ends(u64),
    /// It states another total.
    Total(u64),
    /// It is not there.
    Missing,
    /// It cannot be parsed.
    Garbage,
}

/// One thing that the registry does wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// 401 with the registry's own challenge, whatever the request carried.
    Unauthorized,
    /// 401 with this `WWW-Authenticate`.
    Challenge(String),
    /// An error status, with a header that says when to come back.
    Status(u16, RetryAfter),
    /// Any answer.
    Answer {
        /// The status.
        status: u16,
        /// Headers, name and value.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
    /// A header of the right answer is replaced; an empty value removes it.
    Header(String, String),
    /// 307 to a URL.
    Redirect(String),
    /// 307 to this very request, for ever.
    RedirectLoop,
    /// 307 to the other host, by a signed URL that answers 403 after some uses or some time.
    Presigned {
        /// Uses before it expires.
        uses: Option<u32>,
        /// Time before it expires.
        lifetime: Option<Duration>,
    },
    /// 200 and the whole blob, whatever range was asked for.
    IgnoreRange,
    /// A 206 with a wrong `Content-Range`; only requests with a range.
    ContentRange(WrongRange),
    /// 416; only requests with a range.
    RangeNotSatisfiable,
    /// The body without `Content-Length`, chunked.
    NoLength,
    /// The connection closes cleanly, too early.
    Truncate(At),
    /// The connection is reset.
    Reset(At),
    /// The body stops until [`super::Faults::release`], with the connection open.
    Stall(At),
    /// No answer at all until [`super::Faults::release`].
    Silence,
    /// This many bytes more than there should be, also in `Content-Length`.
    TooLong(u64),
    /// A chunked body that never ends.
    Endless,
    /// The body at this many bytes a second.
    Drip(u64),
    /// The byte here is flipped.
    Corrupt(At),
    /// The body gzipped, with `Content-Encoding: gzip`, although nobody asked.
    Gzip,
    /// White space after the document, up to this many bytes.
    Padded(u64),
    /// After this answer the tag that was asked for names another manifest.
    MoveTag(Digest),
    /// 200 with this length to a HEAD of anything, there or not; only HEAD.
    YesToHead(u64),
}

impl Fault {
    /// An error status without `Retry-After`.
    pub fn status(status: u16) -> Self {
        Self::Status(status, RetryAfter::Silent)
    }

    /// A `Docker-Content-Digest` that is not the digest of the answer.
    pub fn wrong_digest(digest: &Digest) -> Self {
        Self::Header("docker-content-digest".into(), digest.to_string())
    }

    /// A presigned redirect that never expires by itself, see [`super::Registry::expire_presigned`].
    pub fn presigned() -> Self {
        Self::Presigned { uses: None, lifetime: None }
    }

    pub(super) fn replaces_the_answer(&self) -> bool {
        match self {
            Self::Unauthorized
            | Self::Challenge(_)
            | Self::Status(..)
            | Self::Answer { .. }
            | Self::Redirect(_)
            | Self::RedirectLoop
            | Self::Presigned { .. }
            | Self::RangeNotSatisfiable
            | Self::YesToHead(_) => true,
            Self::Header(..)
            | Self::IgnoreRange
            | Self::ContentRange(_)
            | Self::NoLength
            | Self::Truncate(_)
            | Self::Reset(_)
            | Self::Stall(_)
            | Self::Silence
            | Self::TooLong(_)
            | Self::Endless
            | Self::Drip(_)
            | Self::Corrupt(_)
            | Self::Gzip
            | Self::Padded(_)
            | Self::MoveTag(_) => false,
        }
    }

    /// Whether the fault can show in the answer to this request.
    pub(super) fn fits(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Presigned { .. } | Self::Redirect(_) | Self::RedirectLoop | Self::Unauthorized => {
                request.place == Place::Registry
            }
            Self::YesToHead(_) => request.method == Method::HEAD,
            Self::IgnoreRange | Self::ContentRange(_) | Self::RangeNotSatisfiable => request.ranged,
            Self::Truncate(at) | Self::Reset(at) | Self::Stall(at) | Self::Corrupt(at) => {
                request.method == Method::GET
                    && request.range.as_ref().is_some_and(|range| at.in_body(range).is_some())
            }
            Self::TooLong(_)
            | Self::Endless
            | Self::Drip(_)
            | Self::Gzip
            | Self::Padded(_)
            | Self::NoLength => request.method == Method::GET && request.range.is_some(),
            Self::MoveTag(_) => request.tag,
            Self::Challenge(_)
            | Self::Status(..)
            | Self::Answer { .. }
            | Self::Header(..)
            | Self::Silence => true,
        }
    }
}
