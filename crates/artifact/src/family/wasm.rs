//! WebAssembly modules and components.
//!
//! Types by the CNCF's layout, `application/vnd.wasm.config.v0+json` and `application/wasm`
//! (bytecodealliance/rust-oci-wasm src/lib.rs), and those from before it, `…wasm.content.layer.v1+wasm`
//! (sigstore/cosign pkg/types/media.go, `WasmLayerMediaType`).

use super::{Context, Family, Member, Members, Rules, member};
use crate::descriptor::Descriptor;
use crate::document::Manifest;
use crate::layout::LayoutError;
use crate::naming;

/// `vnd.wasm.config.v0`, `vnd.wasm.config.v1`, `vnd.module.wasm.config.v1`.
const CONFIG: &str = ".wasm.config.";
const LAYER: &str = "application/wasm";
const LAYER_SUFFIX: &str = "+wasm";

pub(super) const RULES: Rules = Rules::new(Family::Wasm, claims, members);

fn claims(manifest: &Manifest) -> bool {
    let config = manifest.config.parsed_type();
    config.essence().starts_with("application/vnd.") && config.essence().contains(CONFIG)
}

fn is_module(layer: &Descriptor) -> bool {
    let media_type = layer.parsed_type();
    media_type.essence() == LAYER || media_type.essence().ends_with(LAYER_SUFFIX)
}

fn members(context: &Context<'_>) -> Result<Members, LayoutError> {
    let mut found = member::any_members(context)?;
    let layers = &context.manifest.layers;
    let nameless = |member: &Member| member.name.is_none() && is_module(&layers[member.number]);
    let count = found.members.iter().filter(|member| nameless(member)).count();
    for (index, member) in found.members.iter_mut().filter(|member| nameless(member)).enumerate() {
        let name = naming::numbered("module", ".wasm", index, count);
        let layer = &layers[member.number];
        member.name = Some(name.map_err(|source| naming::unnameable(member.number, layer, source))?);
    }
    Ok(found)
}
