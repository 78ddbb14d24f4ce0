//! The plan of a volume: which file stands where and which bytes it has.

mod error;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::error::LayoutError;
use crate::digest::{Algorithm, Digest};
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
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(digest) => digest.fmt(f),
        }
    }
}

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where its bytes come from.
    pub source: Source,
    /// Its size in bytes.
    pub size: u64,
    /// [`FILE_MODE`] or [`EXECUTABLE_MODE`]; whether the content may be executed is for the store to check.
    pub mode: u32,
}

/// The files of a volume by path; no file is also a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    entries: BTreeMap<RelativePath, Entry>,
    inline: BTreeMap<Digest, Vec<u8>>,
}

impl Layout {
    /// Starts a layout by hand; [`crate::plan`] is the usual way to one.
    pub fn builder() -> LayoutBuilder {
        LayoutBuilder::default()
    }

    /// Every file, with what lies in a directory together.
    pub const fn entries(&self) -> &BTreeMap<RelativePath, Entry> {
        &self.entries
    }

    /// Every blob that the volume needs, with its size in bytes; those of [`Layout::inline`] among them.
    pub fn blobs(&self) -> BTreeMap<Digest, u64> {
        let blob = |entry: &Entry| match &entry.source {
            Source::Raw(digest) => (digest.clone(), entry.size),
        };
        self.entries.values().map(blob).collect()
    }

    /// Blobs whose bytes are known without fetching: carried by the manifest (and verified), or generated.
    pub const fn inline(&self) -> &BTreeMap<Digest, Vec<u8>> {
        &self.inline
    }

    /// Bytes of the blobs, each counted once.
    pub fn total_bytes(&self) -> u64 {
        self.blobs().values().fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// Bytes of the files, as `du --apparent-size` would count copies.
    pub fn apparent_bytes(&self) -> u64 {
        self.entries.values().fold(0, |sum, entry| sum.saturating_add(entry.size))
    }
}

/// Collects the files of a layout and refuses those that cannot stand together.
#[derive(Clone, Debug, Default)]
pub struct LayoutBuilder {
    files: BTreeMap<RelativePath, (Entry, String)>,
    /// Size by the first mention of each blob, and how many files have it.
    blobs: BTreeMap<Digest, (u64, usize)>,
    inline: BTreeMap<Digest, Vec<u8>>,
}

impl LayoutBuilder {
    /// Adds a file whose bytes are a blob; `origin` names the layer in error messages.
    ///
    /// The same path with the same blob again changes nothing, except that one mention as executable suffices.
    pub fn raw(
        &mut self,
        path: RelativePath,
        digest: Digest,
        size: u64,
        executable: bool,
        origin: &str,
    ) -> Result<(), LayoutError> {
        let (known_size, copies) = self.blobs.entry(digest.clone()).or_insert((size, 0));
        if *known_size != size {
            return Err(LayoutError::SizesDiffer { digest, first: *known_size, second: size });
        }
        let mode = if executable { EXECUTABLE_MODE } else { FILE_MODE };
        let entry = Entry { source: Source::Raw(digest), size, mode };
        match self.files.entry(path) {
            Slot::Vacant(free) => {
                *copies += 1;
                free.insert((entry, origin.to_owned()));
                Ok(())
            }
            Slot::Occupied(mut taken) if taken.get().0.source == entry.source => {
                taken.get_mut().0.mode |= mode;
                Ok(())
            }
            Slot::Occupied(taken) => Err(LayoutError::SamePath {
                path: taken.key().clone(),
                first: taken.get().1.clone(),
                second: origin.to_owned(),
            }),
        }
    }

    /// Adds a file whose bytes are generated here.
    pub fn generated(&mut self, path: RelativePath, bytes: Vec<u8>, origin: &str) -> Result<(), LayoutError> {
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        self.raw(path, digest.clone(), bytes.len() as u64, false, origin)?;
        self.inline(digest, bytes);
        Ok(())
    }

    /// Remembers the bytes of a blob; the caller has verified them.
    pub(crate) fn inline(&mut self, digest: Digest, bytes: Vec<u8>) {
        self.inline.insert(digest, bytes);
    }

    /// Whether no file was added.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The layout, once all files are known.
    pub fn finish(self) -> Result<Layout, LayoutError> {
        let mut previous: Option<(&RelativePath, &str)> = None;
        for (path, (_, origin)) in &self.files {
            // What lies beneath a path follows it directly in the order of paths.
            if let Some((file, file_origin)) = previous.filter(|(file, _)| path.is_beneath(file)) {
                return Err(LayoutError::FileIsDirectory {
                    file: file.clone(),
                    first: file_origin.to_owned(),
                    inside: path.clone(),
                    second: origin.clone(),
                });
            }
            previous = Some((path, origin));
        }
        let most = self.blobs.iter().max_by_key(|(_, (_, copies))| *copies);
        if let Some((digest, (_, copies))) = most.filter(|(_, (_, copies))| *copies > MAX_COPIES_OF_A_DIGEST)
        {
            return Err(LayoutError::ManyCopies { digest: digest.clone(), copies: *copies });
        }
        let Self { files, blobs, mut inline } = self;
        inline.retain(|digest, _| blobs.contains_key(digest));
        Ok(Layout { entries: files.into_iter().map(|(path, (entry, _))| (path, entry)).collect(), inline })
    }
}
