//! Helm charts and WebAssembly.

use std::io;

use serde_json::json;

use super::{ArtifactBuilder, BlobData, Layer, Packed, Tar};

/// A chart as `helm push` uploads it (helm/helm pkg/registry/client.go, `Push`, and constants.go), with a provenance
/// file when there is one. The members of the tar are those of the chart's directory.
pub fn helm_chart(
    name: &str,
    version: &str,
    members: &Tar,
    provenance: Option<&str>,
) -> io::Result<ArtifactBuilder> {
    let metadata = json!({ "name": name, "version": version, "apiVersion": "v2", "type": "application" });
    let chart = Packed::gzip(&members.bytes())?.into_data();
    let builder = ArtifactBuilder::new()
        .config("application/vnd.cncf.helm.config.v1+json", metadata.to_string())
        .annotation("org.opencontainers.image.title", name)
        .annotation("org.opencontainers.image.version", version)
        .layer(Layer::new("application/vnd.cncf.helm.chart.content.v1.tar+gzip", chart));
    Ok(match provenance {
        None => builder,
        Some(text) => builder.layer(Layer::new("application/vnd.cncf.helm.chart.provenance.v1.prov", text)),
    })
}

/// A component in the CNCF's layout, as `wkg oci push` uploads it (bytecodealliance/rust-oci-wasm src/lib.rs and
/// src/config.rs).
pub fn wasm(module: impl Into<BlobData>) -> io::Result<ArtifactBuilder> {
    let module = module.into();
    let digest = module.digest(stowage_artifact::Algorithm::Sha256)?;
    let config = json!({
        "created": "2026-01-02T03:04:05Z", "architecture": "wasm", "os": "wasip2",
        "layerDigests": [digest.to_string()], "component": { "exports": [], "imports": [] },
    });
    Ok(ArtifactBuilder::new()
        .config("application/vnd.wasm.config.v0+json", config.to_string())
        .layer(Layer::new("application/wasm", module)))
}
