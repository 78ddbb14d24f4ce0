//! Where an artifact comes from: a registry, or an OCI image layout directory that an administrator names.

use std::sync::Arc;

use stowage_artifact::{Descriptor, Digest, Document, MAX_MANIFEST_BYTES, Reference};
use stowage_engine::{OciLayoutError, OciLayoutSource};
use stowage_registry::{RawManifest, RegistryError, Repository};
use stowage_store::{BlobSource, Principal};

use crate::error::PublishError;
use crate::grants::Scope;

/// The annotation that names an entry of a layout's `index.json` (image-spec, `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Where the documents and blobs of one reference come from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A repository, asked with one credential.
    Registry(Repository),
    /// A directory; what is pulled from it stands under the reference, readable by everyone on the node.
    Layout(OciLayoutSource, Reference),
}

/// A manifest, index or config as it came.
pub(crate) struct RawDocument {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
}

impl Origin {
    /// Under which name access is granted.
    pub(crate) fn scope(&self, principal: &Principal) -> Scope {
        match self {
            Self::Registry(repository) => {
                Scope::new(repository.registry(), repository.repository(), principal.clone())
            }
            Self::Layout(_, reference) => {
                Scope::new(reference.registry(), reference.repository(), Principal::Anonymous)
            }
        }
    }

    /// The blobs.
    pub(crate) fn source(&self) -> Arc<dyn BlobSource> {
        match self {
            Self::Registry(repository) => Arc::new(repository.clone()),
            Self::Layout(layout, _) => Arc::new(layout.clone()),
        }
    }

    /// The digest that the reference's tag has now.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Result<Digest, PublishError> {
        match self {
            Self::Registry(repository) => {
                repository.resolve(reference).await.map_err(registry_error(reference))
            }
            Self::Layout(layout, _) => {
                let bytes = in_layout(reference, layout, |layout| layout.index(MAX_MANIFEST_BYTES)).await?;
                choose(reference, &bytes)
            }
        }
    }

    /// A manifest or index by its digest.
    pub(crate) async fn manifest(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<RawDocument, PublishError> {
        match self {
            Self::Registry(repository) => {
                let raw = match repository.manifest(&reference.with_digest(digest.clone())).await {
                    Err(error) if is_for_tags_only(&error) => {
                        by_tag(repository, reference, digest).await.ok_or(error)
                    }
                    answer => answer,
                };
                let raw = raw.map_err(registry_error(reference))?;
                Ok(RawDocument { bytes: raw.bytes.to_vec(), media_type: raw.media_type })
            }
            Self::Layout(layout, _) => {
                let digest = digest.clone();
                let read = move |layout: &OciLayoutSource| layout.small_blob(&digest, MAX_MANIFEST_BYTES);
                let bytes = in_layout(reference, layout, read).await?;
                Ok(RawDocument { bytes, media_type: None })
            }
        }
    }

    /// A config, at most `limit` bytes.
    pub(crate) async fn small_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, PublishError> {
        match self {
            Self::Registry(repository) => {
                let bytes =
                    repository.small_blob(descriptor, limit).await.map_err(registry_error(reference))?;
                Ok(bytes.to_vec())
            }
            Self::Layout(layout, _) => {
                let digest = descriptor.digest.clone();
                in_layout(reference, layout, move |layout| layout.small_blob(&digest, limit)).await
            }
        }
    }
}

/// How a registry answers that knows manifests by their tags only, as Ollama's has been seen to do.
fn is_for_tags_only(error: &RegistryError) -> bool {
    matches!(error, RegistryError::NotFound { .. } | RegistryError::Unavailable { .. })
}

/// The manifest behind the reference's tag, if that is the one with this digest.
async fn by_tag(repository: &Repository, reference: &Reference, digest: &Digest) -> Option<RawManifest> {
    let tag = reference.without_digest()?;
    repository.manifest(&tag).await.ok().filter(|raw| raw.digest == *digest)
}

/// Reads from the directory off the async workers.
async fn in_layout(
    reference: &Reference,
    layout: &OciLayoutSource,
    read: impl FnOnce(&OciLayoutSource) -> Result<Vec<u8>, OciLayoutError> + Send + 'static,
) -> Result<Vec<u8>, PublishError> {
    let layout = layout.clone();
    tokio::task::spawn_blocking(move || read(&layout))
        .await
        .map_err(|_| PublishError::Died { doing: "read an image layout" })?
        .map_err(layout_error(reference))
}

/// The entry of a layout's index for `reference`: the one that is named so, or the only one.
fn choose(reference: &Reference, bytes: &[u8]) -> Result<Digest, PublishError> {
    let unreadable =
        |error| PublishError::Manifest { reference: reference.to_string(), source: Arc::new(error) };
    let Document::Index(index) = Document::parse(bytes, None).map_err(unreadable)? else {
        return Err(PublishError::LayoutEntry {
            reference: reference.to_string(),
            reason: "its index.json is not an index".to_owned(),
        });
    };
    let name = reference.to_string();
    let named = index.manifests.iter().find(|entry| {
        let given = entry.annotations.get(REF_NAME).map(String::as_str);
        given.is_some() && (given == Some(name.as_str()) || given == reference.tag())
    });
    match (named, index.manifests.as_slice()) {
        (Some(entry), _) | (None, [entry]) => Ok(entry.digest.clone()),
        (None, entries) => {
            let names: Vec<&str> = entries
                .iter()
                .map(|entry| entry.annotations.get(REF_NAME).map_or("(no name)", String::as_str))
                .collect();
            Err(PublishError::LayoutEntry {
                reference: name,
                reason: format!(
                    "the image layout has {} entries and none of that name or tag: {}",
                    entries.len(),
                    names.join(", ")
                ),
            })
        }
    }
}

/// Puts the reference to a failure of the registry client.
pub(crate) fn registry_error(
    reference: &Reference,
) -> impl FnOnce(stowage_registry::RegistryError) -> PublishError + use<> {
    let reference = reference.to_string();
    move |error| PublishError::Registry { reference, source: Arc::new(error) }
}

/// Puts the reference to a failure of an image layout.
pub(crate) fn layout_error(reference: &Reference) -> impl FnOnce(OciLayoutError) -> PublishError + use<> {
    let reference = reference.to_string();
    move |error| PublishError::LayoutDirectory { reference, source: Arc::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(names: &[&str]) -> Vec<u8> {
        let manifests: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(number, name)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("sha256:{number:064x}"),
                    "size": 2,
                    "annotations": { REF_NAME: name },
                })
            })
            .collect();
        serde_json::to_vec(&serde_json::json!({ "schemaVersion": 2, "manifests": manifests })).unwrap()
    }

    #[test]
    fn an_entry_is_found_by_name_by_tag_or_because_it_is_alone() {
        let reference: Reference = "r.example/a:v1".parse().unwrap();
        let chosen = |names: &[&str]| {
            choose(&reference, &index(names))
                .map(|digest| digest.hex().ends_with('1'))
                .map_err(|e| e.to_string())
        };
        assert_eq!(chosen(&["x", "v1"]), Ok(true));
        assert_eq!(chosen(&["x", "r.example/a:v1"]), Ok(true));
        assert_eq!(chosen(&["other"]), Ok(false));
        assert!(chosen(&["x", "y"]).unwrap_err().contains("x, y"));
    }
}
