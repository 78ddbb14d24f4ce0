//! Raw layers (opencontainers/image-spec pull request 1197): a layer is a file, and an annotation is its path in the
//! image. Other layers of such an image are its tars.

use super::{Family, Rules, TarPolicy, member};
use crate::document::Manifest;

const RAW_LAYER: &str = "application/vnd.oci.image.layer.v1.raw";

pub(super) const RULES: Rules =
    Rules { tars: TarPolicy::IMAGE, ..Rules::new(Family::RawLayer, claims, member::any_members) };

fn claims(manifest: &Manifest) -> bool {
    manifest.layers.iter().any(|layer| {
        let media_type = layer.parsed_type();
        let rest = media_type.essence().strip_prefix(RAW_LAYER);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
    })
}
