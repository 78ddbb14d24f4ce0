//! Where the bytes of a blob come from: memory, a rule, or a file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream};
use stowage_artifact::{Algorithm, Digest, Hasher};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes handed out at a time.
pub(crate) const CHUNK: u64 = 128 << 10;
const PAGE: u64 = 4 << 10;
const BASE_PAGES: u64 = 256;

/// The bytes of one blob, never copied as a whole.
#[derive(Clone, Debug)]
pub enum BlobData {
    /// Held in memory; slices are shared.
    Memory(Bytes),
    /// Worked out from a seed whenever it is read, at any size.
    Generated(Generated),
    /// Read from a file, of which the first `size` bytes count.
    File {
        /// The file.
        path: Arc<StoredFile>,
        /// Bytes of the blob.
        size: u64,
    },
}

/// A file that backs a blob; a temporary one goes with its last user.
#[derive(Debug)]
pub enum StoredFile {
    /// Somebody else's file.
    Kept(PathBuf),
    /// A file of the registry's own.
    Temporary(tempfile::TempPath),
}

impl StoredFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(path) => path,
        }
    }
}

impl BlobData {
    /// A deterministic pseudo-random blob that takes no memory.
    pub fn generated(seed: u64, size: u64) -> Self {
        Self::Generated(Generated::new(seed, size))
    }

    /// The present content of a file. The file must not change while it is served.
    pub fn file(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let size = std::fs::metadata(&path)?.len();
        Ok(Self::File { path: Arc::new(StoredFile::Kept(path)), size })
    }

    /// Bytes of the blob.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Generated(generated) => generated.size,
            Self::File { size, .. } => *size,
        }
    }

    /// The digest of the whole; reads everything and blocks.
    pub fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        match self {
            Self::Memory(bytes) => hasher.update(bytes),
            Self::Generated(generated) => {
                let mut offset = 0;
                while offset < generated.size {
                    let chunk = generated.read_at(offset, 1 << 20);
                    offset += chunk.len() as u64;
                    hasher.update(&chunk);
                }
            }
            Self::File { path, size } => {
                let mut file = File::open(path.path())?.take(*size);
                let mut buffer = vec![0; 1 << 20];
                loop {
                    let read = file.read(&mut buffer)?;
                    if read == 0 {
                        break;
                    }
                    hasher.update(&buffer[..read]);
                }
            }
        }
        Ok(hasher.finish())
    }

    /// The bytes of a range; blocks, and holds the range in memory.
    pub fn read_range(&self, range: Range<u64>) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Self::Generated(generated) => Ok(generated.read_at(range.start, range.end - range.start)),
            Self::File { path, .. } => {
                let mut file = File::open(path.path())?;
                file.seek(SeekFrom::Start(range.start))?;
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }

    /// A reader of a range.
    pub(crate) async fn reader(&self, range: Range<u64>) -> io::Result<BlobReader> {
        let source = match self {
            Self::Memory(bytes) => {
                ReaderSource::Memory(bytes.slice(range.start as usize..range.end as usize))
            }
            Self::Generated(generated) => ReaderSource::Generated(generated.clone(), range.start),
            Self::File { path, .. } => {
                let mut file = tokio::fs::File::open(path.path()).await?;
                file.seek(SeekFrom::Start(range.start)).await?;
                file.set_max_buf_size(CHUNK as usize);
                ReaderSource::File(file, Arc::clone(path))
            }
        };
        Ok(BlobReader { source, left: range.end - range.start })
    }

    /// The whole blob as a stream of chunks.
    pub(crate) fn stream(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let this = self.clone();
        stream::try_unfold(None, move |reader: Option<BlobReader>| {
            let this = this.clone();
            async move {
                let mut reader = match reader {
                    Some(reader) => reader,
                    None => this.reader(0..this.size()).await?,
                };
                let chunk = reader.next(CHUNK).await?;
                Ok((!chunk.is_empty()).then_some((chunk, Some(reader))))
            }
        })
    }
}

impl From<Bytes> for BlobData {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

impl From<Vec<u8>> for BlobData {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes.into())
    }
}

impl From<String> for BlobData {
    fn from(text: String) -> Self {
        Self::Memory(text.into())
    }
}

impl From<&str> for BlobData {
    fn from(text: &str) -> Self {
        Self::Memory(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<&[u8]> for BlobData {
    fn from(bytes: &[u8]) -> Self {
        Self::Memory(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for BlobData {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Memory(Bytes::copy_from_slice(bytes))
    }
}

impl From<Generated> for BlobData {
    fn from(generated: Generated) -> Self {
        Self::Generated(generated)
    }
}

/// A blob that is worked out from a seed: no two of its pages of 4 KiB are alike, so a byte in the wrong place shows.
#[derive(Clone)]
pub struct Generated {
    seed: u64,
    size: u64,
    base: Bytes,
}

impl Generated {
    /// A blob of `size` bytes; the same seed and size give the same bytes, for ever.
    pub fn new(seed: u64, size: u64) -> Self {
        let mut base = BytesMut::with_capacity((PAGE * BASE_PAGES) as usize);
        for word in 0..PAGE * BASE_PAGES / 8 {
            base.extend_from_slice(&mix(seed, word).to_le_bytes());
        }
        Self { seed, size, base: base.freeze() }
    }

    /// Up to `length` bytes from `offset`; fewer at the end of the blob.
    pub fn read_at(&self, offset: u64, length: u64) -> Bytes {
        let end = self.size.min(offset.saturating_add(length));
        let mut out = BytesMut::with_capacity(end.saturating_sub(offset) as usize);
        let mut position = offset;
        while position < end {
            let (page, within) = (position / PAGE, position % PAGE);
            let upto = PAGE.min(within + end - position);
            let start = page % BASE_PAGES * PAGE;
            let stamp = mix(!self.seed, page).to_le_bytes();
            if within < 8 {
                out.extend_from_slice(&stamp[within as usize..upto.min(8) as usize]);
            }
            let body = within.max(8);
            if body < upto {
                out.extend_from_slice(&self.base[(start + body) as usize..(start + upto) as usize]);
            }
            position += upto - within;
        }
        out.freeze()
    }
}

impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generated")
            .field("seed", &self.seed)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A well-mixed word for every (seed, index).
fn mix(seed: u64, index: u64) -> u64 {
    let mut word = seed ^ index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Reads a range of a blob in chunks.
pub(crate) struct BlobReader {
    source: ReaderSource,
    left: u64,
}

enum ReaderSource {
    Memory(Bytes),
    Generated(Generated, u64),
    File(tokio::fs::File, Arc<StoredFile>),
}

impl BlobReader {
    /// The next bytes, at most `limit`; empty at the end.
    pub(crate) async fn next(&mut self, limit: u64) -> io::Result<Bytes> {
        let want = self.left.min(limit);
        if want == 0 {
            return Ok(Bytes::new());
        }
        let chunk = match &mut self.source {
            ReaderSource::Memory(bytes) => bytes.split_to(want as usize),
            ReaderSource::Generated(generated, offset) => {
                let chunk = generated.read_at(*offset, want);
                *offset += want;
                chunk
            }
            ReaderSource::File(file, stored) => {
                let mut buffer = BytesMut::with_capacity(want as usize);
                if file.take(want).read_buf(&mut buffer).await? == 0 {
                    let message = format!("{} is shorter than its blob", stored.path().display());
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
                }
                buffer.freeze()
            }
        };
        self.left -= chunk.len() as u64;
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_blob_reads_the_same_from_any_offset() {
        let blob = Generated::new(7, 3 * PAGE * BASE_PAGES + 123);
        let whole = blob.read_at(0, u64::MAX);
        assert_eq!(whole.len() as u64, blob.size);
        for (offset, length) in
            [(0, 1), (3, 9), (7, 4090), (PAGE - 1, 3), (PAGE + 5, 2), (blob.size - 5, 100)]
        {
            let end = blob.size.min(offset + length);
            assert_eq!(
                blob.read_at(offset, length),
                whole[offset as usize..end as usize],
                "{offset}+{length}"
            );
        }
        assert!(blob.read_at(blob.size, 1).is_empty());
    }

    #[test]
    fn no_page_of_a_generated_blob_repeats() {
        let blob = Generated::new(1, 2 * PAGE * BASE_PAGES);
        let whole = blob.read_at(0, u64::MAX);
        let pages: std::collections::HashSet<&[u8]> = whole.chunks(PAGE as usize).collect();
        assert_eq!(pages.len() as u64, 2 * BASE_PAGES);
    }

    #[tokio::test]
    async fn every_kind_of_blob_streams_its_own_digest() {
        let generated = BlobData::generated(3, 300_000);
        let bytes = generated.read_range(0..300_000).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let expected = Digest::of(Algorithm::Sha256, &bytes);
        for blob in [generated, BlobData::from(bytes), BlobData::file(file.path()).unwrap()] {
            assert_eq!(blob.digest(Algorithm::Sha256).unwrap(), expected);
            let mut reader = blob.reader(100..299_000).await.unwrap();
            let mut read = Vec::new();
            loop {
                let chunk = reader.next(10_000).await.unwrap();
                if chunk.is_empty() {
                    break;
                }
                read.extend_from_slice(&chunk);
            }
            assert_eq!(read, blob.read_range(100..299_000).unwrap());
        }
    }
}
