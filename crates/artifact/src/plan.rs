//! From a manifest to the files of a volume.

mod options;
mod planner;

pub use self::options::PlanOptions;
use self::planner::Planner;
use crate::attributes::{LayoutMode, TarMode};
use crate::digest::Digest;
use crate::document::{MAX_CONFIG_BYTES, Manifest};
use crate::family::{self, ConfigUse, Context, Family, Members, Rules};
use crate::layout::{Layout, LayoutError};
use crate::oci_layout;
use crate::ollama_layout;

/// What becomes of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whose rules were used.
    pub family: Family,
    /// The files of the volume.
    pub layout: Layout,
    /// What the attributes leave out; such a blob is never fetched unless another path has it too.
    pub excluded: Vec<Excluded>,
    /// What a person should know about the choice, one sentence each.
    pub notes: Vec<String>,
}

/// A layer that the attributes leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// The path that it would have had, or the layer where it has none.
    pub path: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Whether [`plan`] must be given the config blob.
///
/// For families whose names stand there it must; where there are only the digests of decoded layers it helps, so it is
/// wanted when something will be decoded and the blob is small enough to be read.
pub fn needs_config(manifest: &Manifest, options: &PlanOptions) -> bool {
    let rules = family::of(manifest);
    if options.layout != LayoutMode::Files || options.files.is_some() {
        return false;
    }
    match rules.config {
        ConfigUse::None => false,
        ConfigUse::Names => true,
        ConfigUse::DiffIds => {
            let config = &manifest.config;
            let has_list = !config.is_empty_descriptor() && !config.is_empty_object();
            has_list && config.size <= MAX_CONFIG_BYTES && decodes_something(manifest, rules, options)
        }
    }
}

fn decodes_something(manifest: &Manifest, rules: &Rules, options: &PlanOptions) -> bool {
    let expands = options.tar_mode(rules) == TarMode::Expand;
    manifest.layers.iter().any(|layer| {
        let media_type = layer.parsed_type();
        media_type.codec().is_some() && (expands || !media_type.is_tar())
    })
}

/// Works out the files of a volume; `config` is needed where [`needs_config`] says so.
pub fn plan(manifest: &Manifest, config: Option<&[u8]>, options: &PlanOptions) -> Result<Plan, LayoutError> {
    let rules = family::of(manifest);
    let fixed = |layout: Layout, notes: Vec<String>| Plan {
        family: rules.family,
        layout,
        excluded: Vec::new(),
        notes,
    };
    match options.layout {
        LayoutMode::Files => {}
        LayoutMode::Oci => {
            let layout = oci_layout::layout(manifest, options.index_entry.as_ref())?;
            return Ok(fixed(layout, Vec::new()));
        }
        LayoutMode::Ollama => {
            let reference = options.reference.as_ref().ok_or(LayoutError::NoReference)?;
            let (layout, note) = ollama_layout::layout(manifest, rules.family, reference)?;
            return Ok(fixed(layout, vec![note]));
        }
    }
    let mut planner = Planner::new(manifest, options, rules)?;
    let Members { members, notes } = match &options.files {
        Some(choices) => planner.chosen(choices)?.into(),
        None => members_by_family(manifest, config, options, rules)?,
    };
    planner.note(notes, &members);
    let only_nameless = planner.has_one_nameless(&members);
    for member in &members {
        planner.place(member, only_nameless)?;
    }
    planner.finish()
}

fn members_by_family(
    manifest: &Manifest,
    config: Option<&[u8]>,
    options: &PlanOptions,
    rules: &Rules,
) -> Result<Members, LayoutError> {
    let config = if needs_config(manifest, options) {
        let bytes = config.map_or(manifest.config.size, |config| config.len() as u64);
        if bytes > MAX_CONFIG_BYTES {
            return Err(LayoutError::LargeConfig { bytes });
        }
        Some(config.ok_or(LayoutError::NoConfig)?)
    } else {
        None
    };
    (rules.members)(&Context { manifest, config })
}
