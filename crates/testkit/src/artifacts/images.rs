//! Container images, of tars and of filesystem images.

use serde_json::json;

use super::{ArtifactBuilder, DOCKER_MANIFEST, Layer, Packed};

fn config(layers: &[Packed]) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id().to_string()).collect();
    json!({
        "architecture": "amd64", "os": "linux", "config": { "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string()
}

/// An OCI image (image-spec manifest.md and config.md) of these tars, the lowest first.
pub fn image(layers: impl IntoIterator<Item = Packed>) -> ArtifactBuilder {
    let layers: Vec<_> = layers.into_iter().collect();
    let builder = ArtifactBuilder::new().config("application/vnd.oci.image.config.v1+json", config(&layers));
    layers.into_iter().fold(builder, |builder, layer| {
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{}", layer.suffix());
        builder.layer(Layer::new(&media_type, layer.into_data()))
    })
}

/// The same as Docker's registry API v2 schema 2 has it (containerd/containerd core/images/mediatypes.go,
/// `MediaTypeDockerSchema2*`).
pub fn docker_image(layers: impl IntoIterator<Item = Packed>) -> ArtifactBuilder {
    let layers: Vec<_> = layers.into_iter().collect();
    let builder = ArtifactBuilder::new()
        .media_type(DOCKER_MANIFEST)
        .config("application/vnd.docker.container.image.v1+json", config(&layers));
    layers.into_iter().fold(builder, |builder, layer| {
        let codec = layer.codec().map_or(String::new(), |codec| format!(".{codec}"));
        let media_type = format!("application/vnd.docker.image.rootfs.diff.tar{codec}");
        builder.layer(Layer::new(&media_type, layer.into_data()))
    })
}

/// An image whose layers are filesystem images of one type, such as `application/vnd.erofs.layer.v1`
/// (containerd/containerd core/images/mediatypes.go, `MediaTypeErofsLayer`).
pub fn filesystem_image(media_type: &str, layers: impl IntoIterator<Item = Packed>) -> ArtifactBuilder {
    let layers: Vec<_> = layers.into_iter().collect();
    let builder = ArtifactBuilder::new().config("application/vnd.oci.image.config.v1+json", config(&layers));
    layers.into_iter().fold(builder, |builder, layer| {
        let media_type = format!("{media_type}{}", layer.suffix());
        builder.layer(Layer::new(&media_type, layer.into_data()))
    })
}
