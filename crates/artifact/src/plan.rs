//! From a manifest to the files of a volume.

use crate::attributes::{LayoutMode, TarMode, VolumeAttributes};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::document::{MAX_CONFIG_BYTES, Manifest};
use crate::excerpt::excerpt;
use crate::family::{self, Content, Context, Family, Member};
use crate::file_choice::FileChoice;
use crate::layout::{Layout, LayoutBuilder, LayoutError};
use crate::naming;
use crate::oci_layout;
use crate::patterns::Patterns;
use crate::relative_path::{PathError, RelativePath};

/// What the attributes say about the files of a volume.
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
    /// What becomes of tars.
    pub tar: TarMode,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            sub_path: None,
            files: None,
            layout: LayoutMode::Files,
            tar: TarMode::Expand,
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
        }
    }
}

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
pub fn needs_config(manifest: &Manifest, options: &PlanOptions) -> bool {
    options.layout == LayoutMode::Files && options.files.is_none() && family::of(manifest).needs_config
}

/// Works out the files of a volume; `config` is needed where [`needs_config`] says so.
pub fn plan(manifest: &Manifest, config: Option<&[u8]>, options: &PlanOptions) -> Result<Plan, LayoutError> {
    let family = family::of(manifest).family;
    match options.layout {
        LayoutMode::Files => {}
        LayoutMode::Oci => {
            let layout = oci_layout::layout(manifest)?;
            return Ok(Plan { family, layout, excluded: Vec::new(), notes: Vec::new() });
        }
        layout @ LayoutMode::Ollama => return Err(LayoutError::Unsupported { layout }),
    }
    let mut planner = Planner::new(manifest, options)?;
    let members = match &options.files {
        Some(choices) => planner.chosen(choices)?,
        None => members_by_family(manifest, config, options)?,
    };
    planner.note_missing_names(&members);
    let only_nameless = planner.has_one_nameless(&members);
    for member in &members {
        planner.place(member, only_nameless)?;
    }
    planner.finish(family)
}

fn members_by_family(
    manifest: &Manifest,
    config: Option<&[u8]>,
    options: &PlanOptions,
) -> Result<Vec<Member>, LayoutError> {
    if needs_config(manifest, options) {
        let bytes = config.map_or(manifest.config.size, |config| config.len() as u64);
        if bytes > MAX_CONFIG_BYTES {
            return Err(LayoutError::LargeConfig { bytes });
        }
        if config.is_none() {
            return Err(LayoutError::NoConfig);
        }
    }
    (family::of(manifest).members)(&Context { manifest, config })
}

/// A volume's files in the making.
struct Planner<'a> {
    manifest: &'a Manifest,
    options: &'a PlanOptions,
    include: Patterns,
    exclude: Patterns,
    builder: LayoutBuilder,
    excluded: Vec<Excluded>,
    notes: Vec<String>,
    /// Whether any file lies beneath the sub-path, left out or not.
    sub_path_seen: bool,
    /// How many files the artifact has.
    files: usize,
}

impl<'a> Planner<'a> {
    fn new(manifest: &'a Manifest, options: &'a PlanOptions) -> Result<Self, LayoutError> {
        let compile = |patterns: &[String]| {
            Patterns::compile(patterns).map_err(|error| LayoutError::Pattern { why: error.to_string() })
        };
        Ok(Self {
            manifest,
            options,
            include: compile(&options.include)?,
            exclude: compile(&options.exclude)?,
            builder: Layout::builder(),
            excluded: Vec::new(),
            notes: Vec::new(),
            sub_path_seen: false,
            files: 0,
        })
    }

    /// The layers that the user chose; every other one is left out. What was chosen is a file, tar or not.
    fn chosen(&mut self, choices: &[FileChoice]) -> Result<Vec<Member>, LayoutError> {
        let mut members = Vec::with_capacity(choices.len());
        let mut used = vec![false; self.manifest.layers.len()];
        for choice in choices {
            let number = self.find(choice)?;
            let media_type = self.manifest.layers[number].parsed_type();
            let content = match media_type.codec() {
                Some(codec) if !media_type.is_tar() => Content::Compressed(codec),
                _ => Content::File,
            };
            used[number] = true;
            members.push(Member { number, name: Some(choice.path.clone()), content, executable: false });
        }
        for (number, layer) in self.manifest.layers.iter().enumerate() {
            if !used[number] && !layer.is_empty_descriptor() {
                let name = naming::annotated_names(layer).next().map(excerpt);
                self.leave_out(name.unwrap_or_else(|| naming::label(number, layer)), layer);
            }
        }
        Ok(members)
    }

    fn find(&self, choice: &FileChoice) -> Result<usize, LayoutError> {
        let fits = |(number, layer): (usize, &'a Descriptor)| {
            (!layer.is_empty_descriptor() && choice.select.matches(layer)).then_some((number, layer))
        };
        let found: Vec<_> = self.manifest.layers.iter().enumerate().filter_map(fits).collect();
        let (path, select) = (choice.path.clone(), choice.select.to_string());
        match found[..] {
            [] => Err(LayoutError::NoSuchLayer { path, select }),
            // The same blob twice leaves no doubt about the bytes.
            [(number, first), ..] if found.iter().all(|(_, layer)| layer.digest == first.digest) => {
                Ok(number)
            }
            _ => Err(LayoutError::ManySuchLayers { path, select, count: found.len() }),
        }
    }

    /// Whether a member becomes one file under the `tar` attribute.
    fn is_one_file(&self, member: &Member) -> bool {
        !matches!(member.content, Content::Tar(_)) || self.options.tar == TarMode::File
    }

    fn has_one_nameless(&self, members: &[Member]) -> bool {
        let nameless = members.iter().filter(|member| member.name.is_none() && self.is_one_file(member));
        let mut digests = nameless.map(|member| &self.manifest.layers[member.number].digest);
        digests.next().is_some_and(|first| digests.all(|digest| digest == first))
    }

    fn note_missing_names(&mut self, members: &[Member]) {
        let nameless = members.iter().filter(|member| member.name.is_none()).count();
        if nameless == 0 {
            return;
        }
        match family::of_a_later_version(self.manifest) {
            Some(kind) => self.notes.push(format!(
                "this is {kind}, for which this version has no names of its own: choose names with `files`"
            )),
            None => self.notes.push(format!("{nameless} of the artifact's layers have no name of their own")),
        }
    }

    fn place(&mut self, member: &Member, only_nameless: bool) -> Result<(), LayoutError> {
        let layer = &self.manifest.layers[member.number];
        let label = naming::label(member.number, layer);
        if !self.is_one_file(member) {
            return self.place_tar(member, layer, label);
        }
        let path = file_path(member, layer, only_nameless)
            .map_err(|source| LayoutError::Name { layer: label.clone(), source })?;
        let Some(path) = self.filter(&path, layer)? else { return Ok(()) };
        match member.content {
            Content::File | Content::Tar(_) => {}
            Content::Compressed(codec) => {
                return Err(LayoutError::NeedsDecoding { layer: label, codec: codec.as_str() });
            }
            Content::Filesystem => return Err(LayoutError::FilesystemLayer { layer: label }),
        }
        self.builder.raw(path, layer.digest.clone(), layer.size, member.executable, &label)?;
        if let Some(data) = &layer.data {
            self.builder.inline(layer.digest.clone(), data.clone());
        }
        Ok(())
    }

    /// A tar that would be many files, whose paths are unknown here: only the whole can be left out by its name.
    fn place_tar(&mut self, member: &Member, layer: &Descriptor, label: String) -> Result<(), LayoutError> {
        match &member.name {
            Some(name) if self.exclude.fits(name) => {
                self.files += 1;
                self.leave_out(name.to_string(), layer);
                Ok(())
            }
            _ if self.options.tar == TarMode::Reject => Err(LayoutError::TarRejected { layer: label }),
            _ => Err(LayoutError::NeedsTarView { layer: label }),
        }
    }

    /// The path inside the volume, or nothing when the attributes leave the file out.
    fn filter(
        &mut self,
        path: &RelativePath,
        layer: &Descriptor,
    ) -> Result<Option<RelativePath>, LayoutError> {
        self.files += 1;
        let inside = match &self.options.sub_path {
            None => Some(path.clone()),
            Some(sub_path) if path == sub_path => {
                return Err(LayoutError::SubPathIsFile { sub_path: sub_path.clone() });
            }
            Some(sub_path) => path.relative_to(sub_path),
        };
        self.sub_path_seen |= inside.is_some();
        let taken = (self.include.is_empty() || self.include.fits(path)) && !self.exclude.fits(path);
        let inside = inside.filter(|_| taken);
        if inside.is_none() {
            self.leave_out(path.to_string(), layer);
        }
        Ok(inside)
    }

    fn leave_out(&mut self, path: String, layer: &Descriptor) {
        self.excluded.push(Excluded { path, digest: layer.digest.clone(), size: layer.size });
    }

    fn finish(self, family: Family) -> Result<Plan, LayoutError> {
        if self.builder.is_empty() {
            return Err(match &self.options.sub_path {
                _ if self.files == 0 => LayoutError::NoFiles { kind: excerpt(self.manifest.kind()) },
                Some(sub_path) if !self.sub_path_seen => {
                    LayoutError::NoSubPath { sub_path: sub_path.clone() }
                }
                _ => LayoutError::NothingLeft { files: self.files },
            });
        }
        Ok(Plan { family, layout: self.builder.finish()?, excluded: self.excluded, notes: self.notes })
    }
}

/// Where a member that is one file stands in the artifact.
fn file_path(member: &Member, layer: &Descriptor, only_nameless: bool) -> Result<RelativePath, PathError> {
    match (&member.name, member.content) {
        (Some(name), Content::Tar(codec)) => naming::with_tar_ending(name, codec),
        (Some(name), _) => Ok(name.clone()),
        (None, Content::Tar(codec)) => {
            naming::nameless(&layer.digest, only_nameless, naming::tar_ending(codec))
        }
        (None, _) => naming::nameless(&layer.digest, only_nameless, layer.parsed_type().ending()),
    }
}
