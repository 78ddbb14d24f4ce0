//! Builders of artifacts of every family, honest and hostile.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use stowage_testkit::artifacts;
//!
//! let artifact = artifacts::oras_files([("model.bin", "weights"), ("docs/readme.md", "# hello")]).build()?;
//! assert_eq!(artifact.blobs().len(), 3); // with the empty config
//! # Ok(())
//! # }
//! ```

mod blob;
mod charts;
mod documents;
mod families;
mod images;
mod models;
mod packed;
mod tar;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use bytes::Bytes;
use serde_json::{Value, json};
use stowage_artifact::{Algorithm, Digest};

pub use blob::{BlobData, Generated, StoredFile};
pub(crate) use blob::{BlobReader, CHUNK};
pub use charts::{helm_chart, wasm};
pub use documents::{attestations, sigstore_bundle};
pub use families::{
    IndexEntry, ModelFile, index, modelpack, nameless, oras_directory, oras_files, raw_layer,
};
pub use images::{docker_image, filesystem_image, image};
pub use models::{AiLayer, KitPart, OllamaLayer, docker_ai, kitops, modelpack_archives, ollama};
pub use packed::Packed;
pub use tar::Tar;
pub use wire::{WireError, WirePush};

/// Media type of an OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a Docker manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of the empty descriptor.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Annotation that names an ORAS file.
pub const TITLE: &str = "org.opencontainers.image.title";

/// An artifact ready to be pushed: its manifest and all that the manifest names.
#[derive(Clone, Debug)]
pub struct Artifact {
    media_type: String,
    manifest: Bytes,
    digest: Digest,
    blobs: Vec<(Digest, BlobData)>,
    children: Vec<Artifact>,
}

impl Artifact {
    /// An artifact around any bytes as its manifest.
    pub fn raw(media_type: &str, manifest: impl Into<Bytes>, blobs: Vec<(Digest, BlobData)>) -> Self {
        let manifest = manifest.into();
        let digest = Digest::of(Algorithm::Sha256, &manifest);
        Self { media_type: media_type.into(), manifest, digest, blobs, children: Vec::new() }
    }

    /// Digest of the manifest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The manifest, byte for byte.
    pub fn manifest(&self) -> &Bytes {
        &self.manifest
    }

    /// Media type of the manifest.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The blobs to push, config first, under the digests that the manifest claims.
    pub fn blobs(&self) -> &[(Digest, BlobData)] {
        &self.blobs
    }

    /// The manifests that an index lists.
    pub fn children(&self) -> &[Artifact] {
        &self.children
    }

    /// Bytes of all blobs, those of the children included.
    pub fn total_bytes(&self) -> u64 {
        let own: u64 = self.blobs.iter().map(|(_, data)| data.size()).sum();
        own + self.children.iter().map(Artifact::total_bytes).sum::<u64>()
    }
}

/// One layer of an artifact, and the lies told about it.
#[derive(Clone, Debug)]
pub struct Layer {
    media_type: String,
    data: BlobData,
    annotations: BTreeMap<String, String>,
    name: Option<String>,
    algorithm: Algorithm,
    size: Option<u64>,
    digest: Option<Digest>,
    inline: bool,
    absent: bool,
}

impl Layer {
    /// A layer without annotations.
    pub fn new(media_type: &str, data: impl Into<BlobData>) -> Self {
        Self {
            media_type: media_type.into(),
            data: data.into(),
            annotations: BTreeMap::new(),
            name: None,
            algorithm: Algorithm::Sha256,
            size: None,
            digest: None,
            inline: false,
            absent: false,
        }
    }

    /// A file as ORAS pushes one.
    pub fn titled(title: &str, data: impl Into<BlobData>) -> Self {
        Self::new("application/vnd.oci.image.layer.v1.tar", data).annotation(TITLE, title)
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Sets the descriptor's `name`, as Ollama does.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Names the blob by another algorithm.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Claims another size.
    #[must_use]
    pub fn declare_size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Claims another digest; the registry serves this layer's bytes under it.
    #[must_use]
    pub fn declare_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Carries the bytes in the descriptor's `data` too.
    #[must_use]
    pub fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Leaves the blob out of the push.
    #[must_use]
    pub fn absent(mut self) -> Self {
        self.absent = true;
        self
    }

    fn descriptor(&self) -> io::Result<(Digest, Value)> {
        use base64::Engine;

        let digest = match &self.digest {
            Some(digest) => digest.clone(),
            None => self.data.digest(self.algorithm)?,
        };
        let mut descriptor = json!({
            "mediaType": self.media_type,
            "digest": digest.to_string(),
            "size": self.size.unwrap_or(self.data.size()),
        });
        if !self.annotations.is_empty() {
            descriptor["annotations"] = json!(self.annotations);
        }
        if let Some(name) = &self.name {
            descriptor["name"] = json!(name);
        }
        if self.inline {
            let bytes = self.data.read_range(0..self.data.size())?;
            descriptor["data"] = json!(base64::engine::general_purpose::STANDARD.encode(bytes));
        }
        Ok((digest, descriptor))
    }
}

type Edit = Box<dyn FnOnce(&mut Value) + Send>;

/// Puts a manifest together.
pub struct ArtifactBuilder {
    media_type: String,
    artifact_type: Option<String>,
    config: Layer,
    layers: Vec<Layer>,
    annotations: BTreeMap<String, String>,
    subject: Option<Value>,
    edit: Option<Edit>,
}

impl Default for ArtifactBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ArtifactBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArtifactBuilder").field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl ArtifactBuilder {
    /// An OCI manifest with the empty config and no layers.
    pub fn new() -> Self {
        Self {
            media_type: OCI_MANIFEST.into(),
            artifact_type: None,
            config: Layer::new(OCI_EMPTY, "{}"),
            layers: Vec::new(),
            annotations: BTreeMap::new(),
            subject: None,
            edit: None,
        }
    }

    /// Sets `artifactType`.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: &str) -> Self {
        self.artifact_type = Some(artifact_type.into());
        self
    }

    /// Sets the manifest's own media type.
    #[must_use]
    pub fn media_type(mut self, media_type: &str) -> Self {
        self.media_type = media_type.into();
        self
    }

    /// Sets the config blob.
    #[must_use]
    pub fn config(mut self, media_type: &str, data: impl Into<BlobData>) -> Self {
        self.config = Layer::new(media_type, data);
        self
    }

    /// Adds a layer at the end.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Adds an annotation of the manifest.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Makes the artifact refer to another one.
    #[must_use]
    pub fn subject(mut self, subject: &Artifact) -> Self {
        self.subject = Some(json!({
            "mediaType": subject.media_type,
            "digest": subject.digest.to_string(),
            "size": subject.manifest.len(),
        }));
        self
    }

    /// Changes the finished manifest at will, for what no honest producer writes.
    #[must_use]
    pub fn edit(mut self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.edit = Some(Box::new(edit));
        self
    }

    /// Hashes the blobs and writes the manifest; blocks for as long as that takes.
    pub fn build(self) -> io::Result<Artifact> {
        let (config_digest, config) = self.config.descriptor()?;
        let mut blobs = vec![(config_digest, self.config.data.clone())];
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let (digest, descriptor) = layer.descriptor()?;
            layers.push(descriptor);
            if !layer.absent && blobs.iter().all(|(known, _)| *known != digest) {
                blobs.push((digest, layer.data.clone()));
            }
        }
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": config,
            "layers": layers,
        });
        if let Some(artifact_type) = self.artifact_type {
            manifest["artifactType"] = json!(artifact_type);
        }
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        if let Some(subject) = self.subject {
            manifest["subject"] = subject;
        }
        if let Some(edit) = self.edit {
            edit(&mut manifest);
        }
        Ok(Artifact::raw(&self.media_type, manifest.to_string(), blobs))
    }
}
