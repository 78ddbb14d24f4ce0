//! One layer and what it becomes, by the rules that hold for any artifact.

use std::collections::BTreeMap;

use super::{Context, file_metadata, real_layers};
use crate::codec::Codec;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::layout::{Area, FilesystemKind, LayoutError};
use crate::naming;
use crate::relative_path::RelativePath;

/// Set by ORAS on directories (oras-project/oras-go content/file/file.go, `AnnotationUnpack`).
const UNPACK: &str = "io.deis.oras.content.unpack";
/// The digest of a directory's tar before gzip (the same file, `AnnotationDigest`).
const UNPACKED_DIGEST: &str = "io.deis.oras.content.digest";

/// The layers of an artifact that become something.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// In the order of the manifest.
    pub(crate) members: Vec<Member>,
    /// What a person should know about them.
    pub(crate) notes: Vec<String>,
}

impl From<Vec<Member>> for Members {
    fn from(members: Vec<Member>) -> Self {
        Self { members, notes: Vec::new() }
    }
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
    /// What the artifact says of the decoded bytes.
    pub(crate) plain: Plain,
}

/// What the artifact says of the bytes that a compressed layer decodes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plain {
    pub(crate) digest: Option<Digest>,
    pub(crate) size: Option<u64>,
}

/// What the bytes of a layer are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A file as it is.
    File,
    /// A tar whose members are files.
    Tar(TarShape),
    /// A file behind a codec.
    Compressed(Codec),
    /// An image of a filesystem, perhaps behind a codec.
    Filesystem(FilesystemKind, Option<Codec>),
}

/// Where the members of a tar go.
#[derive(Clone, Debug, Default)]
pub(crate) struct TarShape {
    pub(crate) codec: Option<Codec>,
    /// The directory that member names are relative to.
    pub(crate) at: Option<RelativePath>,
    /// Where every member must lie.
    pub(crate) within: Option<RelativePath>,
    /// Where the members lie by all that is known, which decides whether the layer is fetched at all.
    pub(crate) area: Option<Area>,
}

impl TarShape {
    /// A tar that says itself where its members go.
    pub(crate) fn plain(codec: Option<Codec>) -> Self {
        Self { codec, ..Self::default() }
    }

    /// The same, with members that are `name` or lie beneath it, so far as the producer can be believed.
    pub(crate) fn called(codec: Option<Codec>, name: Option<&RelativePath>) -> Self {
        let area = name.map(|path| Area { path: path.clone(), is_directory: false });
        Self { codec, area, ..Self::default() }
    }
}

impl Member {
    /// What a layer becomes by the rules for any artifact; nothing for `{}` without a name.
    pub(super) fn of_any(number: usize, layer: &Descriptor) -> Result<Option<Self>, LayoutError> {
        if layer.annotation(UNPACK) == Some("true") {
            return Self::directory(number, layer).map(Some);
        }
        let name = naming::path_of(number, layer)?;
        if name.is_none() && layer.is_empty_object() {
            return Ok(None);
        }
        let content = content_of(layer, name.is_some());
        Ok(Some(Self { number, name, content, executable: false, plain: Plain::default() }))
    }

    /// A layer whose name is the family's own, whatever its annotations say.
    pub(super) fn called(number: usize, layer: &Descriptor, name: RelativePath) -> Self {
        let content = content_of(layer, true);
        Self { number, name: Some(name), content, executable: false, plain: Plain::default() }
    }

    /// A layer that the user chose: one file, decoded unless it is a tar.
    pub(crate) fn chosen(number: usize, layer: &Descriptor, path: RelativePath) -> Self {
        let media_type = layer.parsed_type();
        let codec = match media_type.filesystem() {
            Some((_, codec)) => codec,
            None => media_type.codec().filter(|_| !media_type.is_tar()),
        };
        let content = codec.map_or(Content::File, Content::Compressed);
        let mut member =
            Self { number, name: Some(path), content, executable: false, plain: Plain::default() };
        file_metadata::note(&mut member, layer);
        member
    }

    /// A directory that ORAS packed: the members of its tar carry the directory's name already.
    fn directory(number: usize, layer: &Descriptor) -> Result<Self, LayoutError> {
        // `oras push … .` packs the current directory, whose members carry no name in front.
        let is_root = naming::annotated_names(layer).next() == Some(".");
        let name = if is_root { None } else { naming::path_of(number, layer)? };
        let shape = TarShape {
            // ORAS packs directories with gzip, whatever type it was told to write.
            codec: layer.parsed_type().codec().or(Some(Codec::Gzip)),
            at: None,
            within: name.clone(),
            area: name.clone().map(|path| Area { path, is_directory: true }),
        };
        let digest = layer.annotation(UNPACKED_DIGEST).and_then(|digest| digest.parse().ok());
        let plain = Plain { digest, size: None };
        Ok(Self { number, name, content: Content::Tar(shape), executable: false, plain })
    }
}

/// What a layer's type says about its bytes, and its name where the type lies.
fn content_of(layer: &Descriptor, is_named: bool) -> Content {
    let media_type = layer.parsed_type();
    if media_type.is_tar() {
        // ORAS labels plain files with the type of a tar; a name says that this is one.
        return if is_named { Content::File } else { Content::Tar(TarShape::plain(media_type.codec())) };
    }
    match (media_type.filesystem(), media_type.codec()) {
        (Some((kind, codec)), _) => Content::Filesystem(kind, codec),
        (None, Some(codec)) => Content::Compressed(codec),
        (None, None) => Content::File,
    }
}

/// [`Member::of_any`] for every layer.
pub(super) fn any_members(context: &Context<'_>) -> Result<Members, LayoutError> {
    each(context, Member::of_any)
}

/// [`Member::called`] for the layers that have a name here, [`Member::of_any`] for the others.
pub(super) fn named_or_any(
    context: &Context<'_>,
    names: &BTreeMap<usize, RelativePath>,
) -> Result<Members, LayoutError> {
    each(context, |number, layer| match names.get(&number) {
        Some(name) => Ok(Some(Member::called(number, layer, name.clone()))),
        None => Member::of_any(number, layer),
    })
}

/// What `rule` makes of every layer.
pub(super) fn each(
    context: &Context<'_>,
    rule: impl Fn(usize, &Descriptor) -> Result<Option<Member>, LayoutError>,
) -> Result<Members, LayoutError> {
    let layers = real_layers(context.manifest);
    let members: Result<Vec<_>, _> =
        layers.filter_map(|(number, layer)| rule(number, layer).transpose()).collect();
    members.map(Members::from)
}
