//! Container images: layers that lie over each other as a root filesystem.

use super::{ConfigUse, Content, Context, Family, Member, Members, Rules, TarPolicy, config, member};
use crate::attributes::TarMode;
use crate::descriptor::Descriptor;
use crate::document::Manifest;
use crate::layout::LayoutError;
use crate::naming;

/// image-spec media-types.md, and containerd/containerd core/images/mediatypes.go `MediaTypeDockerSchema2Config`.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

pub(super) const RULES: Rules = Rules {
    family: Family::Image,
    claims,
    config: ConfigUse::DiffIds,
    tar: TarMode::Expand,
    tars: TarPolicy::IMAGE,
    members,
};

/// The config alone says nothing: Ollama and others write an image's config for what is none.
fn claims(manifest: &Manifest) -> bool {
    CONFIGS.contains(&manifest.config.parsed_type().essence()) && manifest.layers.iter().any(is_part_of_root)
}

fn is_part_of_root(layer: &Descriptor) -> bool {
    let media_type = layer.parsed_type();
    let by_type =
        media_type.is_rootfs_layer() || media_type.filesystem().is_some() || media_type.is_encrypted();
    by_type && naming::annotated_names(layer).next().is_none()
}

fn members(context: &Context<'_>) -> Result<Members, LayoutError> {
    config::note_diff_ids(context, Family::Image, member::each(context, member)?)
}

fn member(number: usize, layer: &Descriptor) -> Result<Option<Member>, LayoutError> {
    let media_type = layer.parsed_type();
    if media_type.is_skippable() {
        return Ok(None);
    }
    let member = Member::of_any(number, layer)?;
    match &member {
        Some(Member { name: None, content: Content::File, .. }) if media_type.is_encrypted() => {
            Err(LayoutError::Encrypted { layer: naming::label(number, layer) })
        }
        _ => Ok(member),
    }
}
