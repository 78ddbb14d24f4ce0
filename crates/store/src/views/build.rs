//! Building a view under a staging name, and publishing it by a rename.

use std::collections::BTreeSet;
use std::sync::Arc;

use stowage_artifact::digest::Digest;

use stowage_erofs::{ImageError, MergeError, TarError};

use super::contents::Contents;
use super::{Document, Summary, View, ViewSpec, image, tree};
use crate::decode::DecodeError;
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
    /// The layout has a kind of layer that this version cannot show.
    #[error(
        "this version of the store cannot show {0} of the volume; use `layout: oci`, or upgrade the node"
    )]
    Unsupported(String),
    /// A compressed layer.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A layer that is said to be a tar.
    #[error("{layer} cannot be shown as files: {source}; use `tar: file`, or push the layer again")]
    Tar {
        /// The layer.
        layer: String,
        /// What is wrong with it.
        source: TarError,
    },
    /// Members of tars that do not go together, or may not be shown.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The image of the tars.
    #[error(transparent)]
    Image(ImageError),
    /// Two layers have a file at one path.
    #[error("`{path}` comes from {first} and from {second}: exclude one, or use `tar: file`")]
    Collision {
        /// The path.
        path: String,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// The artifact says something of a layer's plain bytes that is not true.
    #[error("{layer} is said to decode to {claim}, and decodes to {found}; push the artifact again")]
    Claim {
        /// The layer.
        layer: String,
        /// What the config or an annotation says.
        claim: String,
        /// What is true.
        found: String,
    },
    /// Nothing of the tars is wanted.
    #[error(
        "`include`, `exclude` and `subPath` leave no file of the artifact; check them against `stowage inspect`"
    )]
    NothingLeft,
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
        let blobs = spec.layout.blobs();
        // The blobs as they are fetched until it is known what they come to.
        let fetched = Held::new(inner, blobs.keys().cloned());
        for (digest, bytes) in spec.layout.inline() {
            if blobs.contains_key(digest) && self.blob_size(digest).is_none() {
                self.put_blob(digest, bytes)?;
            }
        }
        let contents = self.contents(spec)?;
        let held = Held::new(inner, contents.blobs().map(|(digest, _)| digest.clone()));
        drop(fetched);
        inner.check_blobs(contents.blobs())?;

        let staging = inner.io.temporary("view");
        let views = &inner.dirs.views;
        views.make_dir("view.mkdir", &staging, 0o700)?;
        let outcome = views
            .open_dir(&staging)
            .map_err(ViewError::from)
            .and_then(|dir| inner.fill(spec, hash, contents, &dir))
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
    fn check_blobs<'a>(
        &self,
        blobs: impl Iterator<Item = (&'a Digest, Option<u64>)>,
    ) -> Result<(), ViewError> {
        let mut missing = BTreeSet::new();
        for (digest, size) in blobs {
            match (self.blob_stat(digest, Sibling::BASE)?, size) {
                (None, _) => {
                    missing.insert(digest.clone());
                }
                (Some(found), Some(declared)) if found.len != declared => {
                    return Err(ViewError::WrongSize { digest: digest.clone(), declared, found: found.len });
                }
                (Some(_), _) => {}
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(ViewError::MissingBlobs(missing.into_iter().collect())) }
    }

    /// Makes the tree and `view.json` in the staging directory, down to the disk.
    fn fill(
        &self,
        spec: &ViewSpec,
        hash: &str,
        contents: Contents,
        dir: &Dir,
    ) -> Result<Document, ViewError> {
        let written = image::write(&contents, spec.layout.filter(), dir)?;
        let filesystems = contents.filesystems;
        let files = contents.files;
        let directories = tree::build(self, &files, dir)?;
        let sizes = files.iter().map(|file| file.size).chain(filesystems.iter().map(|layer| layer.size));
        let file_bytes = sizes.fold(0, u64::saturating_add);
        let (image_bytes, image_entries) =
            written.as_ref().map_or((0, 0), |written| (written.bytes, written.entries));
        let document = Document {
            format: FORMAT,
            id: hash.to_owned(),
            source: spec.source.clone(),
            attributes: spec.attributes.clone(),
            bytes: file_bytes.saturating_add(image_bytes),
            inodes: (files.len() + directories) as u64 + image_entries,
            files,
            image: written.map(|written| written.document),
            filesystems,
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
                self.check_blobs(document.blobs())?;
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
