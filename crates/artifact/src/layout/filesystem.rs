//! Layers that are filesystem images for the kernel.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::digest::Digest;

/// Which filesystem an image is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesystemKind {
    /// EROFS.
    Erofs,
    /// `SquashFS`.
    Squashfs,
}

impl FilesystemKind {
    /// The kernel's name of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
        }
    }
}

impl fmt::Display for FilesystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A layer that the kernel mounts itself; there is one only where the administrator allows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesystemLayer {
    /// The blob as the registry serves it.
    pub digest: Digest,
    /// Its size in bytes, as it is served.
    pub size: u64,
    /// What the blob is an image of.
    pub kind: FilesystemKind,
    /// How it is compressed as a whole, which no kernel can read.
    pub codec: Option<Codec>,
    /// The digest of the decoded image, as the artifact claims it; see [`crate::TarLayer::plain`].
    pub plain: Option<Digest>,
    /// How error messages call the layer; no part of what the volume shows.
    pub origin: String,
}
