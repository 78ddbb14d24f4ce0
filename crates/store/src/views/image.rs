//! The image of a view's tars: metadata only, which points into the blobs.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use stowage_artifact::digest::{Algorithm, Digest, Hasher};
use stowage_artifact::{MemberFilter, RelativePath};
use stowage_erofs::{EntryKind, Layer, MergeError, Rules, Selection, Tree, merge, write_image};

use super::contents::Contents;
use super::{File, ViewError};
use crate::io::{Dir, IoFile};
use crate::names::IMAGE;

/// What `view.json` says of `image.erofs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageDocument {
    /// Digest of the image itself, for fsck.
    pub(crate) digest: Digest,
    /// The tars, in the order in which the mount wants them.
    pub(crate) devices: Vec<Digest>,
    /// Members that an image may not hold, and that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) skipped: Vec<String>,
}

/// At most so many members that were left out are listed.
const MAX_SKIPPED: usize = 1000;

/// An image that was written, and what it shows.
pub(super) struct Written {
    pub(super) document: ImageDocument,
    pub(super) bytes: u64,
    /// Files, links and directories, without the root.
    pub(super) entries: u64,
}

/// Writes the image of the tars; none where there is nothing of them to show.
pub(super) fn write(
    contents: &Contents,
    filter: &MemberFilter,
    dir: &Dir,
) -> Result<Option<Written>, ViewError> {
    if contents.tars.is_empty() {
        return Ok(None);
    }
    let layers: Vec<Layer<'_>> = contents
        .tars
        .iter()
        .map(|tar| Layer { name: &tar.name, blob: tar.digest.hex(), index: &tar.index })
        .collect();
    let wanted = |path: &str| filter.matches(path);
    let keep: Option<&dyn Fn(&str) -> bool> = if filter.is_everything() { None } else { Some(&wanted) };
    let selection = Selection { sub_path: filter.sub_path(), keep };
    let tree = match merge(&layers, contents.rules, selection) {
        // What is there lies among the files that are blobs.
        Err(MergeError::NoSubPath { .. }) if !contents.files.is_empty() => return Ok(None),
        merged => merged?,
    };
    if tree.is_empty() && !filter.is_everything() {
        if contents.files.is_empty() {
            return Err(ViewError::NothingLeft);
        }
        return Ok(None);
    }
    if contents.rules == Rules::Files {
        check_collisions(&tree, &contents.files, contents)?;
    }
    let mut out = Out {
        file: dir.create("image.create", IMAGE)?,
        at: 0,
        hasher: Hasher::new(Algorithm::Sha256),
        failed: None,
    };
    let outcome = write_image(&tree, &mut out);
    if let Some(error) = out.failed.take() {
        return Err(error.into());
    }
    outcome.map_err(ViewError::Image)?;
    out.file.chmod("image.chmod", 0o444)?;
    out.file.sync("image.sync")?;
    let devices = tree.devices().iter().filter_map(|device| {
        contents.tars.iter().find(|tar| tar.digest.hex() == device.blob).map(|tar| tar.digest.clone())
    });
    if let Some(first) = tree.skipped().first() {
        tracing::info!(
            members = tree.skipped().len(),
            first = %String::from_utf8_lossy(&first.path),
            "devices and fifos of the artifact are left out of the view"
        );
    }
    let skipped = tree.skipped().iter().take(MAX_SKIPPED);
    let document = ImageDocument {
        digest: out.hasher.finish(),
        devices: devices.collect(),
        skipped: skipped.map(|member| String::from_utf8_lossy(&member.path).into_owned()).collect(),
    };
    Ok(Some(Written { document, bytes: tree.bytes(), entries: tree.len() as u64 - 1 }))
}

/// A blob of its own and a member of a tar cannot have one path.
fn check_collisions(tree: &Tree<'_>, files: &[File], contents: &Contents) -> Result<(), ViewError> {
    let tars = || contents.tars.iter().map(|tar| tar.name.as_str()).collect::<Vec<_>>().join(", ");
    for file in files {
        let is_directory = |path: &RelativePath| {
            tree.lookup(path).map(|entry| matches!(entry.kind, EntryKind::Directory { .. }))
        };
        let above = file.path.ancestors().filter_map(|above| RelativePath::parse(above).ok());
        let obstacle = above.into_iter().find(|above| is_directory(above) == Some(false));
        let found = is_directory(&file.path).map(|_| file.path.clone()).or(obstacle);
        if let Some(path) = found {
            let (first, second) = (format!("the file `{}`", file.path), tars());
            return Err(ViewError::Collision { path: path.to_string(), first, second });
        }
    }
    Ok(())
}

/// The image on its way to the disk.
struct Out {
    file: IoFile,
    at: u64,
    hasher: Hasher,
    failed: Option<crate::io::IoError>,
}

impl Write for &mut Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.write_at("image.write", self.at, bytes) {
            self.failed = Some(error);
            return Err(io::Error::other("the image cannot be written"));
        }
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
