//! Why volume attributes are refused.

use super::{LayoutMode, VolumeAttributes};
use crate::excerpt::excerpt;
use crate::platform::PlatformError;
use crate::reference::ReferenceError;
use crate::relative_path::PathError;

/// Why volume attributes are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// A key that means nothing.
    #[error("the volume attribute `{key}` is unknown: {hint}")]
    Unknown {
        /// The key, shortened.
        key: String,
        /// What was probably meant.
        hint: String,
    },
    /// There is nothing to mount.
    #[error(
        "the volume attribute `reference` is missing: name what to mount, such as `registry.example/models/llama:v1`"
    )]
    NoReference,
    /// The reference is none.
    #[error("the volume attribute `reference` is refused: {0}")]
    Reference(#[from] ReferenceError),
    /// The value is none of the allowed words.
    #[error("the volume attribute `{key}` has the value `{value}`: it must be {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value, shortened.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The value is longer than 256 KiB.
    #[error("the volume attribute `{key}` has {bytes} bytes, and at most 262144 are allowed")]
    Long {
        /// The key.
        key: String,
        /// Length in bytes.
        bytes: usize,
    },
    /// A glob is refused.
    #[error("the volume attribute `{key}` is refused: {why}")]
    Pattern {
        /// `include` or `exclude`.
        key: &'static str,
        /// What is wrong with the glob.
        why: String,
    },
    /// The sub-path is none.
    #[error("the volume attribute `subPath` is refused: {0}")]
    SubPath(#[from] PathError),
    /// The list of files cannot be read.
    #[error(
        "the volume attribute `files` is refused: {why}; write a YAML or JSON list of `{{select: {{mediaType, title, digest}}, path}}`"
    )]
    Files {
        /// What is wrong with the list.
        why: String,
    },
    /// Two files of the list have one path.
    #[error("the volume attribute `files` names the path `{path}` twice: each path may stand there once")]
    DuplicatePath {
        /// The path.
        path: String,
    },
    /// A file of the list selects by nothing.
    #[error(
        "the volume attribute `files` has an empty `select` for the path `{path}`: give mediaType, title or digest"
    )]
    EmptySelect {
        /// The path.
        path: String,
    },
    /// The platform is none.
    #[error("the volume attribute `platform` is refused: {0}")]
    Platform(#[from] PlatformError),
    /// Two attributes contradict each other.
    #[error(
        "the volume attribute `{key}` cannot be used with `layout: {layout}`, whose shape is fixed: leave one of them away"
    )]
    Combination {
        /// The key.
        key: &'static str,
        /// The layout.
        layout: LayoutMode,
    },
}

impl AttributeError {
    pub(super) fn unknown(key: &str) -> Self {
        let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        let meant = VolumeAttributes::KEYS.into_iter().find(|known| plain(known) == plain(key));
        let hint = match meant {
            Some(meant) => format!("write `{meant}`"),
            None => format!("the known ones are {}", VolumeAttributes::KEYS.join(", ")),
        };
        Self::Unknown { key: excerpt(key), hint }
    }
}
