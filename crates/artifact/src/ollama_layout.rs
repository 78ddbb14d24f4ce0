//! `layout: ollama`: a directory that an Ollama server reads through `OLLAMA_MODELS`.
//!
//! Manifests stand under the parts of the model's name, blobs under their digests (ollama/ollama manifest/paths.go and
//! types/model/name.go).

use crate::descriptor::Descriptor;
use crate::digest::Algorithm;
use crate::document::Manifest;
use crate::excerpt::excerpt;
use crate::family::Family;
use crate::layout::{Layout, LayoutBuilder, LayoutError};
use crate::naming;
use crate::reference::Reference;
use crate::relative_path::RelativePath;

/// What Ollama calls the namespace of a model that has none.
const DEFAULT_NAMESPACE: &str = "library";
/// types/model/name.go, `isValidLen`.
const MAX_PART_BYTES: usize = 80;
const MAX_HOST_BYTES: usize = 350;

/// The directory, and a sentence that says under which name Ollama knows the model.
pub(crate) fn layout(
    manifest: &Manifest,
    family: Family,
    reference: &Reference,
) -> Result<(Layout, String), LayoutError> {
    if family != Family::Ollama {
        return Err(LayoutError::NotOllama { kind: excerpt(manifest.kind()) });
    }
    let [host, namespace, model, tag] = name_of(reference)?;
    let mut builder = Layout::builder();
    let own = path(&format!("manifests/{host}/{namespace}/{model}/{tag}"), "the manifest")?;
    builder.generated(own, manifest.raw().to_vec(), "the manifest")?;
    add(&mut builder, &manifest.config, "the config")?;
    for (number, layer) in manifest.layers.iter().enumerate() {
        add(&mut builder, layer, &naming::label(number, layer))?;
    }
    let note = format!("Ollama knows the model as `{host}/{namespace}/{model}:{tag}`");
    Ok((builder.finish()?, note))
}

/// Host, namespace, model and tag: Ollama's names have exactly these parts, so of a longer repository the last two count.
fn name_of(reference: &Reference) -> Result<[&str; 4], LayoutError> {
    let (above, model) = match reference.repository().rsplit_once('/') {
        Some((above, model)) => (Some(above), model),
        None => (None, reference.repository()),
    };
    let namespace = above.map_or(DEFAULT_NAMESPACE, |above| above.rsplit('/').next().unwrap_or(above));
    let name = [reference.registry(), namespace, model, reference.tag_or_latest()];
    let rules = [
        ("host", MAX_HOST_BYTES, ".:"),
        ("namespace", MAX_PART_BYTES, ""),
        ("name", MAX_PART_BYTES, "."),
        ("tag", MAX_PART_BYTES, "."),
    ];
    for (text, (part, longest, extra)) in name.into_iter().zip(rules) {
        if !is_part(text, longest, extra) {
            return Err(LayoutError::OllamaName { part, text: excerpt(text) });
        }
    }
    Ok(name)
}

/// types/model/name.go, `isValidPart`.
fn is_part(text: &str, longest: usize, extra: &str) -> bool {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.len() <= longest
        && text.starts_with(is_word)
        && text.chars().all(|character| is_word(character) || character == '-' || extra.contains(character))
}

fn add(builder: &mut LayoutBuilder, blob: &Descriptor, origin: &str) -> Result<(), LayoutError> {
    if blob.digest.algorithm() != Algorithm::Sha256 {
        return Err(LayoutError::OllamaDigest { digest: blob.digest.clone() });
    }
    let path = path(&format!("blobs/sha256-{}", blob.digest.hex()), origin)?;
    builder.raw(path, blob.digest.clone(), blob.size, false, origin)?;
    if let Some(data) = &blob.data {
        builder.inline(blob.digest.clone(), data.clone());
    }
    Ok(())
}

fn path(text: &str, origin: &str) -> Result<RelativePath, LayoutError> {
    RelativePath::parse(text).map_err(|source| LayoutError::Name { layer: origin.to_owned(), source })
}
