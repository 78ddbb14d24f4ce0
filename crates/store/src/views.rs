//! Views: layouts made real as trees of hard links, published under an id that follows from their content.

mod build;
mod contents;
mod id;
mod image;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stowage_artifact::digest::Digest;
use stowage_artifact::{FilesystemKind, Layout, RelativePath, VolumeAttributes};

use crate::error::StoreError;
use crate::io::IoError;
use crate::names::{self, CONDEMNED, IMAGE, Sibling, TREE, VIEW_FILE};
use crate::refs::Health;
use crate::store::{Inner, Store};

pub use build::ViewError;
pub(crate) use image::ImageDocument;

/// A published view, ready to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// `<sha256>.<n>`.
    pub id: String,
    /// The view's directory.
    pub dir: PathBuf,
    /// The tree of the files that are blobs of their own: directories 0555, files 0444 or 0555. It is the volume where there is no
    /// image.
    pub tree: PathBuf,
    /// The image of what comes out of tars.
    pub image: Option<ViewImage>,
    /// Images that came from a registry and that the kernel mounts itself, the lowest first; [`Self::tree`] lies over them where
    /// `has_tree` says so.
    pub filesystems: Vec<ViewFilesystem>,
    /// Whether there are files in [`Self::tree`].
    pub has_tree: bool,
    /// Bytes of the files, each name counted.
    pub bytes: u64,
    /// Files and directories, the root among them.
    pub inodes: u64,
}

/// What the kernel mounts of a view that shows members of tars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewImage {
    /// The EROFS image, which holds no data of files.
    pub path: PathBuf,
    /// The tars that it points into, in the order in which the mount wants them as devices.
    pub devices: Vec<PathBuf>,
}

/// A filesystem image that is a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewFilesystem {
    /// The blob.
    pub path: PathBuf,
    /// What it is an image of.
    pub kind: FilesystemKind,
}

/// The attributes that shape a view besides its layout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewKey {
    /// Globs of what is taken.
    pub include: Vec<String>,
    /// Globs of what is left out.
    pub exclude: Vec<String>,
    /// The directory that is the root of the volume.
    pub sub_path: Option<String>,
    /// What becomes of tar layers.
    pub tar_mode: String,
}

/// What a view is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewSpec {
    /// The files.
    pub layout: Layout,
    /// The attributes.
    pub attributes: ViewKey,
    /// The manifest that the layout comes from; kept as long as the view, no part of its id.
    pub source: Option<Digest>,
}

impl ViewSpec {
    /// The view of a layout under a volume's attributes.
    pub fn new(layout: Layout, attributes: &VolumeAttributes) -> Self {
        let canonical = attributes.canonical();
        let lines = |globs: &[String]| globs.to_vec();
        let attributes = ViewKey {
            include: lines(&attributes.include),
            exclude: lines(&attributes.exclude),
            sub_path: attributes.sub_path.as_ref().map(|path| path.as_str().to_owned()),
            tar_mode: canonical.get("tar").cloned().unwrap_or_default(),
        };
        Self { layout, attributes, source: None }
    }

    /// The same with the manifest that it comes from.
    #[must_use]
    pub fn with_source(mut self, manifest: Digest) -> Self {
        self.source = Some(manifest);
        self
    }

    /// The hash that the view's id starts with.
    pub fn hash(&self) -> String {
        id::hash(self)
    }
}

/// One file of `view.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct File {
    pub(crate) path: RelativePath,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) mode: u32,
}

/// The content of `view.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    format: u32,
    id: String,
    #[serde(default)]
    source: Option<Digest>,
    attributes: ViewKey,
    bytes: u64,
    inodes: u64,
    pub(crate) files: Vec<File>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<ImageDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    filesystems: Vec<Filesystem>,
}

/// A filesystem image of `view.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filesystem {
    digest: Digest,
    size: u64,
    kind: FilesystemKind,
}

impl Document {
    /// The blobs that the view shows, with their sizes where `view.json` has them.
    fn blobs(&self) -> impl Iterator<Item = (&Digest, Option<u64>)> {
        let devices = self.image.iter().flat_map(|image| &image.devices);
        let files = self.files.iter().map(|file| (&file.digest, Some(file.size)));
        let filesystems = self.filesystems.iter().map(|layer| (&layer.digest, Some(layer.size)));
        files.chain(devices.map(|digest| (digest, None))).chain(filesystems)
    }
}

/// What is remembered of a view.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    bytes: u64,
    inodes: u64,
    blobs: std::collections::BTreeSet<Digest>,
    /// The devices of the image.
    image: Option<Vec<Digest>>,
    filesystems: Vec<Filesystem>,
    has_tree: bool,
}

impl Summary {
    fn of(document: &Document) -> Self {
        let shown = document.blobs().map(|(digest, _)| digest.clone());
        Self {
            bytes: document.bytes,
            inodes: document.inodes,
            blobs: shown.chain(document.source.clone()).collect(),
            image: document.image.as_ref().map(|image| image.devices.clone()),
            filesystems: document.filesystems.clone(),
            has_tree: !document.files.is_empty(),
        }
    }

    /// The blobs that the view keeps: of its files, and its manifest.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.iter()
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest)
    }
}

impl Store {
    /// The view of this id.
    pub fn view(&self, id: &str) -> Result<Option<View>, StoreError> {
        match self.inner().view_summary(id)? {
            Some(summary) => Ok(Some(self.inner().to_view(id, &summary))),
            None => Ok(None),
        }
    }

    /// The published, healthy view of a spec.
    pub fn find_view(&self, spec: &ViewSpec) -> Result<Option<View>, StoreError> {
        self.inner().healthy_view(&spec.hash())
    }

    /// The published, healthy view of a [`ViewSpec::hash`].
    pub fn find_view_by_hash(&self, hash: &str) -> Result<Option<View>, StoreError> {
        self.inner().healthy_view(hash)
    }

    /// Notes that the view was used now.
    pub fn touch_view(&self, id: &str) -> Result<(), StoreError> {
        self.inner().touch_view(id)
    }

    /// Why the view may get no new volumes; `None` for a healthy one.
    pub fn condemned(&self, id: &str) -> Result<Option<String>, StoreError> {
        Ok(self.inner().condemned(id)?)
    }

    /// The ids of every published view.
    pub fn views(&self) -> Vec<String> {
        self.inner().refs().view_ids().cloned().collect()
    }
}

impl Inner {
    fn to_view(&self, id: &str, summary: &Summary) -> View {
        let dir = self.io.full(&self.dirs.views.path().join(id));
        let blobs = self.io.full(self.dirs.blobs.path());
        let blob = |digest: &Digest| blobs.join(crate::blobs::blob_path(digest, Sibling::BASE));
        let image = summary
            .image
            .as_ref()
            .map(|devices| ViewImage { path: dir.join(IMAGE), devices: devices.iter().map(blob).collect() });
        let filesystem = |layer: &Filesystem| ViewFilesystem { path: blob(&layer.digest), kind: layer.kind };
        let filesystems = summary.filesystems.iter().map(filesystem).collect();
        let (bytes, inodes) = (summary.bytes, summary.inodes);
        let (tree, has_tree) = (dir.join(TREE), summary.has_tree);
        View { id: id.to_owned(), dir, tree, image, filesystems, has_tree, bytes, inodes }
    }

    pub(crate) fn touch_view(&self, id: &str) -> Result<(), StoreError> {
        let now = self.clock().now();
        match self.dirs.views.set_modified("view.touch", &format!("{id}/{VIEW_FILE}"), now) {
            Err(error) if error.is_not_found() => Err(StoreError::NoSuchView(id.to_owned())),
            outcome => Ok(outcome?),
        }
    }

    /// When the view was last used.
    pub(crate) fn view_last_used(&self, id: &str) -> Option<u64> {
        let found = self.dirs.views.stat(&format!("{id}/{VIEW_FILE}")).ok().flatten();
        found.map(|found| found.modified)
    }

    /// Reads `view.json`.
    pub(crate) fn read_view(&self, id: &str) -> Result<Document, StoreError> {
        let name = format!("{id}/{VIEW_FILE}");
        let bytes = match self.dirs.views.read("view.read", &name) {
            Err(error) if error.is_not_found() => return Err(StoreError::NoSuchView(id.to_owned())),
            read => read?,
        };
        serde_json::from_slice(&bytes).map_err(|error| StoreError::Unreadable {
            path: self.io.full(&self.dirs.views.path().join(name)),
            reason: error.to_string(),
        })
    }

    /// What is known of a view, read once; `None` for one that is not there.
    pub(crate) fn view_summary(&self, id: &str) -> Result<Option<Arc<Summary>>, StoreError> {
        match self.refs().view(id) {
            None => return Ok(None),
            Some(slot) => {
                if let Some(summary) = &slot.summary {
                    return Ok(Some(Arc::clone(summary)));
                }
            }
        }
        let summary = match self.read_view(id) {
            Err(StoreError::NoSuchView(_)) => return Ok(None),
            read => Arc::new(Summary::of(&read?)),
        };
        let mut refs = self.refs();
        // A collection may have removed it meanwhile.
        if refs.view(id).is_none() {
            return Ok(None);
        }
        refs.add_view(id, Some(Arc::clone(&summary)));
        Ok(Some(summary))
    }

    /// Reads every `view.json` that is not known yet, so that the blobs of every view are. A view that cannot be
    /// read is condemned; what is mounted of it stays.
    pub(crate) fn load_views(&self) {
        let unknown: Vec<String> = {
            let refs = self.refs();
            refs.views().filter(|(_, slot)| slot.summary.is_none()).map(|(id, _)| id.clone()).collect()
        };
        for id in unknown {
            if let Err(error) = self.view_summary(&id) {
                self.condemn_unreadable(&id, &error);
            }
        }
    }

    /// The newest view of a hash that is not condemned and can be read.
    fn healthy_view(&self, hash: &str) -> Result<Option<View>, StoreError> {
        for id in self.generations(hash) {
            if self.condemned(&id)?.is_some() {
                continue;
            }
            match self.view_summary(&id) {
                Ok(Some(summary)) => return Ok(Some(self.to_view(&id, &summary))),
                Ok(None) => {}
                Err(error) => self.condemn_unreadable(&id, &error),
            }
        }
        Ok(None)
    }

    /// The ids of a hash, the newest first.
    fn generations(&self, hash: &str) -> Vec<String> {
        let refs = self.refs();
        let mut numbers: Vec<u32> =
            refs.view_ids_of(hash).filter_map(|id| names::parse_view(id).map(|(_, number)| number)).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.into_iter().map(|number| format!("{hash}.{number}")).collect()
    }

    pub(crate) fn condemned(&self, id: &str) -> Result<Option<String>, IoError> {
        match self.refs().view(id) {
            None => return Ok(None),
            Some(slot) => match &slot.health {
                Health::Good => return Ok(None),
                Health::Condemned(reason) => return Ok(Some(reason.clone())),
                Health::Unknown => {}
            },
        }
        let found = match self.dirs.views.read("view.read", &format!("{id}/{CONDEMNED}")) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        if let Some(slot) = self.refs().view_mut(id)
            && slot.health == Health::Unknown
        {
            slot.health = found.clone().map_or(Health::Good, Health::Condemned);
        }
        Ok(found)
    }

    /// From here on the view gets no new volumes.
    pub(crate) fn condemn(&self, id: &str, reason: &str) -> Result<(), IoError> {
        match self.refs().view_mut(id) {
            None => return Ok(()),
            // In memory first: it holds even where the disk refuses the note.
            Some(slot) => slot.health = Health::Condemned(reason.to_owned()),
        }
        tracing::warn!(view = id, reason, "view is condemned");
        match self.dirs.views.open_dir(id) {
            Err(error) if error.is_not_found() => Ok(()),
            dir => dir?.replace("view.condemn", CONDEMNED, reason.as_bytes(), true),
        }
    }

    /// A view that cannot be read must not keep others from being built or collected.
    fn condemn_unreadable(&self, id: &str, error: &StoreError) {
        if let Err(error) = self.condemn(id, &error.to_string()) {
            tracing::warn!(view = id, %error, "a condemned view cannot be marked on the disk");
        }
    }

    pub(crate) fn condemn_views_of(&self, digest: &Digest, reason: &str) -> Result<(), StoreError> {
        self.load_views();
        let shown: Vec<String> = {
            let refs = self.refs();
            refs.views()
                .filter(|(_, slot)| slot.summary.as_ref().is_some_and(|summary| summary.has(digest)))
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in shown {
            self.condemn(&id, &format!("blob {digest} is bad: {reason}"))?;
        }
        Ok(())
    }
}
