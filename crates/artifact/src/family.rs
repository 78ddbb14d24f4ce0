//! Families of artifacts: who made it decides what its layers are called and what they hold.
//!
//! One file per family, one [`Rules`] in each, all of them in [`FAMILIES`]. A new family is a new file
//! and a new line.

mod attestation;
mod config;
mod docker_ai;
mod file_metadata;
mod helm;
mod image;
mod kitops;
mod member;
mod modelpack;
mod ollama;
mod oras;
mod raw_layer;
mod wasm;

use std::fmt;

pub(crate) use self::config::ConfigUse;
pub(crate) use self::member::{Content, Member, Members, Plain, TarShape};
use crate::attributes::TarMode;
use crate::descriptor::Descriptor;
use crate::document::Manifest;
use crate::layout::{LayoutError, SpecialPolicy, SymlinkPolicy};
use crate::media_type::MediaType;

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
    /// Models of Docker's model runner, `application/vnd.docker.ai.*`.
    DockerAi,
    /// Ollama's models, `application/vnd.ollama.image.*`.
    Ollama,
    /// `ModelKits` of `KitOps`, `application/vnd.kitops.modelkit.*`.
    KitOps,
    /// A Helm chart.
    Helm,
    /// A WebAssembly module or component.
    Wasm,
    /// In-toto statements, SBOMs, signatures and Sigstore bundles.
    Attestation,
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
            Self::DockerAi => "docker-ai",
            Self::Ollama => "ollama",
            Self::KitOps => "kitops",
            Self::Helm => "helm",
            Self::Wasm => "wasm",
            Self::Attestation => "attestation",
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
    /// What stands in the config blob.
    pub(crate) config: ConfigUse,
    /// What becomes of tars when the attribute `tar` does not say.
    pub(crate) tar: TarMode,
    /// What the tars of the family are.
    pub(crate) tars: TarPolicy,
    /// The layers that become something, in order.
    pub(crate) members: fn(&Context<'_>) -> Result<Members, LayoutError>,
}

impl Rules {
    /// The rules of a family that has nothing special but its members.
    const fn new(
        family: Family,
        claims: fn(&Manifest) -> bool,
        members: fn(&Context<'_>) -> Result<Members, LayoutError>,
    ) -> Self {
        Self {
            family,
            claims,
            config: ConfigUse::None,
            tar: TarMode::Expand,
            tars: TarPolicy::FILES,
            members,
        }
    }
}

/// What the tars of a family may hold.
#[derive(Clone, Copy)]
pub(crate) struct TarPolicy {
    pub(crate) whiteouts: bool,
    pub(crate) symlinks: SymlinkPolicy,
    pub(crate) specials: SpecialPolicy,
}

impl TarPolicy {
    /// Layers of a root filesystem.
    const IMAGE: Self =
        Self { whiteouts: true, symlinks: SymlinkPolicy::Verbatim, specials: SpecialPolicy::Skip };
    /// Directories of files.
    const FILES: Self =
        Self { whiteouts: false, symlinks: SymlinkPolicy::Inside, specials: SpecialPolicy::Refuse };
}

/// What the rules of a family may look at.
pub(crate) struct Context<'a> {
    pub(crate) manifest: &'a Manifest,
    /// The config blob, where the family asked for it.
    pub(crate) config: Option<&'a [u8]>,
}

/// Every family; the first that claims an artifact has it, and the last claims any.
const FAMILIES: [&Rules; 11] = [
    &modelpack::CURRENT,
    &modelpack::LEGACY,
    &docker_ai::RULES,
    &ollama::RULES,
    &kitops::RULES,
    &helm::RULES,
    &wasm::RULES,
    &attestation::RULES,
    &raw_layer::RULES,
    &image::RULES,
    &oras::RULES,
];

/// The rules for an artifact.
pub(crate) fn of(manifest: &Manifest) -> &'static Rules {
    FAMILIES.into_iter().find(|rules| (rules.claims)(manifest)).unwrap_or(&oras::RULES)
}

/// Whether the artifact type, the config or a layer is of a type with this prefix.
fn has_type_of(manifest: &Manifest, prefix: &str) -> bool {
    let heads = manifest.artifact_type.iter().chain([&manifest.config.media_type]);
    let mut types = heads.chain(manifest.layers.iter().map(|layer| &layer.media_type));
    types.any(|text| MediaType::of(text).essence().starts_with(prefix))
}

/// The layers that can become anything: all but the empty descriptor.
fn real_layers(manifest: &Manifest) -> impl Iterator<Item = (usize, &Descriptor)> {
    manifest.layers.iter().enumerate().filter(|(_, layer)| !layer.is_empty_descriptor())
}
