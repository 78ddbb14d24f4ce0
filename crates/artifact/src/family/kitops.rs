//! `KitOps`' `ModelKits`: the paths stand in the Kitfile, which is the config blob.
//!
//! Layer types are `application/vnd.kitops.modelkit.<part>.v1.<format>[+<codec>]`
//! (kitops-ml/kitops pkg/lib/constants/mediatype/kitops.go). Since 0.5 an entry of the Kitfile has the digest of its
//! layer, and a tar holds whole paths; before, layers and entries are matched by their order, and a tar holds names
//! relative to the directory of its path (pkg/lib/filesystem/unpack/core.go and legacy.go).

mod kitfile;

use std::collections::{HashMap, VecDeque};

use self::kitfile::{Item, Role};
use super::{
    ConfigUse, Content, Context, Family, Member, Members, Plain, Rules, TarPolicy, TarShape, file_metadata,
    real_layers,
};
use crate::attributes::TarMode;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::document::Manifest;
use crate::excerpt::excerpt;
use crate::layout::{Area, LayoutError};
use crate::naming;
use crate::relative_path::{PathError, RelativePath};

const PREFIX: &str = "application/vnd.kitops.modelkit.";
/// pkg/lib/constants/mediatype/artifacttype.go, `ArtifactTypeKitManifest`.
const ARTIFACT_TYPE: &str = "application/vnd.kitops.modelkit.manifest.v1+json";
/// pkg/lib/constants/mediatype/kitops.go.
const CONFIG: &str = "application/vnd.kitops.modelkit.config.v1+json";
/// Tells prompts from code (pkg/lib/constants/consts.go, `LayerSubtypeAnnotation`).
const SUBTYPE: &str = "ml.kitops.modelkit.layer-subtype";
const SUBTYPE_PROMPT: &str = "prompt";
/// The most entries without a layer that are listed one by one.
const MAX_NOTES: usize = 10;

pub(super) const RULES: Rules = Rules {
    family: Family::KitOps,
    claims,
    config: ConfigUse::Names,
    tar: TarMode::Expand,
    tars: TarPolicy::FILES,
    members,
};

fn claims(manifest: &Manifest) -> bool {
    manifest.artifact_type.as_deref() == Some(ARTIFACT_TYPE)
        || manifest.config.parsed_type().essence() == CONFIG
}

/// The entries of a Kitfile that no layer has been found for.
struct Entries {
    /// In the order of the Kitfile; taken once.
    all: Vec<Option<Item>>,
    /// Those that have a digest, until the first layer that has it comes.
    by_digest: HashMap<String, Vec<usize>>,
    /// The others, in the order in which the layers of their part come.
    by_order: HashMap<Role, VecDeque<usize>>,
}

impl Entries {
    fn new(entries: Vec<(Role, Item)>) -> Self {
        let mut this = Self {
            all: Vec::with_capacity(entries.len()),
            by_digest: HashMap::new(),
            by_order: HashMap::new(),
        };
        for (number, (role, item)) in entries.into_iter().enumerate() {
            if let Some(digest) = item.digest.clone().filter(|digest| !digest.is_empty()) {
                this.by_digest.entry(digest).or_default().push(number);
            } else if item.remote_path.is_none() {
                this.by_order.entry(role).or_default().push_back(number);
            }
            this.all.push(Some(item));
        }
        this
    }

    fn take(&mut self, number: usize) -> Option<Item> {
        self.all[number].take()
    }

    /// The entries that name a digest, once; nothing when none ever did.
    fn with_digest(&mut self, digest: &Digest) -> Option<Vec<Item>> {
        let numbers = std::mem::take(self.by_digest.get_mut(digest.as_str())?);
        Some(numbers.into_iter().filter_map(|number| self.take(number)).collect())
    }

    /// The next entry of a part.
    fn next(&mut self, role: Role) -> Option<Item> {
        let number = self.by_order.get_mut(&role)?.pop_front()?;
        self.take(number)
    }

    /// One sentence for each entry that is left, but not for thousands.
    fn notes(&self) -> Vec<String> {
        let left = || self.all.iter().flatten();
        let mut notes: Vec<String> = left().take(MAX_NOTES).map(note).collect();
        let more = left().skip(MAX_NOTES).count();
        if more > 0 {
            notes.push(format!("the kit does not hold {more} more entries of its Kitfile"));
        }
        notes
    }
}

fn note(item: &Item) -> String {
    let place = item.remote_path.as_ref().or(item.path.as_ref());
    let place = excerpt(place.map_or("", String::as_str));
    format!("the kit does not hold `{place}` of its Kitfile: fetch or mount that by itself")
}

fn members(context: &Context<'_>) -> Result<Members, LayoutError> {
    let config = context.config.ok_or(LayoutError::NoConfig)?;
    let entries = kitfile::entries(config).map_err(|why| LayoutError::Config {
        family: Family::KitOps,
        why: format!("its Kitfile is broken: {why}"),
    })?;
    let mut entries = Entries::new(entries);
    let mut found = Members::default();
    for (number, layer) in real_layers(context.manifest) {
        match role_of(layer) {
            Some(role) => found.members.extend(layer_members(number, layer, role, &mut entries)?),
            None => found.members.extend(Member::of_any(number, layer)?),
        }
    }
    found.notes = entries.notes();
    Ok(found)
}

/// Which part of the kit a layer is, by its type; nothing for a layer of somebody else.
fn role_of(layer: &Descriptor) -> Option<Role> {
    let media_type = layer.parsed_type();
    let rest = media_type.essence().strip_prefix(PREFIX)?;
    Some(match rest.split('.').next()? {
        "model" => Role::Model,
        "modelpart" => Role::ModelPart,
        "code" if layer.annotation(SUBTYPE) == Some(SUBTYPE_PROMPT) => Role::Prompt,
        "code" => Role::Code,
        "dataset" => Role::Dataset,
        "docs" => Role::Docs,
        _ => Role::Other,
    })
}

/// What a layer becomes: once for each entry that names its digest, else for the next entry of its part.
fn layer_members(
    number: usize,
    layer: &Descriptor,
    role: Role,
    entries: &mut Entries,
) -> Result<Vec<Member>, LayoutError> {
    // A layer that stands in the manifest again has all its paths already.
    if let Some(items) = entries.with_digest(&layer.digest) {
        return items.iter().map(|item| member(number, layer, item, true)).collect();
    }
    match entries.next(role) {
        Some(item) => Ok(vec![member(number, layer, &item, false)?]),
        None => Err(LayoutError::NotInKitfile { layer: naming::label(number, layer) }),
    }
}

fn member(number: usize, layer: &Descriptor, item: &Item, whole_paths: bool) -> Result<Member, LayoutError> {
    let refuse = |source: PathError| LayoutError::Named {
        layer: naming::label(number, layer),
        by: "the Kitfile",
        source,
    };
    // As `kit` does before it packs (pkg/lib/filesystem/tar.go: `filepath.Clean`).
    let path = naming::cleaned(item.path.as_deref().unwrap_or_default()).map_err(refuse)?;
    let media_type = layer.parsed_type();
    let plain = Plain { digest: item.diff_id.as_deref().and_then(|digest| digest.parse().ok()), size: None };
    let content = if media_type.is_tar() {
        Content::Tar(tar_shape(layer, path.as_ref(), whole_paths))
    } else if path.is_none() {
        return Err(refuse(PathError::Empty));
    } else {
        media_type.codec().map_or(Content::File, Content::Compressed)
    };
    let mut member = Member { number, name: path, content, executable: false, plain };
    file_metadata::apply(&mut member, layer)?;
    Ok(member)
}

fn tar_shape(layer: &Descriptor, path: Option<&RelativePath>, whole_paths: bool) -> TarShape {
    let codec = layer.parsed_type().codec();
    if whole_paths {
        return TarShape::called(codec, path);
    }
    let parent =
        path.and_then(|path| path.ancestors().next()).and_then(|parent| RelativePath::parse(parent).ok());
    let area = parent.clone().map(|path| Area { path, is_directory: true });
    TarShape { codec, at: parent, within: None, area }
}
