//! Volumes as kubelet sees them, with real mounts in a private mount namespace.

mod crowd;
mod hostile;
mod kills;
mod lifecycle;
mod readonly;
mod tenants;

use stowage_artifact::Digest;
use stowage_testkit::registry::Registry;
use stowage_testkit::{BlobData, artifacts};

/// An artifact of one file, `model.bin`, in a registry.
#[derive(Clone, Debug)]
struct Model {
    /// Its reference by tag.
    reference: String,
    /// The file's digest.
    file: Digest,
    /// The manifest's digest.
    manifest: Digest,
}

impl Model {
    /// Pushes a file of `size` bytes that follow from `seed`.
    fn push(registry: &Registry, repository: &str, tag: &str, seed: u64, size: u64) -> Self {
        let data = BlobData::generated(seed, size);
        let artifact = artifacts::oras_files([("model.bin", data)]).build().unwrap();
        let manifest = registry.push(repository, Some(tag), &artifact);
        let (file, _) = artifact.blobs().last().unwrap().clone();
        Self { reference: registry.reference(repository, tag), file, manifest }
    }

    /// The volume attributes that name it.
    fn attributes(&self) -> [(&str, &str); 1] {
        [("reference", &self.reference)]
    }
}
