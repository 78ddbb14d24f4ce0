//! Families of artifacts: who made it decides what its layers are called and what they hold.
//!
//! One file per family, one [`Rules`] in each, all of them in [`FAMILIES`]. A new family is a new file
//! and a new line.

mod image;
mod modelpack;
mod oras;
mod raw_layer;

use std::fmt;

use crate::descriptor::Descriptor;
use crate::document::Manifest;
use crate::layout::LayoutError;
use crate::media_type::{Codec, MediaType};
use crate::naming;
use crate::relative_path::RelativePath;

/// Whose rules named the files of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Any artifact that belongs to no other family; names are titles.
    Oras,
    /// Raw layers as proposed in image-spec pull request 1197.
    RawLayer,
    /// ModelPack of the CNCF, `application/vnd.cncf.model.*`.
    ModelPack,
    /// ModelPack under its former name, `application/vnd.cnai.model.*`.
    ModelPackLegacy,
    /// A container image, whose layers are a root filesystem.
    Image,
}

impl Family {
    /// A short name for people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oras => "oras",
            Self::RawLayer => "raw-layer",
            Self::ModelPack => "modelpack",
            Self::ModelPackLegacy => "modelpack-legacy",
            Self::Image => "image",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a family knows about its artifacts.
pub(crate) struct Rules {
    pub(crate) family: Family,
    /// Whether an artifact is one of the family's.
    pub(crate) claims: fn(&Manifest) -> bool,
    /// Whether the names stand in the config blob.
    pub(crate) needs_config: bool,
    /// The layers that become something, in order.
    pub(crate) members: fn(&Context<'_>) -> Result<Vec<Member>, LayoutError>,
}

/// What the rules of a family may look at.
pub(crate) struct Context<'a> {
    pub(crate) manifest: &'a Manifest,
    /// The config blob, where the family asked for it. No family of this version reads it.
    #[expect(dead_code, reason = "the families that take names from the config read it")]
    pub(crate) config: Option<&'a [u8]>,
}

/// One layer and what it becomes.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its place in the manifest.
    pub(crate) number: usize,
    /// Its path, or nothing when the artifact gives it no name.
    pub(crate) name: Option<RelativePath>,
    pub(crate) content: Content,
    /// Whether the artifact calls it executable.
    pub(crate) executable: bool,
}

/// What the bytes of a layer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A file as it is.
    File,
    /// A tar whose members are files.
    Tar(Option<Codec>),
    /// A file behind a codec.
    Compressed(Codec),
    /// A filesystem image without a name.
    Filesystem,
}

/// Every family; the first that claims an artifact has it, and the last claims any.
const FAMILIES: [&Rules; 5] =
    [&modelpack::CURRENT, &modelpack::LEGACY, &raw_layer::RULES, &image::RULES, &oras::RULES];

/// Makers whose own names come with a later version; until then their artifacts are like any other.
const LATER: [(&str, &str); 7] = [
    ("application/vnd.ollama.", "an Ollama model"),
    ("application/vnd.docker.ai.", "a Docker AI model"),
    ("application/vnd.kitops.", "a KitOps kit"),
    ("application/vnd.cncf.helm.", "a Helm chart"),
    ("application/vnd.wasm.", "a WASM module"),
    ("application/vnd.in-toto+json", "an in-toto statement"),
    ("application/vnd.dev.sigstore.", "a signature"),
];

/// The rules for an artifact.
pub(crate) fn of(manifest: &Manifest) -> &'static Rules {
    FAMILIES.into_iter().find(|rules| (rules.claims)(manifest)).unwrap_or(&oras::RULES)
}

/// What an artifact is by a rule that this version does not have yet.
pub(crate) fn of_a_later_version(manifest: &Manifest) -> Option<&'static str> {
    let types = all_types(manifest);
    types.iter().find_map(|found| {
        LATER.iter().find(|(prefix, _)| found.essence().starts_with(prefix)).map(|(_, name)| *name)
    })
}

/// The artifact type, the type of the config and those of the layers.
fn all_types(manifest: &Manifest) -> Vec<MediaType> {
    let heads = manifest.artifact_type.iter().chain([&manifest.config.media_type]);
    heads
        .chain(manifest.layers.iter().map(|layer| &layer.media_type))
        .map(|text| MediaType::of(text))
        .collect()
}

/// The layers that can become anything: all but the empty descriptor.
fn real_layers(manifest: &Manifest) -> impl Iterator<Item = (usize, &Descriptor)> {
    manifest.layers.iter().enumerate().filter(|(_, layer)| !layer.is_empty_descriptor())
}

/// What a layer becomes by the rules for any artifact; nothing for `{}` without a name.
fn any_member(number: usize, layer: &Descriptor) -> Result<Option<Member>, LayoutError> {
    let name = naming::path_of(number, layer)?;
    if name.is_none() && layer.is_empty_object() {
        return Ok(None);
    }
    let media_type = layer.parsed_type();
    let content = if layer.annotation("io.deis.oras.content.unpack") == Some("true") {
        // ORAS packs directories with gzip, whatever type it was told to write.
        Content::Tar(media_type.codec().or(Some(Codec::Gzip)))
    } else if media_type.is_tar() {
        // ORAS labels plain files with the type of a tar; a name says that this is one.
        if name.is_some() { Content::File } else { Content::Tar(media_type.codec()) }
    } else if let Some(codec) = media_type.codec() {
        Content::Compressed(codec)
    } else if media_type.is_filesystem() && name.is_none() {
        Content::Filesystem
    } else {
        Content::File
    };
    Ok(Some(Member { number, name, content, executable: false }))
}

/// [`any_member`] for every layer.
fn any_members(context: &Context<'_>) -> Result<Vec<Member>, LayoutError> {
    real_layers(context.manifest)
        .filter_map(|(number, layer)| any_member(number, layer).transpose())
        .collect()
}
