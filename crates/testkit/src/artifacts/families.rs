//! The families of artifacts that producers push today.

use std::io;

use serde_json::{Value, json};

use super::{Artifact, ArtifactBuilder, BlobData, Layer, OCI_INDEX, Packed, TITLE, Tar};

/// Files as `oras push` uploads them: one layer a file, named by its title.
pub fn oras_files<T, D>(files: impl IntoIterator<Item = (T, D)>) -> ArtifactBuilder
where
    T: AsRef<str>,
    D: Into<BlobData>,
{
    files.into_iter().fold(
        ArtifactBuilder::new().artifact_type("application/vnd.unknown.artifact.v1"),
        |builder, (title, data)| builder.layer(Layer::titled(title.as_ref(), data)),
    )
}

/// A directory as `oras push` uploads it: a gzipped tar whose members carry the directory's name already
/// (oras-project/oras-go content/file/file.go, `descriptorFromDir`, and utils.go, `tarDirectory`).
pub fn oras_directory(title: &str, members: &Tar) -> io::Result<Layer> {
    let packed = Packed::gzip(&members.bytes())?;
    let plain = packed.diff_id();
    Ok(Layer::new("application/vnd.oci.image.layer.v1.tar+gzip", packed.into_data())
        .annotation(TITLE, title)
        .annotation("io.deis.oras.content.digest", plain.as_str())
        .annotation("io.deis.oras.content.unpack", "true"))
}

/// One file of a `ModelPack` artifact.
#[derive(Clone, Debug)]
pub struct ModelFile {
    kind: String,
    path: String,
    data: BlobData,
    mode: Option<u32>,
}

impl ModelFile {
    /// A file of a kind such as `weight`, `weight.config`, `doc`, `code` or `dataset`.
    pub fn new(kind: &str, path: &str, data: impl Into<BlobData>) -> Self {
        Self { kind: kind.into(), path: path.into(), data: data.into(), mode: None }
    }

    /// Adds the file metadata with these permission bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    fn layer(self) -> Layer {
        let media_type = format!("application/vnd.cncf.model.{}.v1.raw", self.kind);
        let size = self.data.size();
        let layer = Layer::new(&media_type, self.data).annotation("org.cncf.model.filepath", &self.path);
        let Some(mode) = self.mode else { return layer };
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let metadata = json!({
            "name": name, "mode": mode, "uid": 1000, "gid": 1000, "size": size,
            "mtime": "2026-01-02T03:04:05Z", "typeflag": b'0',
        });
        layer.annotation("org.cncf.model.file.metadata+json", &metadata.to_string())
    }
}

/// A `ModelPack` (CNCF) model of raw files.
pub fn modelpack(name: &str, files: impl IntoIterator<Item = ModelFile>) -> ArtifactBuilder {
    let config = json!({
        "descriptor": { "name": name, "createdAt": "2026-01-02T03:04:05Z" },
        "config": { "architecture": "transformer", "format": "gguf" },
        "modelfs": { "type": "layers", "diffIds": [] },
    });
    let builder = ArtifactBuilder::new()
        .artifact_type("application/vnd.cncf.model.manifest.v1+json")
        .config("application/vnd.cncf.model.config.v1+json", config.to_string());
    files.into_iter().fold(builder, |builder, file| builder.layer(file.layer()))
}

/// Files as the raw-layer proposal of the image specification names them.
pub fn raw_layer<P, D>(files: impl IntoIterator<Item = (P, D)>) -> ArtifactBuilder
where
    P: AsRef<str>,
    D: Into<BlobData>,
{
    files.into_iter().fold(ArtifactBuilder::new(), |builder, (path, data)| {
        let layer = Layer::new("application/vnd.oci.image.layer.v1.raw", data)
            .annotation("org.opencontainers.image.layer.path", path.as_ref());
        builder.layer(layer)
    })
}

/// Blobs of one media type without any name.
pub fn nameless<D: Into<BlobData>>(media_type: &str, blobs: impl IntoIterator<Item = D>) -> ArtifactBuilder {
    blobs
        .into_iter()
        .fold(ArtifactBuilder::new(), |builder, data| builder.layer(Layer::new(media_type, data)))
}

/// One manifest in an index, and what the index says of it.
#[derive(Clone, Debug)]
pub struct IndexEntry {
    artifact: Artifact,
    extra: Value,
}

impl IndexEntry {
    /// An entry without platform, annotations or artifact type.
    pub fn new(artifact: Artifact) -> Self {
        Self { artifact, extra: json!({}) }
    }

    /// An entry for a platform, `os/arch` or `os/arch/variant`.
    #[must_use]
    pub fn platform(mut self, platform: &str) -> Self {
        let mut parts = platform.split('/');
        let mut value = json!({ "os": parts.next(), "architecture": parts.next() });
        if let Some(variant) = parts.next() {
            value["variant"] = json!(variant);
        }
        self.extra["platform"] = value;
        self
    }

    /// Adds an annotation of the entry.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.extra["annotations"][key] = json!(value);
        self
    }

    /// Sets the entry's artifact type.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: &str) -> Self {
        self.extra["artifactType"] = json!(artifact_type);
        self
    }
}

/// An index over manifests, with variants or platforms.
pub fn index(entries: impl IntoIterator<Item = IndexEntry>) -> Artifact {
    let mut manifests = Vec::new();
    let mut children = Vec::new();
    for IndexEntry { artifact, mut extra } in entries {
        extra["mediaType"] = json!(artifact.media_type());
        extra["digest"] = json!(artifact.digest().to_string());
        extra["size"] = json!(artifact.manifest().len());
        manifests.push(extra);
        children.push(artifact);
    }
    let document = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    Artifact { children, ..Artifact::raw(OCI_INDEX, document.to_string(), Vec::new()) }
}
