//! Collecting the files of a layout.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, HashSet};

use super::{
    Decoded, EXECUTABLE_MODE, Entry, FILE_MODE, FilesystemLayer, Layout, LayoutError, MAX_COPIES_OF_A_DIGEST,
    MemberFilter, Source, TarLayer,
};
use crate::digest::{Algorithm, Digest};
use crate::relative_path::RelativePath;

/// Collects the files of a layout and refuses those that cannot stand together.
#[derive(Clone, Debug, Default)]
pub struct LayoutBuilder {
    files: BTreeMap<RelativePath, (Entry, String)>,
    tars: Vec<TarLayer>,
    /// The same without their origins.
    known_tars: HashSet<TarLayer>,
    filesystems: Vec<FilesystemLayer>,
    filter: MemberFilter,
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
        self.file(path, Source::Raw(digest), size, executable, origin)
    }

    /// Adds a file whose bytes a blob of `size` bytes decodes to; as [`LayoutBuilder::raw`] otherwise.
    pub fn decoded(
        &mut self,
        path: RelativePath,
        decoded: Decoded,
        size: u64,
        executable: bool,
        origin: &str,
    ) -> Result<(), LayoutError> {
        self.file(path, Source::Decoded(decoded), size, executable, origin)
    }

    fn file(
        &mut self,
        path: RelativePath,
        source: Source,
        size: u64,
        executable: bool,
        origin: &str,
    ) -> Result<(), LayoutError> {
        let copies = self.blob(source.blob(), size)?;
        let mode = if executable { EXECUTABLE_MODE } else { FILE_MODE };
        let entry = Entry { source, size, mode };
        match self.files.entry(path) {
            Slot::Vacant(free) => {
                self.blobs.insert(entry.source.blob().clone(), (size, copies + 1));
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

    /// Adds a tar on top of those before it. Where layers do not replace each other, the same one again changes
    /// nothing.
    pub fn tar(&mut self, tar: TarLayer) -> Result<(), LayoutError> {
        self.blob(&tar.digest, tar.size)?;
        let meaning = TarLayer { origin: String::new(), ..tar.clone() };
        if self.known_tars.insert(meaning) || tar.whiteouts {
            self.tars.push(tar);
        }
        Ok(())
    }

    /// Adds a filesystem image on top of those before it.
    pub fn filesystem(&mut self, layer: FilesystemLayer) -> Result<(), LayoutError> {
        self.blob(&layer.digest, layer.size)?;
        self.filesystems.push(layer);
        Ok(())
    }

    /// Adds a file whose bytes are generated here.
    pub fn generated(&mut self, path: RelativePath, bytes: Vec<u8>, origin: &str) -> Result<(), LayoutError> {
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        self.raw(path, digest.clone(), bytes.len() as u64, false, origin)?;
        self.inline(digest, bytes);
        Ok(())
    }

    /// Sets which members of the tars are shown.
    pub(crate) fn filter(&mut self, filter: MemberFilter) {
        self.filter = filter;
    }

    /// Remembers the bytes of a blob; the caller has verified them.
    pub(crate) fn inline(&mut self, digest: Digest, bytes: Vec<u8>) {
        self.inline.insert(digest, bytes);
    }

    /// Notes a blob's size. Returns how many files have it so far.
    fn blob(&mut self, digest: &Digest, size: u64) -> Result<usize, LayoutError> {
        let (known, copies) = *self.blobs.entry(digest.clone()).or_insert((size, 0));
        if known == size {
            return Ok(copies);
        }
        Err(LayoutError::SizesDiffer { digest: digest.clone(), first: known, second: size })
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.tars.is_empty() && self.filesystems.is_empty()
    }

    /// The layout, once all files are known.
    pub fn finish(self) -> Result<Layout, LayoutError> {
        self.check_directories()?;
        let most = self.blobs.iter().max_by_key(|(_, (_, copies))| *copies);
        if let Some((digest, (_, copies))) = most.filter(|(_, (_, copies))| *copies > MAX_COPIES_OF_A_DIGEST)
        {
            return Err(LayoutError::ManyCopies { digest: digest.clone(), copies: *copies });
        }
        if let ([tar, ..], [filesystem, ..]) = (&self.tars[..], &self.filesystems[..]) {
            let (tar, filesystem) = (tar.origin.clone(), filesystem.origin.clone());
            return Err(LayoutError::MixedLayers { tar, filesystem });
        }
        let Self { files, tars, filesystems, filter, blobs, mut inline, known_tars: _ } = self;
        inline.retain(|digest, _| blobs.contains_key(digest));
        let entries = files.into_iter().map(|(path, (entry, _))| (path, entry)).collect();
        Ok(Layout { entries, tars, filesystems, filter, inline })
    }

    fn check_directories(&self) -> Result<(), LayoutError> {
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
        Ok(())
    }
}
