//! Descriptors: a media type, a digest and a size (image-spec, descriptor.md).

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::media_type::MediaType;
use crate::platform::Platform;

/// The `{}` blob's digest, which stands where a manifest has nothing to say.
pub(crate) const EMPTY_DIGEST: &str =
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const EMPTY_MEDIA_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// What a manifest or an index says about one blob.
///
/// A descriptor's `urls` are never kept: bytes come from the registry that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Media type as written by the producer.
    pub media_type: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Annotations of this blob.
    pub annotations: BTreeMap<String, String>,
    /// `name`, which Ollama gives the layers that hold tensors and files of a model.
    pub name: Option<String>,
    /// Artifact type, in the entries of an index.
    pub artifact_type: Option<String>,
    /// Platform, in the entries of an index.
    pub platform: Option<Platform>,
    /// The blob itself, where the manifest carried it and it has this digest and size.
    pub data: Option<Vec<u8>>,
}

impl Descriptor {
    /// A descriptor with nothing but the three mandatory fields.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            annotations: BTreeMap::new(),
            name: None,
            artifact_type: None,
            platform: None,
            data: None,
        }
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Whether this is the empty descriptor, which says that there is nothing here.
    pub fn is_empty_descriptor(&self) -> bool {
        self.parsed_type().essence() == EMPTY_MEDIA_TYPE
    }

    /// Whether the blob is the two bytes `{}`, whatever its media type says.
    pub(crate) fn is_empty_object(&self) -> bool {
        self.digest.as_str() == EMPTY_DIGEST
    }

    pub(crate) fn parsed_type(&self) -> MediaType {
        MediaType::of(&self.media_type)
    }
}
