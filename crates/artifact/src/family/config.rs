//! What the families read in config blobs.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Context, Family, Members};
use crate::digest::Digest;
use crate::excerpt::excerpt;
use crate::layout::LayoutError;

/// Why a family wants the config blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigUse {
    /// It does not.
    None,
    /// The digests of decoded layers stand there, by which decoding is checked.
    DiffIds,
    /// The names of the files stand there.
    Names,
}

/// The lists of digests of decoded layers, under the names that the families give them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DiffIds {
    /// image-spec, config.md; Docker's model runner writes the same (docker/model-runner pkg/distribution/types/config.go).
    rootfs: Option<RootFs>,
    /// modelpack/model-spec docs/config.md.
    modelfs: Option<ModelFs>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ModelFs {
    #[serde(default, rename = "diffIds")]
    diff_ids: Option<Vec<String>>,
}

/// Reads the config blob of an artifact as JSON.
pub(super) fn read<T: DeserializeOwned>(context: &Context<'_>, family: Family) -> Result<T, LayoutError> {
    let bytes = context.config.ok_or(LayoutError::NoConfig)?;
    serde_json::from_slice(bytes)
        .map_err(|error| LayoutError::Config { family, why: excerpt(&error.to_string()) })
}

/// Notes the claimed digests of decoded layers, where the config has them.
///
/// They only add to the digests of the layers as they are served, so a list that says nothing usable is left alone,
/// except in an image, where the specification leaves no room.
pub(super) fn note_diff_ids(
    context: &Context<'_>,
    family: Family,
    mut members: Members,
) -> Result<Members, LayoutError> {
    if context.config.is_none() {
        return Ok(members);
    }
    let DiffIds { rootfs, modelfs } = read(context, family)?;
    let listed = rootfs.and_then(|rootfs| rootfs.diff_ids);
    let Some(listed) = listed.or_else(|| modelfs.and_then(|modelfs| modelfs.diff_ids)) else {
        return Ok(members);
    };
    let layers = &context.manifest.layers;
    if listed.len() != layers.len() {
        let (layers, diff_ids) = (layers.len(), listed.len());
        if family == Family::Image {
            return Err(LayoutError::DiffIds { layers, diff_ids });
        }
        if diff_ids > 0 {
            members.notes.push(format!(
                "the config lists {diff_ids} digests of decoded layers for {layers} layers, so they were not used"
            ));
        }
        return Ok(members);
    }
    for member in &mut members.members {
        let layer = &layers[member.number];
        let digest: Result<Digest, _> = listed[member.number].parse();
        let digest = digest.map_err(|error| LayoutError::Config { family, why: error.to_string() })?;
        // modelpack/modctl pkg/backend/build/builder.go lists the layers' own digests; no blob decodes to itself.
        let is_own = digest == layer.digest && layer.parsed_type().codec().is_some();
        member.plain.digest = (!is_own).then_some(digest);
    }
    Ok(members)
}
