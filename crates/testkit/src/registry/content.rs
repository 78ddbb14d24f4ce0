//! What the registry holds: repositories, tags, manifests, blobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use stowage_artifact::{Algorithm, Digest};

use crate::artifacts::{BlobData, OCI_INDEX};

/// A manifest as it was pushed.
#[derive(Clone, Debug)]
pub(super) struct StoredManifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

impl StoredManifest {
    fn document(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    pub(super) fn subject(&self) -> Option<String> {
        Some(self.document()["subject"]["digest"].as_str()?.to_owned())
    }
}

#[derive(Default)]
struct Repository {
    manifests: HashMap<Digest, StoredManifest>,
    tags: BTreeMap<String, Digest>,
    blobs: HashMap<Digest, BlobData>,
}

/// Every repository; a repository exists as soon as something is pushed to it.
#[derive(Default)]
pub(super) struct Content {
    repositories: Mutex<BTreeMap<String, Repository>>,
}

impl Content {
    pub(super) fn put_blob(&self, repository: &str, digest: Digest, data: BlobData) {
        self.all().entry(repository.into()).or_default().blobs.insert(digest, data);
    }

    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Option<BlobData> {
        self.all().get(repository)?.blobs.get(digest).cloned()
    }

    pub(super) fn delete_blob(&self, repository: &str, digest: &Digest) -> bool {
        self.all().get_mut(repository).is_some_and(|found| found.blobs.remove(digest).is_some())
    }

    pub(super) fn put_manifest(
        &self,
        repository: &str,
        media_type: &str,
        bytes: Bytes,
        by: Option<&Digest>,
    ) -> Digest {
        let digest = by.cloned().unwrap_or_else(|| Digest::of(Algorithm::Sha256, &bytes));
        let manifest = StoredManifest { media_type: media_type.into(), bytes };
        self.all().entry(repository.into()).or_default().manifests.insert(digest.clone(), manifest);
        digest
    }

    /// A manifest by tag or by digest.
    pub(super) fn manifest(&self, repository: &str, name: &str) -> Option<(Digest, StoredManifest)> {
        let all = self.all();
        let repository = all.get(repository)?;
        let digest = match repository.tags.get(name) {
            Some(digest) => digest.clone(),
            None => name.parse().ok()?,
        };
        let manifest = repository.manifests.get(&digest)?.clone();
        Some((digest, manifest))
    }

    pub(super) fn delete_manifest(&self, repository: &str, name: &str) -> bool {
        let mut all = self.all();
        let Some(repository) = all.get_mut(repository) else { return false };
        if repository.tags.remove(name).is_some() {
            return true;
        }
        let Ok(digest) = name.parse::<Digest>() else { return false };
        repository.tags.retain(|_, tagged| *tagged != digest);
        repository.manifests.remove(&digest).is_some()
    }

    pub(super) fn tag(&self, repository: &str, tag: &str, digest: Digest) {
        self.all().entry(repository.into()).or_default().tags.insert(tag.into(), digest);
    }

    /// The tags in order, after `last`, at most `limit`, and whether there are more.
    pub(super) fn tags(
        &self,
        repository: &str,
        last: Option<&str>,
        limit: usize,
    ) -> Option<(Vec<String>, bool)> {
        let all = self.all();
        let tags = &all.get(repository)?.tags;
        let mut rest = tags.keys().filter(|tag| last.is_none_or(|last| tag.as_str() > last)).cloned();
        let page = rest.by_ref().take(limit).collect();
        Some((page, rest.next().is_some()))
    }

    pub(super) fn repositories(&self) -> Vec<String> {
        self.all().keys().cloned().collect()
    }

    /// The index of manifests whose subject is `digest`.
    pub(super) fn referrers(&self, repository: &str, digest: &Digest, artifact_type: Option<&str>) -> Value {
        let all = self.all();
        let mut manifests = Vec::new();
        let found = all.get(repository).map(|repository| &repository.manifests);
        for (own, manifest) in found.into_iter().flatten() {
            let document = manifest.document();
            if document["subject"]["digest"].as_str() != Some(digest.to_string().as_str()) {
                continue;
            }
            let kind = document["artifactType"].as_str().or(document["config"]["mediaType"].as_str());
            if artifact_type.is_some_and(|wanted| kind != Some(wanted)) {
                continue;
            }
            let mut descriptor = json!({
                "mediaType": manifest.media_type,
                "digest": own.to_string(),
                "size": manifest.bytes.len(),
            });
            if let Some(kind) = kind {
                descriptor["artifactType"] = json!(kind);
            }
            if document["annotations"].is_object() {
                descriptor["annotations"] = document["annotations"].clone();
            }
            manifests.push(descriptor);
        }
        manifests.sort_by_key(|descriptor| descriptor["digest"].to_string());
        json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests })
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Repository>> {
        self.repositories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
