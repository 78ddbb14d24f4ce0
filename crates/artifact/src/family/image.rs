//! Container images: tars that lie over each other as a root filesystem.

use super::{Family, Rules};
use crate::document::Manifest;
use crate::naming;

const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

pub(super) const RULES: Rules =
    Rules { family: Family::Image, claims, needs_config: false, members: super::any_members };

/// The config alone says nothing: Ollama and others write an image's config for what is none.
fn claims(manifest: &Manifest) -> bool {
    CONFIGS.contains(&manifest.config.parsed_type().essence())
        && manifest.layers.iter().any(|layer| {
            layer.parsed_type().is_rootfs_layer() && naming::annotated_names(layer).next().is_none()
        })
}
