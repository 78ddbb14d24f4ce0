//! The `files` attribute: which layers become which files, by the user's own word.

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::naming;
use crate::relative_path::RelativePath;

/// One file of the `files` attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FileChoice {
    /// Which layer is meant; exactly one must fit.
    pub select: FileSelect,
    /// Where the layer's bytes stand in the artifact.
    pub path: RelativePath,
}

/// What a layer must have to be chosen; everything given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FileSelect {
    /// The layer's media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The layer's name: the title, or the path that another annotation gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The layer's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl FileSelect {
    /// Whether nothing is asked for, which would fit every layer.
    pub const fn is_empty(&self) -> bool {
        self.media_type.is_none() && self.title.is_none() && self.digest.is_none()
    }

    pub(crate) fn matches(&self, layer: &Descriptor) -> bool {
        self.media_type.as_ref().is_none_or(|wanted| *wanted == layer.media_type)
            && self.digest.as_ref().is_none_or(|wanted| *wanted == layer.digest)
            && self
                .title
                .as_ref()
                .is_none_or(|wanted| naming::annotated_names(layer).any(|name| name == wanted))
    }
}

impl std::fmt::Display for FileSelect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        let digest = self.digest.as_ref().map(Digest::as_str);
        for (key, value) in
            [("mediaType", self.media_type.as_deref()), ("title", self.title.as_deref()), ("digest", digest)]
        {
            if let Some(value) = value {
                write!(f, "{separator}{key} `{}`", crate::excerpt::excerpt(value))?;
                separator = ", ";
            }
        }
        Ok(())
    }
}
