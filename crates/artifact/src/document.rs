//! Manifests and indexes, as registries serve them (image-spec 1.1 and Docker's schema 2).

mod error;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::error::ManifestError;
use self::wire::WireDocument;
use crate::descriptor::Descriptor;
use crate::digest::{Algorithm, Digest};
use crate::excerpt::excerpt;
use crate::media_type::MediaType;

/// The largest manifest or index that is read, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// The largest config blob that is read for its contents, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// The most layers of a manifest, and the most entries of an index.
pub const MAX_LAYERS: usize = 10_000;

/// The media types of the documents that are understood.
pub mod media_types {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// All of them, for the Accept header.
    pub const ACCEPTED: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];

    pub(super) const DOCKER_V1: [&str; 2] = [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ];
    /// What servers send that have no idea what the bytes are.
    pub(super) const GENERIC: [&str; 5] =
        ["", "application/json", "application/octet-stream", "binary/octet-stream", "text/plain"];
}

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time is parsed, matched and taken apart")]
pub enum Document {
    /// One artifact.
    Manifest(Manifest),
    /// A list of manifests to choose from.
    Index(Index),
}

/// The manifest of one artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Media type by the document itself, else by the Content-Type it came with.
    pub media_type: Option<String>,
    /// The artifact's type.
    pub artifact_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// The layers in order.
    pub layers: Vec<Descriptor>,
    /// Annotations of the artifact.
    pub annotations: BTreeMap<String, String>,
    /// The manifest that this one is about.
    pub subject: Option<Descriptor>,
    raw: Arc<[u8]>,
}

/// An index, or Docker's manifest list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Media type by the document itself, else by the Content-Type it came with.
    pub media_type: Option<String>,
    /// The type of what is listed.
    pub artifact_type: Option<String>,
    /// The entries in order.
    pub manifests: Vec<Descriptor>,
    /// Annotations of the index.
    pub annotations: BTreeMap<String, String>,
    /// The manifest that this index is about.
    pub subject: Option<Descriptor>,
}

impl Manifest {
    /// What the artifact calls itself: its artifact type, else the type of its config.
    pub fn kind(&self) -> &str {
        self.artifact_type.as_deref().filter(|kind| !kind.is_empty()).unwrap_or(&self.config.media_type)
    }

    /// The bytes that were parsed.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The descriptor of this manifest, with a digest of the raw bytes.
    pub fn descriptor(&self, algorithm: Algorithm) -> Descriptor {
        let media_type = self.media_type.as_deref().unwrap_or(media_types::OCI_MANIFEST);
        let mut descriptor =
            Descriptor::new(media_type, Digest::of(algorithm, &self.raw), self.raw.len() as u64);
        descriptor.artifact_type.clone_from(&self.artifact_type);
        descriptor
    }

    /// Sizes of all layers together, in bytes, however often a blob is named.
    pub fn layer_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Index,
}

impl Document {
    /// Reads a manifest or an index, and compares what it says of itself with `content_type`.
    ///
    /// The bytes are expected to have passed their digest already.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::Large { bytes: bytes.len() as u64 });
        }
        let document: WireDocument = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Json { why: excerpt(&error.to_string()) })?;
        let declared = declared_type(&document, content_type)?;
        refuse_schema_one(&document, declared.as_deref())?;
        let kind = match declared.as_deref() {
            Some(media_types::OCI_MANIFEST | media_types::DOCKER_MANIFEST) => Some(Kind::Manifest),
            Some(media_types::OCI_INDEX | media_types::DOCKER_LIST) => Some(Kind::Index),
            Some(other) => return Err(ManifestError::MediaType { media_type: excerpt(other) }),
            None => None,
        };
        let kind = check_shape(&document, kind)?;
        match kind {
            Kind::Manifest => read_manifest(document, declared, bytes).map(Self::Manifest),
            Kind::Index => read_index(document, declared).map(Self::Index),
        }
    }
}

/// The type that the document and the server agree on; none where neither says anything.
fn declared_type(
    document: &WireDocument,
    content_type: Option<&str>,
) -> Result<Option<String>, ManifestError> {
    let essence = |text: &str| MediaType::of(text).essence().to_owned();
    let own = document.media_type.as_deref().map(essence).filter(|own| !own.is_empty());
    let header = content_type.map(essence).filter(|header| !media_types::GENERIC.contains(&header.as_str()));
    match (own, header) {
        (Some(own), Some(header)) if own != header => {
            Err(ManifestError::LyingMediaType { document: excerpt(&own), header: excerpt(&header) })
        }
        (own, header) => Ok(own.or(header)),
    }
}

fn refuse_schema_one(document: &WireDocument, declared: Option<&str>) -> Result<(), ManifestError> {
    let version = document.schema_version.as_ref().and_then(serde_json::Number::as_u64);
    let by_type = declared.is_some_and(|declared| media_types::DOCKER_V1.contains(&declared));
    if by_type || version == Some(1) || document.fs_layers.is_some() {
        return Err(ManifestError::DockerSchemaOne);
    }
    match (&document.schema_version, version) {
        (_, Some(2)) => Ok(()),
        (found, _) => {
            let found = found.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            Err(ManifestError::SchemaVersion { found: excerpt(&found) })
        }
    }
}

/// A document that could be read as either kind means different things to different clients: refused.
fn check_shape(document: &WireDocument, kind: Option<Kind>) -> Result<Kind, ManifestError> {
    let like_manifest = document.layers.is_some() || document.config.is_some();
    let like_index = document.manifests.is_some();
    match (like_manifest, like_index, kind) {
        (true, true, _) => Err(ManifestError::BothKinds),
        (_, true, Some(Kind::Manifest)) => {
            Err(ManifestError::Shape { is: "an image manifest", has: "`manifests`" })
        }
        (true, _, Some(Kind::Index)) => {
            Err(ManifestError::Shape { is: "an index", has: "`layers` or `config`" })
        }
        (true, false, _) => Ok(Kind::Manifest),
        (false, true, _) | (false, false, Some(Kind::Index)) => Ok(Kind::Index),
        (false, false, _) => Err(ManifestError::NeitherKind),
    }
}

fn read_manifest(
    document: WireDocument,
    declared: Option<String>,
    bytes: &[u8],
) -> Result<Manifest, ManifestError> {
    let config = document.config.ok_or(ManifestError::NoConfig)?.read("config")?;
    let layers = wire::read_all(document.layers.unwrap_or_default(), "layers")?;
    wire::check_sum(std::iter::once(&config).chain(&layers))?;
    Ok(Manifest {
        media_type: declared,
        artifact_type: document.artifact_type,
        config,
        layers,
        annotations: document.annotations.unwrap_or_default(),
        subject: document.subject.map(|subject| subject.read("subject")).transpose()?,
        raw: bytes.into(),
    })
}

fn read_index(document: WireDocument, declared: Option<String>) -> Result<Index, ManifestError> {
    let manifests = wire::read_all(document.manifests.unwrap_or_default(), "manifests")?;
    wire::check_sum(manifests.iter())?;
    Ok(Index {
        media_type: declared,
        artifact_type: document.artifact_type,
        manifests,
        annotations: document.annotations.unwrap_or_default(),
        subject: document.subject.map(|subject| subject.read("subject")).transpose()?,
    })
}
