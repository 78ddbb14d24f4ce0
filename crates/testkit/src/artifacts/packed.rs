//! Bytes behind a codec, which remember what they were before.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use stowage_artifact::{Algorithm, Codec, Digest};

use super::BlobData;

/// The bytes of a layer as a producer compresses them.
#[derive(Clone, Debug)]
pub struct Packed {
    bytes: Vec<u8>,
    diff_id: Digest,
    codec: Option<Codec>,
}

impl Packed {
    /// Bytes as they are.
    pub fn plain(bytes: Vec<u8>) -> Self {
        Self { diff_id: Digest::of(Algorithm::Sha256, &bytes), bytes, codec: None }
    }

    /// Bytes as one gzip member.
    pub fn gzip(bytes: &[u8]) -> io::Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes)?;
        let diff_id = Digest::of(Algorithm::Sha256, bytes);
        Ok(Self { bytes: encoder.finish()?, diff_id, codec: Some(Codec::Gzip) })
    }

    /// Bytes as one zstd frame.
    pub fn zstd(bytes: &[u8]) -> io::Result<Self> {
        let diff_id = Digest::of(Algorithm::Sha256, bytes);
        Ok(Self { bytes: zstd::bulk::compress(bytes, 1)?, diff_id, codec: Some(Codec::Zstd) })
    }

    /// The digest of the bytes before any compression.
    pub fn diff_id(&self) -> Digest {
        self.diff_id.clone()
    }

    /// The digest of the bytes as they are pushed.
    pub fn digest(&self) -> Digest {
        Digest::of(Algorithm::Sha256, &self.bytes)
    }

    /// How the bytes are compressed.
    pub const fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// What the codec adds to a media type.
    pub(super) const fn suffix(&self) -> &'static str {
        match self.codec {
            None => "",
            Some(Codec::Gzip) => "+gzip",
            Some(Codec::Zstd) => "+zstd",
        }
    }

    /// The bytes as they are pushed.
    pub fn into_data(self) -> BlobData {
        self.bytes.into()
    }
}
