//! Tars whose members become files of a volume.

use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::digest::Digest;
use crate::relative_path::RelativePath;

/// What becomes of a symlink in a tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SymlinkPolicy {
    /// It stays as it is, wherever it leads: what an image's links mean is known inside its root only.
    Verbatim,
    /// It must lead to something inside the volume, or the tar is refused.
    Inside,
}

/// What becomes of a device, FIFO or socket in a tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpecialPolicy {
    /// It is left out and listed.
    Skip,
    /// The tar is refused.
    Refuse,
}

/// One tar whose members are files of the volume.
///
/// Member names are read relative to the volume: `./a` and `a` are the same, anything else must be a
/// [`RelativePath`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TarLayer {
    /// The blob as the registry serves it.
    pub digest: Digest,
    /// Its size in bytes, as it is served.
    pub size: u64,
    /// How it is compressed.
    pub codec: Option<Codec>,
    /// The digest of the decoded tar, as the artifact claims it.
    ///
    /// A claim to be checked once the tar is decoded, never a name to look a blob up by: a tenant could claim the
    /// digest of a stranger's blob.
    pub plain: Option<Digest>,
    /// The directory that member names are relative to; the root of the artifact when absent.
    pub at: Option<RelativePath>,
    /// Every member must be this path, lie beneath it or be a directory above it; anything else is refused.
    pub within: Option<RelativePath>,
    /// What the layer's file is called when the tar turns out, once decoded, to be none; without it that is an error.
    pub fallback: Option<RelativePath>,
    /// Whether this lies over the layers before it as an image's layer does: its whiteouts remove, its members replace.
    ///
    /// Without, a path that two layers have is refused unless both have a directory there.
    pub whiteouts: bool,
    /// What becomes of symlinks.
    pub symlinks: SymlinkPolicy,
    /// What becomes of devices, FIFOs and sockets.
    pub specials: SpecialPolicy,
    /// How error messages call the layer; no part of what the volume shows.
    pub origin: String,
}
