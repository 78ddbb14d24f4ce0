//! Blobs that are made up in this process, for the engine alone.

use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use stowage_artifact::Digest;
use stowage_store::{BlobBody, BlobSource, SourceError};
use stowage_testkit::Generated;

/// Bytes that are handed over at once, about what a socket gives.
const CHUNK: u64 = 256 << 10;

/// What a blob is made of.
#[derive(Clone, Debug)]
pub(crate) enum MadeUp {
    /// Zeros that end in these bytes; nothing is copied for them.
    Zeros {
        /// Bytes of the blob.
        size: u64,
        /// Its end.
        tail: Bytes,
        /// A chunk of zeros, shared.
        zeros: Bytes,
    },
    /// Pseudo-random bytes.
    Random {
        /// Bytes of the blob.
        size: u64,
        /// Where they come from.
        content: Generated,
    },
}

impl MadeUp {
    /// Zeros that end in a number, as [`crate::content::sparse_files`] makes them.
    pub(crate) fn zeros(size: u64, number: u64) -> Self {
        let tail = Bytes::copy_from_slice(&number.to_le_bytes());
        Self::Zeros { size, tail, zeros: vec![0; CHUNK as usize].into() }
    }

    /// The blob of this seed.
    pub(crate) fn random(seed: u64, size: u64) -> Self {
        Self::Random { size, content: Generated::new(seed, size) }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Zeros { size, .. } | Self::Random { size, .. } => *size,
        }
    }

    /// Some bytes from `offset`, at most up to `end`.
    fn chunk(&self, offset: u64, end: u64) -> Bytes {
        let length = CHUNK.min(end - offset);
        match self {
            Self::Zeros { size, tail, zeros } => {
                let body = size - tail.len() as u64;
                if offset < body {
                    zeros.slice(..length.min(body - offset) as usize)
                } else {
                    let from = (offset - body) as usize;
                    tail.slice(from..from + length as usize)
                }
            }
            Self::Random { content, .. } => content.read_at(offset, length),
        }
    }
}

impl BlobSource for MadeUp {
    fn read<'a>(
        &'a self,
        _digest: &'a Digest,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<BlobBody, SourceError>> {
        let ranged = range.is_some();
        let Range { start, end } = range.unwrap_or(0..self.size());
        let content = self.clone();
        let chunks = stream::unfold(start, move |offset| {
            let chunk = (offset < end).then(|| content.chunk(offset, end));
            async move { chunk.map(|chunk| (Ok(chunk.clone()), offset + chunk.len() as u64)) }
        });
        let body = BlobBody {
            mirror: None,
            start,
            end: Some(end),
            total: Some(self.size()),
            ranged,
            stream: chunks.boxed(),
        };
        Box::pin(async move { Ok(body) })
    }

    fn describe(&self) -> String {
        "a source made up for the benchmark".to_owned()
    }

    fn host(&self) -> &'static str {
        "bench.invalid"
    }
}

#[cfg(test)]
mod tests {
    use stowage_artifact::{Algorithm, Digest};

    use super::*;

    async fn read(source: &MadeUp, range: Option<Range<u64>>) -> Vec<u8> {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let mut body = source.read(&digest, range).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.stream.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        bytes
    }

    #[tokio::test]
    async fn every_range_is_a_part_of_the_whole() {
        for source in [MadeUp::zeros(3 * CHUNK + 11, 0x0102), MadeUp::random(5, 2 * CHUNK + 3)] {
            let whole = read(&source, None).await;
            assert_eq!(whole.len() as u64, source.size());
            for range in
                [0..1, 5..CHUNK + 7, source.size() - 9..source.size(), source.size() - 3..source.size()]
            {
                let part = &whole[range.start as usize..range.end as usize];
                assert_eq!(read(&source, Some(range)).await, part);
            }
        }
    }

    #[tokio::test]
    async fn zeros_are_those_of_the_sparse_files() {
        let directory = tempfile::tempdir().unwrap();
        let files = crate::content::sparse_files(directory.path(), 2, &[CHUNK + 100]).unwrap();
        let (file, _) = &files[0][1];
        let bytes = read(&MadeUp::zeros(file.size, 2), None).await;
        assert_eq!(Digest::of(Algorithm::Sha256, &bytes), file.digest);
    }
}
