//! `layout: oci`: the artifact as an OCI image layout directory (image-spec, image-layout.md).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::descriptor::Descriptor;
use crate::digest::{Algorithm, Digest};
use crate::document::{Manifest, media_types};
use crate::layout::{Layout, LayoutBuilder, LayoutError};
use crate::naming;
use crate::platform::Platform;
use crate::relative_path::RelativePath;

const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexFile<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: [IndexEntry<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<IndexPlatform<'a>>,
}

#[derive(Serialize)]
struct IndexPlatform<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

impl<'a> IndexPlatform<'a> {
    fn of(platform: &'a Platform) -> Self {
        let Platform { os, architecture, variant } = platform;
        Self { architecture, os, variant: variant.as_deref() }
    }
}

/// Every blob of the artifact under its digest, bytes as they are.
///
/// The index carries no name: one view serves every tag of the artifact. A manifest that was chosen from an index
/// keeps what that index said of it; the other manifests of the index are no part of the volume.
pub(crate) fn layout(manifest: &Manifest, chosen: Option<&Descriptor>) -> Result<Layout, LayoutError> {
    let mut builder = Layout::builder();
    let algorithm = chosen.map_or(Algorithm::Sha256, |chosen| chosen.digest.algorithm());
    let own = manifest.descriptor(algorithm);
    add(&mut builder, &own, "the manifest")?;
    builder.inline(own.digest.clone(), manifest.raw().to_vec());
    add(&mut builder, &manifest.config, "the config")?;
    for (number, layer) in manifest.layers.iter().enumerate() {
        add(&mut builder, layer, &naming::label(number, layer))?;
    }
    let entry = IndexEntry {
        media_type: &own.media_type,
        digest: &own.digest,
        size: own.size,
        artifact_type: own.artifact_type.as_deref(),
        annotations: chosen.map(|chosen| &chosen.annotations).filter(|annotations| !annotations.is_empty()),
        platform: chosen.and_then(|chosen| chosen.platform.as_ref()).map(IndexPlatform::of),
    };
    let index = IndexFile { schema_version: 2, media_type: media_types::OCI_INDEX, manifests: [entry] };
    for (name, bytes) in [("index.json", to_json(&index)), ("oci-layout", MARKER.to_vec())] {
        builder.generated(path(name, name)?, bytes, name)?;
    }
    builder.finish()
}

fn add(builder: &mut LayoutBuilder, blob: &Descriptor, origin: &str) -> Result<(), LayoutError> {
    let path = path(&format!("blobs/{}/{}", blob.digest.algorithm(), blob.digest.hex()), origin)?;
    builder.raw(path, blob.digest.clone(), blob.size, false, origin)?;
    if let Some(data) = &blob.data {
        builder.inline(blob.digest.clone(), data.clone());
    } else if blob.is_empty_object() && blob.size == 2 {
        builder.inline(blob.digest.clone(), b"{}".to_vec());
    }
    Ok(())
}

fn path(text: &str, origin: &str) -> Result<RelativePath, LayoutError> {
    RelativePath::parse(text).map_err(|source| LayoutError::Name { layer: origin.to_owned(), source })
}

#[expect(clippy::expect_used, reason = "strings and numbers in plain structs always have a JSON form")]
fn to_json(index: &IndexFile<'_>) -> Vec<u8> {
    serde_json::to_vec(index).expect("an index has a JSON form")
}
