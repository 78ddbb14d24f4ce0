//! One blob being decoded while its bytes pass.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use flate2::write::MultiGzDecoder;
use stowage_artifact::Codec;
use stowage_artifact::digest::{Digest, Hasher};
use zstd::stream::raw::{self, DParameter};
use zstd::stream::zio::Writer as ZstdWriter;

use super::sampler::Sampler;
use super::{DECODER, DecodeError, DecodedBlob, Document, FORMAT, Held, PLAIN_ALGORITHM};
use crate::admission::AdmitError;
use crate::error::StoreError;
use crate::io::{IoError, IoFile};
use crate::names::Sibling;
use crate::store::{Inner, Store};

/// Whatever its size, a blob may decode to so many bytes ...
const ALWAYS_ALLOWED: u64 = 64 << 20;
/// ... and beyond that to so many times its size. Deflate reaches 1032, other codecs have no end.
const MAX_RATIO: u64 = 200;
/// The largest window of zstd, as a power of two in bytes: what `zstd --ultra` uses without `--long`, and what the OCI tools
/// write.
const MAX_WINDOW_LOG: u32 = 27;
/// Bytes are sent to the disk in steps of this many, and room is asked for in steps of at least so many.
const STEP: u64 = 16 << 20;

/// Decodes a blob into a file that becomes a blob of its own. Dropped before that, the file goes.
pub(crate) struct Decoding {
    store: Arc<Inner>,
    digest: Digest,
    size: u64,
    codec: Codec,
    decoder: Decoder,
    sampler: Sampler,
    temporary: String,
    published: bool,
}

enum Decoder {
    Gzip(Box<MultiGzDecoder<Plain>>),
    Zstd(Box<ZstdWriter<Plain, raw::Decoder<'static>>>),
}

impl Decoder {
    fn plain(&mut self) -> &mut Plain {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.writer_mut(),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Zstd(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

/// The plain bytes on their way to the disk.
struct Plain {
    store: Arc<Inner>,
    file: IoFile,
    hasher: Hasher,
    at: u64,
    limit: u64,
    /// Up to here there is room.
    admitted: u64,
    /// From here on nothing was sent to the disk yet.
    written_back: u64,
    fault: Option<Fault>,
}

/// What stopped the writing, as a decoder hands on nothing but an I/O error.
enum Fault {
    TooLarge,
    NoRoom(AdmitError),
    Store(StoreError),
}

impl Plain {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let end = self.at + bytes.len() as u64;
        if end > self.limit {
            return Err(Fault::TooLarge);
        }
        if end > self.admitted {
            // Asked again and again, because nobody knows how much it will be; more each time, as the answer may take a walk
            // through the store.
            let step = STEP.max(self.at / 4);
            drop(Store::of(&self.store).admit(step, 1).map_err(Fault::NoRoom)?);
            self.admitted = end + step;
        }
        let io = |error: IoError| Fault::Store(error.into());
        self.file.write_at("decode.write", self.at, bytes).map_err(io)?;
        self.hasher.update(bytes);
        self.at = end;
        if self.at - self.written_back >= STEP {
            let length = self.at - self.written_back;
            self.file.write_back("decode.write_back", self.written_back, length).map_err(io)?;
            self.written_back = self.at;
        }
        Ok(())
    }
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.put(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(fault) => {
                self.fault = Some(fault);
                Err(io::Error::other("the plain bytes cannot be written"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoding {
    /// Begins with the first byte of a blob of `size` bytes.
    pub(crate) fn start(
        store: &Arc<Inner>,
        digest: &Digest,
        size: u64,
        codec: Codec,
    ) -> Result<Self, DecodeError> {
        let temporary = store.io.temporary("decode");
        let file = store.dirs.ingest.create("decode.create", &temporary)?;
        let plain = Plain {
            store: Arc::clone(store),
            file,
            hasher: Hasher::new(PLAIN_ALGORITHM),
            at: 0,
            limit: ALWAYS_ALLOWED.max(size.saturating_mul(MAX_RATIO)),
            admitted: 0,
            written_back: 0,
            fault: None,
        };
        let decoder = match codec {
            Codec::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(plain))),
            Codec::Zstd => Decoder::Zstd(Box::new(zstd_decoder(plain).map_err(StoreError::Read)?)),
        };
        Ok(Self {
            store: Arc::clone(store),
            digest: digest.clone(),
            size,
            codec,
            decoder,
            sampler: Sampler::new(size),
            temporary,
            published: false,
        })
    }

    /// The next bytes of the compressed blob.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.sampler.push(bytes);
        self.decoder.write_all(bytes).map_err(|error| self.failed(&error))
    }

    /// All bytes have passed, and are those of the digest: the plain ones become a blob.
    pub(crate) fn finish(mut self) -> Result<DecodedBlob, DecodeError> {
        self.decoder.finish().map_err(|error| self.failed(&error))?;
        let store = Arc::clone(&self.store);
        let plain = self.decoder.plain();
        let hasher = std::mem::replace(&mut plain.hasher, Hasher::new(PLAIN_ALGORITHM));
        let (found, plain_size) = (hasher.finish(), plain.at);
        plain.file.chmod("decode.chmod", Sibling::BASE.mode())?;
        plain.file.fix_times("decode.times")?;
        plain.file.sync("decode.sync")?;
        let held = Held::new(&store, &found);
        store.publish_blob(&store.dirs.ingest, &self.temporary, &found, Sibling::BASE)?;
        self.published = true;
        let document = Document {
            format: FORMAT,
            decoder: DECODER,
            codec: self.codec,
            size: self.size,
            plain: found,
            plain_size,
            samples: std::mem::replace(&mut self.sampler, Sampler::new(0)).finish(),
        };
        store.put_decoded(&self.digest, &document)?;
        tracing::debug!(digest = %self.digest, codec = %self.codec, plain = %document.plain, "decoded");
        Ok(DecodedBlob { document, _held: held })
    }

    /// The true cause behind what a decoder says.
    fn failed(&mut self, error: &io::Error) -> DecodeError {
        let digest = self.digest.clone();
        let plain = self.decoder.plain();
        let limit = plain.limit;
        match plain.fault.take() {
            Some(Fault::TooLarge) => DecodeError::TooLarge { digest, size: self.size, limit },
            Some(Fault::NoRoom(source)) => DecodeError::NoRoom { digest, source },
            Some(Fault::Store(error)) => DecodeError::Store(error),
            None => DecodeError::Malformed { digest, codec: self.codec, reason: error.to_string() },
        }
    }
}

fn zstd_decoder(plain: Plain) -> io::Result<ZstdWriter<Plain, raw::Decoder<'static>>> {
    let mut decoder = raw::Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
    Ok(ZstdWriter::new(plain, decoder))
}

impl Drop for Decoding {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.store.dirs.ingest.unlink("decode.abandon", &self.temporary)
        {
            tracing::debug!(%error, "a half-decoded blob stays until the next start");
        }
    }
}

impl fmt::Debug for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoding")
            .field("digest", &self.digest)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
