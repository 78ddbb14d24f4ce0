//! Models as Docker, Ollama, `KitOps` and the CNCF's tools pack them.

use serde_json::{Value, json};

use super::{ArtifactBuilder, BlobData, DOCKER_MANIFEST, Layer, Packed};

/// A `ModelPack` of archives: part of the media type, path, tar (modelpack/modctl pkg/codec/tar.go; the config is
/// modelpack/model-spec docs/config.md).
pub fn modelpack_archives<'a>(
    archives: impl IntoIterator<Item = (&'a str, &'a str, Packed)>,
) -> ArtifactBuilder {
    let archives: Vec<_> = archives.into_iter().collect();
    let diff_ids: Vec<String> = archives.iter().map(|(.., packed)| packed.diff_id().to_string()).collect();
    let config = json!({
        "descriptor": { "name": "packed" }, "config": {}, "modelfs": { "type": "layers", "diffIds": diff_ids },
    });
    let builder = ArtifactBuilder::new()
        .artifact_type("application/vnd.cncf.model.manifest.v1+json")
        .config("application/vnd.cncf.model.config.v1+json", config.to_string());
    archives.into_iter().fold(builder, |builder, (kind, path, packed)| {
        let media_type = format!("application/vnd.cncf.model.{kind}.v1.tar{}", packed.suffix());
        let layer = Layer::new(&media_type, packed.into_data());
        builder.layer(layer.annotation("org.cncf.model.filepath", path))
    })
}

/// One layer of a Docker model.
#[derive(Clone, Debug)]
pub struct AiLayer(Layer);

impl AiLayer {
    /// A layer of a kind such as `gguf.v3`, `safetensors` or `license`
    /// (docker/model-runner pkg/distribution/types/config.go).
    pub fn new(kind: &str, data: impl Into<BlobData>) -> Self {
        Self(Layer::new(&format!("application/vnd.docker.ai.{kind}"), data))
    }

    /// Gives it the path that the producer had it at (pkg/distribution/internal/partial/layer.go).
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        Self(
            self.0
                .annotation("org.cncf.model.filepath", path)
                .annotation("org.cncf.model.file.mediatype.untested", "false"),
        )
    }
}

/// A model as `docker model package` pushes it; the version is `v0.1` or `v0.2`.
pub fn docker_ai(version: &str, layers: impl IntoIterator<Item = AiLayer>) -> ArtifactBuilder {
    let config = json!({
        "config": { "format": "gguf" }, "descriptor": {}, "rootfs": { "type": "rootfs", "diff_ids": [] },
    });
    let media_type = format!("application/vnd.docker.ai.model.config.{version}+json");
    let builder = ArtifactBuilder::new().config(&media_type, config.to_string());
    layers.into_iter().fold(builder, |builder, AiLayer(layer)| builder.layer(layer))
}

/// One layer of an Ollama model.
#[derive(Clone, Debug)]
pub struct OllamaLayer(Layer);

impl OllamaLayer {
    /// A layer of a kind such as `model`, `template` or `tensor` (ollama/ollama server/images.go).
    pub fn new(kind: &str, data: impl Into<BlobData>) -> Self {
        Self(Layer::new(&format!("application/vnd.ollama.image.{kind}"), data))
    }

    /// Names a tensor, or a file of a model stored tensor by tensor (manifest/layer.go, `Layer.Name`).
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        Self(self.0.name(name))
    }
}

/// A model as `ollama push` uploads it (ollama/ollama manifest/manifest.go, `WriteManifest`).
pub fn ollama(layers: impl IntoIterator<Item = OllamaLayer>) -> ArtifactBuilder {
    let config = json!({
        "model_format": "gguf", "model_family": "llama", "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let builder = ArtifactBuilder::new()
        .media_type(DOCKER_MANIFEST)
        .config("application/vnd.docker.container.image.v1+json", config.to_string());
    layers.into_iter().fold(builder, |builder, OllamaLayer(layer)| builder.layer(layer))
}

/// One part of a kit.
#[derive(Clone, Debug)]
pub struct KitPart {
    part: String,
    format: &'static str,
    path: String,
    packed: Packed,
}

impl KitPart {
    /// A tar for a part: `model`, `modelpart`, `dataset`, `code` or `docs`. Its members carry their whole path.
    pub fn tar(part: &str, path: &str, packed: Packed) -> Self {
        Self { part: part.into(), format: "tar", path: path.into(), packed }
    }

    /// A single file.
    pub fn raw(part: &str, path: &str, packed: Packed) -> Self {
        Self { part: part.into(), format: "raw", path: path.into(), packed }
    }

    fn entry(&self) -> Value {
        json!({
            "path": self.path,
            "digest": self.packed.digest().to_string(),
            "diffId": self.packed.diff_id().to_string(),
        })
    }
}

/// A kit as `kit push` uploads it (kitops-ml/kitops pkg/lib/constants/mediatype/kitops.go and
/// pkg/artifact/kitfile.go): the Kitfile in the config has a path for every layer.
pub fn kitops(parts: impl IntoIterator<Item = KitPart>) -> ArtifactBuilder {
    let mut kitfile = json!({ "manifestVersion": "1.0.0", "package": { "name": "kit" } });
    let mut layers = Vec::new();
    for part in parts {
        match part.part.as_str() {
            "model" => kitfile["model"] = part.entry(),
            "modelpart" => append(&mut kitfile["model"]["parts"], part.entry()),
            "dataset" => append(&mut kitfile["datasets"], part.entry()),
            list => append(&mut kitfile[list], part.entry()),
        }
        let media_type = format!(
            "application/vnd.kitops.modelkit.{}.v1.{}{}",
            part.part,
            part.format,
            part.packed.suffix()
        );
        layers.push(Layer::new(&media_type, part.packed.into_data()));
    }
    let builder = ArtifactBuilder::new()
        .artifact_type("application/vnd.kitops.modelkit.manifest.v1+json")
        .config("application/vnd.kitops.modelkit.config.v1+json", kitfile.to_string())
        .annotation("ml.kitops.modelkit.cli-version", "1.0.0");
    layers.into_iter().fold(builder, ArtifactBuilder::layer)
}

fn append(list: &mut Value, entry: Value) {
    match list {
        Value::Array(entries) => entries.push(entry),
        empty => *empty = json!([entry]),
    }
}
