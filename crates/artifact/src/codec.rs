//! Compression of whole blobs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the bytes of a blob are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// RFC 1952.
    Gzip,
    /// RFC 8878; `zstd:chunked` is read as this.
    Zstd,
}

impl Codec {
    /// `gzip` or `zstd`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Endings by which a file name says that the file is compressed like this.
    pub(crate) const fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Gzip => &[".gz", ".gzip", ".tgz"],
            Self::Zstd => &[".zst", ".zstd", ".tzst"],
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
