//! The JSON of manifests and indexes before it is believed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Number, Value};

use super::{MAX_LAYERS, ManifestError};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::excerpt::excerpt;
use crate::platform::Platform;

const MAX_MEDIA_TYPE_BYTES: usize = 255;
/// Sizes are signed 64-bit numbers in the specification and in every other client.
const MAX_SIZE: u64 = i64::MAX as u64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireDocument {
    pub(super) schema_version: Option<Number>,
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) config: Option<WireDescriptor>,
    pub(super) layers: Option<Vec<WireDescriptor>>,
    pub(super) manifests: Option<Vec<WireDescriptor>>,
    pub(super) subject: Option<WireDescriptor>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireDescriptor {
    media_type: String,
    digest: String,
    size: Option<Number>,
    annotations: Option<BTreeMap<String, String>>,
    name: Option<Value>,
    artifact_type: Option<String>,
    platform: Option<WirePlatform>,
    data: Option<String>,
}

#[derive(Deserialize)]
struct WirePlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl WireDescriptor {
    pub(super) fn read(self, field: &str) -> Result<Descriptor, ManifestError> {
        let media_type = self.media_type;
        let legal = !media_type.is_empty() && !media_type.chars().any(char::is_control);
        if !legal || media_type.len() > MAX_MEDIA_TYPE_BYTES {
            return Err(ManifestError::DescriptorType {
                field: field.to_owned(),
                media_type: excerpt(&media_type),
            });
        }
        let digest: Digest = self
            .digest
            .parse()
            .map_err(|source| ManifestError::Digest { field: field.to_owned(), source })?;
        let size = self.size.as_ref().and_then(Number::as_u64).filter(|size| *size <= MAX_SIZE);
        let Some(size) = size else {
            let found = self.size.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            return Err(ManifestError::Size { field: field.to_owned(), found: excerpt(&found) });
        };
        let data = self.data.and_then(|data| verified(&data, &digest, size));
        Ok(Descriptor {
            media_type,
            digest,
            size,
            annotations: self.annotations.unwrap_or_default(),
            // No field of the specification, so anything else under this key is somebody else's.
            name: self.name.as_ref().and_then(Value::as_str).map(str::to_owned),
            artifact_type: self.artifact_type,
            platform: self.platform.and_then(WirePlatform::read),
            data,
        })
    }
}

impl WirePlatform {
    /// A platform without a system or an architecture says nothing.
    fn read(self) -> Option<Platform> {
        let os = self.os.filter(|os| !os.is_empty())?;
        let architecture = self.architecture.filter(|architecture| !architecture.is_empty())?;
        Some(Platform::new(&os, &architecture, self.variant.as_deref()))
    }
}

/// The bytes of `data` if they are the blob; what is not is ignored, and the blob fetched instead.
fn verified(data: &str, digest: &Digest, size: u64) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(data).ok()?;
    let same = bytes.len() as u64 == size && Digest::of(digest.algorithm(), &bytes) == *digest;
    same.then_some(bytes)
}

pub(super) fn read_all(
    descriptors: Vec<WireDescriptor>,
    field: &'static str,
) -> Result<Vec<Descriptor>, ManifestError> {
    if descriptors.len() > MAX_LAYERS {
        return Err(ManifestError::Many { field, count: descriptors.len() });
    }
    let numbered = descriptors.into_iter().enumerate();
    numbered.map(|(number, descriptor)| descriptor.read(&format!("{field}[{number}]"))).collect()
}

pub(super) fn check_sum<'a>(
    mut descriptors: impl Iterator<Item = &'a Descriptor>,
) -> Result<(), ManifestError> {
    let sum = descriptors.try_fold(0_u64, |sum, descriptor| sum.checked_add(descriptor.size));
    sum.filter(|sum| *sum <= MAX_SIZE).map(|_| ()).ok_or(ManifestError::SizeOverflow)
}
