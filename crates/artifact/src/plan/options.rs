//! What a volume's author, and the node's administrator, say about the files of a volume.

use crate::attributes::{LayoutMode, TarMode, VolumeAttributes};
use crate::descriptor::Descriptor;
use crate::family::Rules;
use crate::file_choice::FileChoice;
use crate::reference::Reference;
use crate::relative_path::RelativePath;

/// What the attributes say about the files of a volume, and what the node adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Globs of the files to take; all when empty.
    pub include: Vec<String>,
    /// Globs of the files to leave out.
    pub exclude: Vec<String>,
    /// The directory that becomes the root.
    pub sub_path: Option<RelativePath>,
    /// The explicit choice of files.
    pub files: Option<Vec<FileChoice>>,
    /// The shape of the volume.
    pub layout: LayoutMode,
    /// What becomes of tars; the family decides when nothing is said.
    pub tar: Option<TarMode>,
    /// What the artifact was asked for by, which `layout: ollama` needs for the model's name.
    pub reference: Option<Reference>,
    /// The entry of the index that led to the manifest, which `layout: oci` repeats.
    pub index_entry: Option<Descriptor>,
    /// Whether the administrator lets the kernel mount filesystem images that strangers made.
    pub allow_filesystem_layers: bool,
}

impl PlanOptions {
    pub(crate) fn tar_mode(&self, rules: &Rules) -> TarMode {
        self.tar.unwrap_or(rules.tar)
    }
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            sub_path: None,
            files: None,
            layout: LayoutMode::Files,
            tar: None,
            reference: None,
            index_entry: None,
            allow_filesystem_layers: false,
        }
    }
}

impl From<&VolumeAttributes> for PlanOptions {
    fn from(attributes: &VolumeAttributes) -> Self {
        Self {
            include: attributes.include.clone(),
            exclude: attributes.exclude.clone(),
            sub_path: attributes.sub_path.clone(),
            files: attributes.files.clone(),
            layout: attributes.layout,
            tar: attributes.tar,
            reference: Some(attributes.reference.clone()),
            index_entry: None,
            allow_filesystem_layers: false,
        }
    }
}
