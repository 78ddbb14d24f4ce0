//! Ollama's models (ollama/ollama server/images.go, `GetModel`, and manifest/layer.go).
//!
//! The kind of a layer is its name. Tensors, and the files of a model that is stored tensor by tensor, have a `name` in
//! their descriptor. Ollama writes no annotations; whoever pushes its layers with another tool gets the same names.

use std::collections::BTreeMap;

use super::{Context, Family, Members, Rules, has_type_of, member, real_layers};
use crate::descriptor::Descriptor;
use crate::layout::LayoutError;
use crate::naming;
use crate::relative_path::RelativePath;

const PREFIX: &str = "application/vnd.ollama.image.";

/// Kinds of layers by what follows [`PREFIX`], with the name of their file.
const KINDS: [(&str, &str, &str); 11] = [
    ("model", "model", ".gguf"),
    ("projector", "projector", ".gguf"),
    ("adapter", "adapter", ".gguf"),
    ("draft", "draft", ".gguf"),
    ("template", "template", ""),
    ("prompt", "prompt", ""),
    ("system", "system", ""),
    ("params", "params", ".json"),
    ("messages", "messages", ".json"),
    ("license", "LICENSE", ""),
    ("embed", "embed", ""),
];

pub(super) const RULES: Rules = Rules::new(Family::Ollama, |manifest| has_type_of(manifest, PREFIX), members);

fn members(context: &Context<'_>) -> Result<Members, LayoutError> {
    let mut names = BTreeMap::new();
    let mut alike: [Vec<(usize, &Descriptor)>; KINDS.len()] = std::array::from_fn(|_| Vec::new());
    for (number, layer) in real_layers(context.manifest) {
        if let Some(name) = layer.name.as_deref().filter(|name| !name.is_empty()) {
            names.insert(number, own_name(number, layer, name)?);
        } else if let Some(kind) = kind_of(layer) {
            alike[kind].push((number, layer));
        }
    }
    for ((_, stem, ending), layers) in KINDS.into_iter().zip(&alike) {
        for (index, (number, layer)) in layers.iter().enumerate() {
            let name = naming::numbered(stem, ending, index, layers.len());
            names.insert(*number, name.map_err(|source| naming::unnameable(*number, layer, source))?);
        }
    }
    member::named_or_any(context, &names)
}

fn own_name(number: usize, layer: &Descriptor, name: &str) -> Result<RelativePath, LayoutError> {
    RelativePath::parse(name).map_err(|source| LayoutError::Named {
        layer: naming::label(number, layer),
        by: "the `name` of its descriptor",
        source,
    })
}

/// The place of a layer's kind in [`KINDS`].
fn kind_of(layer: &Descriptor) -> Option<usize> {
    let media_type = layer.parsed_type();
    let rest = media_type.essence().strip_prefix(PREFIX)?;
    KINDS.iter().position(|(kind, ..)| *kind == rest)
}
