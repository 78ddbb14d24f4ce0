//! A volume's files in the making.

use super::{Excluded, Plan, PlanOptions};
use crate::attributes::TarMode;
use crate::codec::Codec;
use crate::descriptor::Descriptor;
use crate::document::Manifest;
use crate::excerpt::excerpt;
use crate::family::{Content, Member, Plain, Rules, TarShape};
use crate::file_choice::FileChoice;
use crate::layout::{
    Decoded, FilesystemKind, FilesystemLayer, Layout, LayoutBuilder, LayoutError, MemberFilter, TarLayer,
};
use crate::naming;
use crate::patterns::Patterns;
use crate::relative_path::{PathError, RelativePath};

/// Places the members of an artifact one by one.
pub(super) struct Planner<'a> {
    manifest: &'a Manifest,
    options: &'a PlanOptions,
    rules: &'a Rules,
    filter: MemberFilter,
    builder: LayoutBuilder,
    excluded: Vec<Excluded>,
    notes: Vec<String>,
    /// Whether any file lies beneath the sub-path, left out or not.
    sub_path_seen: bool,
    /// How many files the artifact has; a tar that is left out counts as one.
    files: usize,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        manifest: &'a Manifest,
        options: &'a PlanOptions,
        rules: &'a Rules,
    ) -> Result<Self, LayoutError> {
        let compile = |patterns: &[String]| {
            Patterns::compile(patterns).map_err(|error| LayoutError::Pattern { why: error.to_string() })
        };
        let (include, exclude) = (compile(&options.include)?, compile(&options.exclude)?);
        Ok(Self {
            manifest,
            options,
            rules,
            filter: MemberFilter::new(include, exclude, options.sub_path.clone()),
            builder: Layout::builder(),
            excluded: Vec::new(),
            notes: Vec::new(),
            sub_path_seen: false,
            files: 0,
        })
    }

    /// The layers that the user chose; every other one is left out. What was chosen is a file, tar or not.
    pub(super) fn chosen(&mut self, choices: &[FileChoice]) -> Result<Vec<Member>, LayoutError> {
        let mut members = Vec::with_capacity(choices.len());
        let mut used = vec![false; self.manifest.layers.len()];
        for choice in choices {
            let number = self.find(choice)?;
            used[number] = true;
            members.push(Member::chosen(number, &self.manifest.layers[number], choice.path.clone()));
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

    fn tar_mode(&self) -> TarMode {
        self.options.tar_mode(self.rules)
    }

    /// Whether a member becomes one file.
    fn is_one_file(&self, member: &Member) -> bool {
        match member.content {
            Content::File | Content::Compressed(_) => true,
            Content::Tar(_) => self.tar_mode() == TarMode::File,
            Content::Filesystem(..) => !self.options.allow_filesystem_layers,
        }
    }

    pub(super) fn has_one_nameless(&self, members: &[Member]) -> bool {
        let nameless = members.iter().filter(|member| member.name.is_none() && self.is_one_file(member));
        let mut digests = nameless.map(|member| &self.manifest.layers[member.number].digest);
        digests.next().is_some_and(|first| digests.all(|digest| digest == first))
    }

    pub(super) fn note(&mut self, notes: Vec<String>, members: &[Member]) {
        self.notes.extend(notes);
        let nameless =
            members.iter().filter(|member| member.name.is_none() && self.is_one_file(member)).count();
        if nameless > 0 {
            self.notes.push(format!("{nameless} of the artifact's layers have no name of their own"));
        }
    }

    pub(super) fn place(&mut self, member: &Member, only_nameless: bool) -> Result<(), LayoutError> {
        let layer = &self.manifest.layers[member.number];
        let label = naming::label(member.number, layer);
        match &member.content {
            Content::Tar(shape) if self.tar_mode() != TarMode::File => {
                self.place_tar(member, shape, layer, label)?;
            }
            Content::Filesystem(kind, codec) if self.options.allow_filesystem_layers => {
                self.place_filesystem(member, *kind, *codec, layer, label)?;
            }
            Content::Filesystem(..) if member.name.is_none() => {
                return Err(LayoutError::FilesystemLayer { layer: label });
            }
            _ => self.place_file(member, layer, &label, only_nameless)?,
        }
        if let Some(data) = &layer.data {
            // What no file uses is dropped at the end.
            self.builder.inline(layer.digest.clone(), data.clone());
        }
        Ok(())
    }

    fn place_file(
        &mut self,
        member: &Member,
        layer: &Descriptor,
        label: &str,
        only_nameless: bool,
    ) -> Result<(), LayoutError> {
        let path = file_path(member, layer, only_nameless)
            .map_err(|source| naming::unnameable(member.number, layer, source))?;
        let Some(inside) = self.filter(&path, layer)? else { return Ok(()) };
        let codec = match member.content {
            Content::Compressed(codec) | Content::Filesystem(FilesystemKind::Erofs, Some(codec)) => {
                Some(codec).filter(|codec| !naming::says_compressed(&path, *codec))
            }
            _ => None,
        };
        let (digest, size) = (layer.digest.clone(), layer.size);
        let Some(codec) = codec else {
            return self.builder.raw(inside, digest, size, member.executable, label);
        };
        let Plain { digest: plain, size: plain_size } = member.plain.clone();
        let decoded = Decoded { digest, codec, plain, plain_size };
        self.builder.decoded(inside, decoded, size, member.executable, label)
    }

    /// A tar that would be many files: the whole is left out where that is certain, else its members will tell.
    fn place_tar(
        &mut self,
        member: &Member,
        shape: &TarShape,
        layer: &Descriptor,
        label: String,
    ) -> Result<(), LayoutError> {
        let is_excluded = member.name.as_ref().is_some_and(|name| self.filter.excludes(name))
            || shape.area.as_ref().is_some_and(|area| !self.filter.may_take_in(area));
        if is_excluded {
            self.files += 1;
            self.leave_out(member.name.as_ref().map_or(label, ToString::to_string), layer);
            return Ok(());
        }
        if self.tar_mode() == TarMode::Reject {
            return Err(LayoutError::TarRejected { layer: label });
        }
        self.builder.tar(TarLayer {
            digest: layer.digest.clone(),
            size: layer.size,
            codec: shape.codec,
            plain: member.plain.digest.clone(),
            at: shape.at.clone(),
            within: shape.within.clone(),
            fallback: member.name.clone(),
            whiteouts: self.rules.tars.whiteouts,
            symlinks: self.rules.tars.symlinks,
            specials: self.rules.tars.specials,
            origin: label,
        })
    }

    fn place_filesystem(
        &mut self,
        member: &Member,
        kind: FilesystemKind,
        codec: Option<Codec>,
        layer: &Descriptor,
        label: String,
    ) -> Result<(), LayoutError> {
        if let Some(attribute) = self.first_filter() {
            return Err(LayoutError::FilteredFilesystem { layer: label, attribute });
        }
        self.builder.filesystem(FilesystemLayer {
            digest: layer.digest.clone(),
            size: layer.size,
            kind,
            codec,
            plain: member.plain.digest.clone(),
            origin: label,
        })
    }

    /// An attribute that leaves files out; nothing can be left out of what the kernel mounts.
    fn first_filter(&self) -> Option<&'static str> {
        let options = self.options;
        let given = [
            ("include", !options.include.is_empty()),
            ("exclude", !options.exclude.is_empty()),
            ("subPath", options.sub_path.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
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
        let inside = inside.filter(|_| self.filter.takes(path.as_str()));
        if inside.is_none() {
            self.leave_out(path.to_string(), layer);
        }
        Ok(inside)
    }

    fn leave_out(&mut self, path: String, layer: &Descriptor) {
        self.excluded.push(Excluded { path, digest: layer.digest.clone(), size: layer.size });
    }

    pub(super) fn finish(mut self) -> Result<Plan, LayoutError> {
        if self.builder.is_empty() {
            return Err(match &self.options.sub_path {
                _ if self.files == 0 => LayoutError::NoFiles { kind: excerpt(self.manifest.kind()) },
                Some(sub_path) if !self.sub_path_seen => {
                    LayoutError::NoSubPath { sub_path: sub_path.clone() }
                }
                _ => LayoutError::NothingLeft { files: self.files },
            });
        }
        self.builder.filter(self.filter);
        Ok(Plan {
            family: self.rules.family,
            layout: self.builder.finish()?,
            excluded: self.excluded,
            notes: self.notes,
        })
    }
}

/// Where a member that is one file stands in the artifact.
fn file_path(member: &Member, layer: &Descriptor, only_nameless: bool) -> Result<RelativePath, PathError> {
    match (&member.name, &member.content) {
        (Some(name), Content::Tar(shape)) => naming::with_tar_ending(name, shape.codec),
        (Some(name), _) => Ok(name.clone()),
        (None, Content::Tar(shape)) => {
            naming::nameless(&layer.digest, only_nameless, naming::tar_ending(shape.codec))
        }
        (None, _) => naming::nameless(&layer.digest, only_nameless, layer.parsed_type().ending()),
    }
}
