//! The pure half of Stowage: what an OCI artifact is and which files a volume made of it holds.
//!
//! Foreign text becomes a type here, once: [`Reference`], [`Digest`], [`Document`], [`RelativePath`],
//! [`VolumeAttributes`]. [`plan`] then turns a manifest into a [`Layout`]. Nothing in this crate
//! reads a file, opens a socket or waits.
#![forbid(unsafe_code)]

mod attributes;
mod codec;
mod descriptor;
pub mod digest;
mod document;
mod excerpt;
mod family;
mod file_choice;
mod index_depth;
mod layout;
mod media_type;
mod name_glob;
mod naming;
mod oci_layout;
mod ollama_layout;
mod patterns;
mod plan;
mod platform;
mod reference;
mod reference_policy;
mod relative_path;
mod select;

pub use attributes::{AttributeError, LayoutMode, PullPolicy, TarMode, VariantChoice, VolumeAttributes};
pub use codec::Codec;
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use document::{
    Document, Index, MAX_CONFIG_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES, Manifest, ManifestError, media_types,
};
pub use family::Family;
pub use file_choice::{FileChoice, FileSelect};
pub use index_depth::{IndexDepth, MAX_INDEX_DEPTH, TooDeep};
pub use layout::{
    CanonicalLayout, Decoded, EXECUTABLE_MODE, Entry, FILE_MODE, FilesystemKind, FilesystemLayer, Layout,
    LayoutBuilder, LayoutError, MAX_COPIES_OF_A_DIGEST, MemberFilter, Source, SpecialPolicy, SymlinkPolicy,
    TarLayer,
};
pub use name_glob::{covers_reference, covers_repository};
pub use plan::{Excluded, Plan, PlanOptions, needs_config, plan};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use reference_policy::{PolicyError, ReferencePolicy};
pub use relative_path::{PathError, RelativePath};
pub use select::SelectError;
