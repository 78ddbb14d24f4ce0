//! Models of Docker's model runner (docker/model-runner pkg/distribution/types/config.go).
//!
//! Version 0.2 gives every layer its path. Before, the kind of a layer decided its name; where the producer's own
//! unpacking takes a path all the same (pkg/distribution/internal/bundle/unpack.go), so do we.

use std::collections::BTreeMap;

use super::{Content, Context, Family, Members, Rules, TarShape};
use super::{file_metadata, has_type_of, member, real_layers};
use crate::descriptor::Descriptor;
use crate::document::Manifest;
use crate::layout::LayoutError;
use crate::naming;
use crate::relative_path::{PathError, RelativePath};

const PREFIX: &str = "application/vnd.docker.ai.";
const OLD_CONFIG: &str = "application/vnd.docker.ai.model.config.v0.1+json";

pub(super) const RULES: Rules =
    Rules::new(Family::DockerAi, |manifest| has_type_of(manifest, PREFIX), members);

/// What a kind of layer is called when its path does not count.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    /// How its media type goes on behind [`PREFIX`].
    prefix: &'static str,
    stem: &'static str,
    ending: &'static str,
    /// Whether several are the shards of one file, which loaders know by their names.
    is_sharded: bool,
    /// Whether a path counts in version 0.1 too.
    path_counts: bool,
}

const KINDS: [Kind; 6] = [
    Kind { prefix: "gguf", stem: "model", ending: ".gguf", is_sharded: true, path_counts: false },
    Kind {
        prefix: "safetensors",
        stem: "model",
        ending: ".safetensors",
        is_sharded: true,
        path_counts: true,
    },
    Kind { prefix: "dduf", stem: "model", ending: ".dduf", is_sharded: false, path_counts: true },
    Kind { prefix: "mmproj", stem: "mmproj", ending: ".gguf", is_sharded: false, path_counts: false },
    Kind {
        prefix: "chat.template",
        stem: "chat_template",
        ending: ".jinja",
        is_sharded: false,
        path_counts: false,
    },
    Kind { prefix: "license", stem: "LICENSE", ending: "", is_sharded: false, path_counts: false },
];

impl Kind {
    fn of(layer: &Descriptor) -> Option<Self> {
        let media_type = layer.parsed_type();
        let rest = media_type.essence().strip_prefix(PREFIX)?;
        KINDS.into_iter().find(|kind| rest.starts_with(kind.prefix))
    }

    fn name(self, index: usize, count: usize) -> Result<RelativePath, PathError> {
        if self.is_sharded && count > 1 {
            RelativePath::parse(&format!("{}-{:05}-of-{count:05}{}", self.stem, index + 1, self.ending))
        } else {
            naming::numbered(self.stem, self.ending, index, count)
        }
    }
}

fn members(context: &Context<'_>) -> Result<Members, LayoutError> {
    let names = names(context.manifest)?;
    let mut found = member::named_or_any(context, &names)?;
    for member in &mut found.members {
        let layer = &context.manifest.layers[member.number];
        let media_type = layer.parsed_type();
        // `…dir.tar` and `…vllm.config.tar` are unpacked side by side, whatever path they carry.
        if media_type.is_tar() && media_type.essence().starts_with(PREFIX) {
            member.content = Content::Tar(TarShape::plain(media_type.codec()));
        }
        file_metadata::apply(member, layer)?;
    }
    Ok(found)
}

/// The names of layers whose kind decides; the other layers have a path that counts, or none at all.
fn names(manifest: &Manifest) -> Result<BTreeMap<usize, RelativePath>, LayoutError> {
    let is_old = is_old(manifest);
    let mut names = BTreeMap::new();
    for kind in KINDS {
        let of_kind: Vec<_> =
            real_layers(manifest).filter(|(_, layer)| Kind::of(layer) == Some(kind)).collect();
        for (index, (number, layer)) in of_kind.iter().enumerate() {
            let path_counts = kind.path_counts || !is_old;
            if path_counts && naming::annotated_names(layer).next().is_some() {
                continue;
            }
            let name = kind.name(index, of_kind.len());
            names.insert(*number, name.map_err(|source| naming::unnameable(*number, layer, source))?);
        }
    }
    Ok(names)
}

fn is_old(manifest: &Manifest) -> bool {
    manifest.config.parsed_type().essence() == OLD_CONFIG
}
