//! What a layout means, in a form whose JSON is the same for the same volume.

use serde::Serialize;

use super::{Entry, FilesystemLayer, Layout, SpecialPolicy, SymlinkPolicy, TarLayer};
use crate::codec::Codec;
use crate::relative_path::RelativePath;

/// Everything that decides what a volume of this layout shows, apart from [`Layout::filter`].
///
/// Sizes, claimed digests of decoded content and names for error messages are no part of it: the digests of the blobs
/// decide. Tars and filesystems stand in the order of their layers, files in the order of their paths.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CanonicalLayout<'a> {
    /// Path, kind, digest of the blob, mode.
    entries: Vec<(&'a str, &'static str, &'a str, u32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tars: Vec<CanonicalTar<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    filesystems: Vec<CanonicalFilesystem<'a>>,
}

#[derive(Debug, Serialize)]
struct CanonicalTar<'a> {
    digest: &'a str,
    codec: Option<Codec>,
    at: Option<&'a RelativePath>,
    within: Option<&'a RelativePath>,
    fallback: Option<&'a RelativePath>,
    whiteouts: bool,
    symlinks: SymlinkPolicy,
    specials: SpecialPolicy,
}

#[derive(Debug, Serialize)]
struct CanonicalFilesystem<'a> {
    digest: &'a str,
    codec: Option<Codec>,
    kind: &'static str,
}

impl Layout {
    /// The layout for the hash that a view is called by.
    pub fn canonical(&self) -> CanonicalLayout<'_> {
        CanonicalLayout {
            entries: self.entries().iter().map(|(path, entry)| canonical_entry(path, entry)).collect(),
            tars: self.tars().iter().map(canonical_tar).collect(),
            filesystems: self.filesystems().iter().map(canonical_filesystem).collect(),
        }
    }
}

fn canonical_entry<'a>(path: &'a RelativePath, entry: &'a Entry) -> (&'a str, &'static str, &'a str, u32) {
    (path.as_str(), entry.source.kind(), entry.source.blob().as_str(), entry.mode)
}

fn canonical_tar(tar: &TarLayer) -> CanonicalTar<'_> {
    CanonicalTar {
        digest: tar.digest.as_str(),
        codec: tar.codec,
        at: tar.at.as_ref(),
        within: tar.within.as_ref(),
        fallback: tar.fallback.as_ref(),
        whiteouts: tar.whiteouts,
        symlinks: tar.symlinks,
        specials: tar.specials,
    }
}

fn canonical_filesystem(layer: &FilesystemLayer) -> CanonicalFilesystem<'_> {
    CanonicalFilesystem { digest: layer.digest.as_str(), codec: layer.codec, kind: layer.kind.as_str() }
}
