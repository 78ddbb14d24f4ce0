//! What a layout needs of each blob: the blob itself, what it decodes to, or both.

use std::collections::BTreeMap;

use stowage_artifact::{Codec, Digest, Layout, Source};
use stowage_store::{Store, StoreError};

/// A compressed blob needs room for what it decodes to as well, which is this many times its size where nobody says. Decoding
/// asks for more as it goes on.
const DECODED_RATIO: u64 = 2;

/// What is needed of one blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Its size in bytes, as the manifest says.
    pub(crate) size: u64,
    /// Whether it is wanted as the registry serves it.
    pub(crate) raw: bool,
    /// How it is compressed, where the plain bytes are wanted.
    pub(crate) codec: Option<Codec>,
    /// How many plain bytes are expected.
    pub(crate) plain: u64,
}

impl Need {
    /// How the download is to be decoded, where that is all that is wanted of it.
    pub(crate) const fn decode(&self) -> Option<Codec> {
        if self.raw { None } else { self.codec }
    }

    /// Whether the store lacks something that has to be fetched.
    pub(crate) fn is_missing(&self, store: &Store, digest: &Digest) -> Result<bool, StoreError> {
        if store.blob_size(digest).is_some() {
            return Ok(false);
        }
        Ok(self.raw || self.codec.is_none() || store.decoded(digest)?.is_none())
    }
}

/// The needs of a layout, by blob.
pub(crate) fn needs(layout: &Layout) -> BTreeMap<Digest, Need> {
    let mut needs: BTreeMap<Digest, Need> = BTreeMap::new();
    let mut add = |digest: &Digest, size: u64, codec: Option<Codec>, plain: Option<u64>| {
        let need = needs.entry(digest.clone()).or_default();
        need.size = size;
        need.raw |= codec.is_none();
        if codec.is_some() {
            need.codec = codec;
            need.plain = plain.unwrap_or(size.saturating_mul(DECODED_RATIO));
        }
    };
    for entry in layout.entries().values() {
        match &entry.source {
            Source::Decoded(decoded) => {
                add(&decoded.digest, entry.size, Some(decoded.codec), decoded.plain_size);
            }
            source => add(source.blob(), entry.size, None, None),
        }
    }
    for tar in layout.tars() {
        add(&tar.digest, tar.size, tar.codec, None);
    }
    for layer in layout.filesystems() {
        add(&layer.digest, layer.size, layer.codec, None);
    }
    needs
}
