//! Why a manifest or an index is refused.

use crate::digest::DigestError;

/// Why a manifest or an index is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// More than 4 MiB.
    #[error("the manifest has {bytes} bytes, and at most 4194304 (4 MiB) are read: split the artifact")]
    Large {
        /// Its length in bytes.
        bytes: u64,
    },
    /// The bytes are not the JSON of a manifest.
    #[error("the manifest cannot be read: {why}")]
    Json {
        /// What the reader says.
        why: String,
    },
    /// Docker's first schema, which has no sizes and no digest of the whole.
    #[error(
        "the manifest has Docker's schema 1, which is not supported: push the artifact again with a current tool"
    )]
    DockerSchemaOne,
    /// The schema version is not 2.
    #[error("the manifest has schemaVersion {found}, and only 2 is known")]
    SchemaVersion {
        /// What it has.
        found: String,
    },
    /// A media type that is neither a manifest nor an index.
    #[error(
        "the document has the media type `{media_type}`, which is no manifest or index that can be mounted"
    )]
    MediaType {
        /// The media type, shortened.
        media_type: String,
    },
    /// Document and server contradict each other.
    #[error(
        "the manifest says it is `{document}`, and the registry served it as `{header}`: one of them lies"
    )]
    LyingMediaType {
        /// The document's own media type.
        document: String,
        /// The Content-Type.
        header: String,
    },
    /// Both a manifest and an index.
    #[error(
        "the document has both the fields of a manifest (`layers`, `config`) and of an index (`manifests`): it is refused as ambiguous"
    )]
    BothKinds,
    /// Neither a manifest nor an index.
    #[error("the document has neither `layers` nor `manifests`: it is no manifest and no index")]
    NeitherKind,
    /// The fields are those of the other kind.
    #[error("the document says it is {is} and has {has}: it is refused")]
    Shape {
        /// What it says it is.
        is: &'static str,
        /// What it has all the same.
        has: &'static str,
    },
    /// A manifest without a config.
    #[error("the manifest has no `config`, which every image manifest needs")]
    NoConfig,
    /// More than 10 000 layers or entries.
    #[error("the manifest has {count} {field}, and at most 10000 are allowed")]
    Many {
        /// `layers` or `manifests`.
        field: &'static str,
        /// How many there are.
        count: usize,
    },
    /// A size is missing, negative or no whole number.
    #[error("{field} has the size {found}, which is no number of bytes")]
    Size {
        /// Which descriptor.
        field: String,
        /// What stands there.
        found: String,
    },
    /// The sizes do not add up to a number.
    #[error(
        "the sizes of all blobs of the manifest together are larger than any disk: at least one of them lies"
    )]
    SizeOverflow,
    /// A digest is none, or of an unsupported algorithm.
    #[error("{field} has no usable digest: {source}")]
    Digest {
        /// Which descriptor.
        field: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A media type is empty, too long or has control characters.
    #[error("{field} has the media type `{media_type}`, which is not valid")]
    DescriptorType {
        /// Which descriptor.
        field: String,
        /// The media type, shortened.
        media_type: String,
    },
}
