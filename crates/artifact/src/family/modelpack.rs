//! ModelPack (CNCF model-spec), under its present and its former name.
//!
//! Layer types are `application/vnd.<owner>.model.<kind>.v1.<codec>` (modelpack/model-spec specs-go/v1/mediatype.go);
//! the kinds and codecs are open-ended. The members of a tar carry their whole path (modelpack/modctl
//! pkg/codec/tar.go: "the file name has been provided in the tar header").

use super::{Content, Context, Family, Member, Members, Rules, TarShape};
use super::{config, file_metadata, has_type_of, member};
use crate::attributes::TarMode;
use crate::descriptor::Descriptor;
use crate::family::{ConfigUse, TarPolicy};
use crate::layout::LayoutError;
use crate::relative_path::RelativePath;

const CURRENT_PREFIX: &str = "application/vnd.cncf.model.";
const LEGACY_PREFIX: &str = "application/vnd.cnai.model.";
/// KitOps adds its Kitfile to the `ModelPacks` that it packs (kitops-ml/kitops pkg/lib/filesystem/unpack/core.go).
const KITFILE: &str = "application/vnd.kitops.modelkit.config.v1+json";

pub(super) const CURRENT: Rules = rules(
    Family::ModelPack,
    |manifest| has_type_of(manifest, CURRENT_PREFIX),
    |context| members(context, Family::ModelPack),
);

pub(super) const LEGACY: Rules = rules(
    Family::ModelPackLegacy,
    |manifest| has_type_of(manifest, LEGACY_PREFIX),
    |context| members(context, Family::ModelPackLegacy),
);

const fn rules(
    family: Family,
    claims: fn(&crate::document::Manifest) -> bool,
    members: fn(&Context<'_>) -> Result<Members, LayoutError>,
) -> Rules {
    Rules {
        family,
        claims,
        config: ConfigUse::DiffIds,
        tar: TarMode::Expand,
        tars: TarPolicy::FILES,
        members,
    }
}

fn members(context: &Context<'_>, family: Family) -> Result<Members, LayoutError> {
    config::note_diff_ids(context, family, member::each(context, member)?)
}

fn member(number: usize, layer: &Descriptor) -> Result<Option<Member>, LayoutError> {
    let Some(mut member) = Member::of_any(number, layer)? else { return Ok(None) };
    let media_type = layer.parsed_type();
    let ours = [CURRENT_PREFIX, LEGACY_PREFIX].iter().any(|prefix| media_type.essence().starts_with(prefix));
    // Here a tar is a tar, with a path or without.
    if ours && media_type.is_tar() {
        member.content = Content::Tar(TarShape::called(media_type.codec(), member.name.as_ref()));
    }
    if media_type.essence() == KITFILE && member.name.is_none() {
        member.name = RelativePath::parse("Kitfile").ok();
    }
    file_metadata::apply(&mut member, layer)?;
    Ok(Some(member))
}
