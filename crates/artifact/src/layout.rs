//! The plan of a volume: which file stands where and which bytes it has.

mod builder;
mod canonical;
mod error;
mod filesystem;
mod filter;
mod tar;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::builder::LayoutBuilder;
pub use self::canonical::CanonicalLayout;
pub use self::error::LayoutError;
pub use self::filesystem::{FilesystemKind, FilesystemLayer};
pub(crate) use self::filter::Area;
pub use self::filter::MemberFilter;
pub use self::tar::{SpecialPolicy, SymlinkPolicy, TarLayer};
use crate::codec::Codec;
use crate::digest::Digest;
use crate::relative_path::RelativePath;

/// The mode of an ordinary file.
pub const FILE_MODE: u32 = 0o444;
/// The mode of a file that the artifact calls executable.
pub const EXECUTABLE_MODE: u32 = 0o555;
/// How often one digest may stand in a layout, so that hard links suffice (`store.md`, "Hard-link trees").
pub const MAX_COPIES_OF_A_DIGEST: usize = 1000;

/// Where the bytes of a file come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Source {
    /// The blob as the registry serves it.
    Raw(Digest),
    /// What the blob decodes to.
    Decoded(Decoded),
}

/// A file that is compressed in the registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decoded {
    /// The blob as the registry serves it.
    pub digest: Digest,
    /// How it is compressed.
    pub codec: Codec,
    /// The digest of the decoded bytes, as the artifact claims it; see [`TarLayer::plain`].
    pub plain: Option<Digest>,
    /// How many bytes it decodes to, as the artifact claims it.
    pub plain_size: Option<u64>,
}

impl Source {
    /// The blob that is fetched.
    pub const fn blob(&self) -> &Digest {
        match self {
            Self::Raw(digest) => digest,
            Self::Decoded(decoded) => &decoded.digest,
        }
    }

    /// `raw`, or the codec behind which the file is.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Raw(_) => "raw",
            Self::Decoded(decoded) => decoded.codec.as_str(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(digest) => digest.fmt(f),
            Self::Decoded(decoded) => write!(f, "{} decoded from {}", decoded.digest, decoded.codec),
        }
    }
}

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where its bytes come from.
    pub source: Source,
    /// The size of the blob in bytes, which is the file's own unless it has to be decoded.
    pub size: u64,
    /// [`FILE_MODE`] or [`EXECUTABLE_MODE`]; whether the content may be executed is for the store to check.
    pub mode: u32,
}

impl Entry {
    /// The size of the file in bytes, where it is known before the bytes are.
    pub const fn file_bytes(&self) -> Option<u64> {
        match &self.source {
            Source::Raw(_) => Some(self.size),
            Source::Decoded(decoded) => decoded.plain_size,
        }
    }
}

/// The files of a volume by path, and the layers whose files are known only once their bytes are here.
///
/// No file of [`Layout::entries`] is also a directory. Whether a member of a tar collides with one of them is for
/// whoever reads the tar to check: they are refused, except where the tar is a layer of an image, over which plain
/// files lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    entries: BTreeMap<RelativePath, Entry>,
    tars: Vec<TarLayer>,
    filesystems: Vec<FilesystemLayer>,
    filter: MemberFilter,
    inline: BTreeMap<Digest, Vec<u8>>,
}

impl Layout {
    /// Starts a layout by hand; [`crate::plan`] is the usual way to one.
    pub fn builder() -> LayoutBuilder {
        LayoutBuilder::default()
    }

    /// Every file that is a blob of its own, with what lies in a directory together.
    pub const fn entries(&self) -> &BTreeMap<RelativePath, Entry> {
        &self.entries
    }

    /// The tars whose members are files, in the order of the artifact's layers.
    pub fn tars(&self) -> &[TarLayer] {
        &self.tars
    }

    /// The filesystem images that are stacked as the volume, the lowest first. There are none next to tars.
    pub fn filesystems(&self) -> &[FilesystemLayer] {
        &self.filesystems
    }

    /// Which members of the tars are shown, and where. To [`Layout::entries`] it has been applied.
    pub const fn filter(&self) -> &MemberFilter {
        &self.filter
    }

    /// Whether every file is a blob just as the registry serves it.
    pub fn is_plain(&self) -> bool {
        let raw = |entry: &Entry| matches!(entry.source, Source::Raw(_));
        self.tars.is_empty() && self.filesystems.is_empty() && self.entries.values().all(raw)
    }

    /// Every blob that the volume needs, as it is fetched, with its size in bytes; those of [`Layout::inline`] among
    /// them.
    pub fn blobs(&self) -> BTreeMap<Digest, u64> {
        let entries = self.entries.values().map(|entry| (entry.source.blob(), entry.size));
        let tars = self.tars.iter().map(|tar| (&tar.digest, tar.size));
        let filesystems = self.filesystems.iter().map(|layer| (&layer.digest, layer.size));
        entries.chain(tars).chain(filesystems).map(|(digest, size)| (digest.clone(), size)).collect()
    }

    /// Blobs whose bytes are known without fetching: carried by the manifest (and verified), or generated.
    pub const fn inline(&self) -> &BTreeMap<Digest, Vec<u8>> {
        &self.inline
    }

    /// Bytes of the blobs as they are fetched, each counted once.
    pub fn total_bytes(&self) -> u64 {
        self.blobs().values().fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// Bytes of the files, as `du --apparent-size` would count copies, so far as they are known before the bytes are.
    ///
    /// A blob that has to be decoded counts with its size as it is served unless the artifact says more, a tar or a
    /// filesystem image with the size of its blob. [`Layout::is_exact`] tells whether that can differ from the volume.
    pub fn apparent_bytes(&self) -> u64 {
        let entries = self.entries.values().map(|entry| entry.file_bytes().unwrap_or(entry.size));
        let tars = self.tars.iter().map(|tar| tar.size);
        let filesystems = self.filesystems.iter().map(|layer| layer.size);
        entries.chain(tars).chain(filesystems).fold(0, u64::saturating_add)
    }

    /// Whether [`Layout::apparent_bytes`] and the number of [`Layout::entries`] are those of the volume.
    pub fn is_exact(&self) -> bool {
        self.is_plain()
    }
}
