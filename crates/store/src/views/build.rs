//! Building a view under a staging name, and publishing it by a rename.

use std::collections::BTreeSet;
use std::sync::Arc;

use stowage_artifact::digest::Digest;

use super::{Document, File, Summary, View, ViewSpec, digest_of, tree};
use crate::error::StoreError;
use crate::io::{Dir, IoError};
use crate::names::{self, Sibling, VIEW_FILE};
use crate::store::{Inner, Store};

const FORMAT: u32 = 1;

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Blobs have to be fetched first.
    #[error("{} blobs of the volume are not in the store, the first is {}; fetch them first", .0.len(), .0.first().map_or("none", Digest::as_str))]
    MissingBlobs(Vec<Digest>),
    /// The layout has a kind of file that this version cannot show.
    #[error("this version of the store cannot show the file `{0}` of the volume; upgrade the node")]
    UnknownSource(String),
    /// A blob has another size than the layout says.
    #[error("blob {digest} has {found} bytes, and the manifest says {declared}")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// What the manifest says.
        declared: u64,
        /// What is in the store.
        found: u64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<IoError> for ViewError {
    fn from(error: IoError) -> Self {
        Self::Store(error.into())
    }
}

/// Keeps blobs from collection while a view of them is built.
struct Held<'a> {
    store: &'a Inner,
    blobs: Vec<Arc<Digest>>,
    quarantines: u64,
}

impl<'a> Held<'a> {
    fn new(store: &'a Inner, blobs: impl IntoIterator<Item = Digest>) -> Self {
        let mut refs = store.refs();
        let blobs = blobs.into_iter().map(|digest| refs.held.add(&digest)).collect();
        let quarantines = refs.quarantines;
        drop(refs);
        Self { store, blobs, quarantines }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut refs = self.store.refs();
        for digest in &self.blobs {
            refs.held.remove(digest);
        }
    }
}

impl Store {
    /// The view of a spec: the published one when it is healthy, else a new one. Counts as a use of it.
    ///
    /// Blobs that the layout carries inline are stored on the way; all others must be in the store, and a record
    /// must name them, or collection may be faster.
    pub fn build_view(&self, spec: &ViewSpec) -> Result<View, ViewError> {
        let hash = spec.hash();
        self.inner().view_locks.with(&hash, || {
            if let Some(view) = self.inner().healthy_view(&hash)? {
                match self.touch_view(&view.id) {
                    // Collected at this moment: build it again.
                    Err(StoreError::NoSuchView(_)) => {}
                    touched => {
                        touched?;
                        return Ok(view);
                    }
                }
            }
            self.build(spec, &hash)
        })
    }

    fn build(&self, spec: &ViewSpec, hash: &str) -> Result<View, ViewError> {
        let inner = self.inner();
        let files = files(spec)?;
        let wanted: BTreeSet<&Digest> = files.iter().map(|file| &file.digest).collect();
        let held = Held::new(inner, wanted.iter().copied().cloned());
        for (digest, bytes) in spec.layout.inline() {
            if wanted.contains(digest) && self.blob_size(digest).is_none() {
                self.put_blob(digest, bytes)?;
            }
        }
        inner.check_blobs(&files)?;

        let staging = inner.io.temporary("view");
        let views = &inner.dirs.views;
        views.make_dir("view.mkdir", &staging, 0o700)?;
        let outcome = views
            .open_dir(&staging)
            .map_err(ViewError::from)
            .and_then(|dir| inner.fill(spec, hash, files, &dir))
            .and_then(|document| inner.publish_view(&held, hash, &staging, &document));
        outcome.inspect_err(|_| {
            if let Err(error) = views.remove_all("view.abandon", &staging) {
                tracing::debug!(%error, "an unfinished view stays until the next start");
            }
        })
    }
}

impl Inner {
    /// Every blob is there, with the size that the manifest says.
    fn check_blobs(&self, files: &[File]) -> Result<(), ViewError> {
        let mut missing = BTreeSet::new();
        for file in files {
            match self.blob_stat(&file.digest, Sibling::BASE)? {
                None => {
                    missing.insert(file.digest.clone());
                }
                Some(found) if found.len != file.size => {
                    return Err(ViewError::WrongSize {
                        digest: file.digest.clone(),
                        declared: file.size,
                        found: found.len,
                    });
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(ViewError::MissingBlobs(missing.into_iter().collect())) }
    }

    /// Makes the tree and `view.json` in the staging directory, down to the disk.
    fn fill(&self, spec: &ViewSpec, hash: &str, files: Vec<File>, dir: &Dir) -> Result<Document, ViewError> {
        let directories = tree::build(self, &files, dir)?;
        let document = Document {
            format: FORMAT,
            id: hash.to_owned(),
            source: spec.source.clone(),
            attributes: spec.attributes.clone(),
            bytes: spec.layout.apparent_bytes(),
            inodes: (files.len() + directories) as u64,
            files,
        };
        let json = serde_json::to_vec(&document).map_err(|error| StoreError::Unreadable {
            path: self.io.full(&dir.path().join(VIEW_FILE)),
            reason: error.to_string(),
        })?;
        dir.replace("view.json", VIEW_FILE, &json, true)?;
        let now = self.clock().now();
        dir.set_modified("view.touch", VIEW_FILE, now)?;
        Ok(document)
    }

    fn publish_view(
        &self,
        held: &Held<'_>,
        hash: &str,
        staging: &str,
        document: &Document,
    ) -> Result<View, ViewError> {
        let generation =
            self.generations(hash).first().and_then(|id| names::parse_view(id).map(|(_, n)| n + 1));
        let id = format!("{hash}.{}", generation.unwrap_or(0));
        let summary = Arc::new(Summary::of(document));
        let views = &self.dirs.views;
        {
            let mut refs = self.refs();
            let mut seen = held.quarantines;
            while refs.quarantines != seen {
                // A blob was found bad meanwhile, perhaps one that the tree has already.
                seen = refs.quarantines;
                drop(refs);
                self.check_blobs(&document.files)?;
                refs = self.refs();
            }
            views.rename("view.rename", staging, views, &id)?;
            refs.add_view(&id, Some(Arc::clone(&summary)));
        }
        if let Err(error) = views.sync("view.dirsync") {
            self.trash_view(&id)?;
            return Err(error.into());
        }
        Ok(self.to_view(&id, &summary))
    }
}

/// The files of a layout as `view.json` lists them.
fn files(spec: &ViewSpec) -> Result<Vec<File>, ViewError> {
    let file = |(path, entry): (&stowage_artifact::RelativePath, &stowage_artifact::Entry)| {
        let digest = digest_of(&entry.source).ok_or_else(|| ViewError::UnknownSource(path.to_string()))?;
        Ok(File { path: path.clone(), digest: digest.clone(), size: entry.size, mode: entry.mode })
    };
    spec.layout.entries().iter().map(file).collect()
}
