//! The name of a layer's file, by its annotations or, without any, by its digest (`formats.md`, rules 3 and 4).

use crate::codec::Codec;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::excerpt::excerpt;
use crate::layout::LayoutError;
use crate::relative_path::{PathError, RelativePath};

const LAYER_PATH: &str = "org.opencontainers.image.layer.path";

/// Annotations that name a layer's file, first hit wins.
const NAMES: [&str; 4] =
    ["org.cncf.model.filepath", "org.cnai.model.filepath", LAYER_PATH, "org.opencontainers.image.title"];

/// Endings by which a file is known to be a tar already.
const TAR_ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.zstd"];

/// Every name that the annotations give a layer.
pub(crate) fn annotated_names(layer: &Descriptor) -> impl Iterator<Item = &str> {
    NAMES.into_iter().filter_map(|key| annotated_name(layer, key))
}

/// The layer's path by the first annotation that names it; an annotation that is no path is an error.
pub(crate) fn path_of(number: usize, layer: &Descriptor) -> Result<Option<RelativePath>, LayoutError> {
    let named = NAMES.into_iter().find_map(|key| annotated_name(layer, key).map(|name| (key, name)));
    let Some((annotation, name)) = named else { return Ok(None) };
    match RelativePath::parse(name) {
        Ok(path) => Ok(Some(path)),
        Err(source) => Err(LayoutError::Path { layer: label(number, layer), annotation, source }),
    }
}

fn annotated_name<'a>(layer: &'a Descriptor, key: &str) -> Option<&'a str> {
    let name = layer.annotation(key)?;
    // The proposal for raw layers writes paths from the root of the image.
    Some(if key == LAYER_PATH { name.strip_prefix('/').unwrap_or(name) } else { name })
}

/// `text` as a path where a producer writes paths as a shell user would: `./a/` is `a`, and `.` is nothing.
pub(crate) fn cleaned(text: &str) -> Result<Option<RelativePath>, PathError> {
    if text.starts_with('/') {
        return RelativePath::parse(text).map(Some);
    }
    let components: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if components.is_empty() { Ok(None) } else { RelativePath::parse(&components.join("/")).map(Some) }
}

/// `stem` + `ending` for the only one of its kind, `stem-1` + `ending` and so on when there are `count` of them.
pub(crate) fn numbered(
    stem: &str,
    ending: &str,
    index: usize,
    count: usize,
) -> Result<RelativePath, PathError> {
    if count == 1 {
        RelativePath::parse(&format!("{stem}{ending}"))
    } else {
        RelativePath::parse(&format!("{stem}-{}{ending}", index + 1))
    }
}

/// Whether a name says itself that its file is compressed, so that the blob is the file.
pub(crate) fn says_compressed(path: &RelativePath, codec: Codec) -> bool {
    let name = path.file_name().to_ascii_lowercase();
    codec.endings().iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// The error for a layer whose name by rule is no path.
pub(crate) fn unnameable(number: usize, layer: &Descriptor, source: PathError) -> LayoutError {
    LayoutError::Name { layer: label(number, layer), source }
}

/// How error messages call a layer.
pub(crate) fn label(number: usize, layer: &Descriptor) -> String {
    format!("layer {number} ({}, {})", layer.digest, excerpt(&layer.media_type))
}

/// The name of a blob that has none: `blob` when it is the only one, else its digest.
pub(crate) fn nameless(digest: &Digest, only: bool, ending: &str) -> Result<RelativePath, PathError> {
    if only {
        RelativePath::parse(&format!("blob{ending}"))
    } else {
        RelativePath::parse(&format!("{}-{}{ending}", digest.algorithm(), digest.hex()))
    }
}

/// The ending of a tar file.
pub(crate) const fn tar_ending(codec: Option<Codec>) -> &'static str {
    match codec {
        None => ".tar",
        Some(Codec::Gzip) => ".tar.gz",
        Some(Codec::Zstd) => ".tar.zst",
    }
}

/// `path` with the ending of a tar, where it has none.
pub(crate) fn with_tar_ending(path: &RelativePath, codec: Option<Codec>) -> Result<RelativePath, PathError> {
    let name = path.file_name().to_ascii_lowercase();
    if TAR_ENDINGS.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending)) {
        return Ok(path.clone());
    }
    RelativePath::parse(&format!("{path}{}", tar_ending(codec)))
}
