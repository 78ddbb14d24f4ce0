//! Volumes as kubelet sees them, with real mounts in a private mount namespace.

mod chart;
mod cli;
mod cluster_tools;
mod credentials;
mod crowd;
mod demo;
mod events;
mod hostile;
mod kills;
mod lifecycle;
mod readonly;
mod stalls;
mod stopping;
mod tenants;

use stowage_artifact::Digest;
use stowage_testkit::kubelet::{Plugin, Publication, PublishRequest, RetryPolicy};
use stowage_testkit::registry::Registry;
use stowage_testkit::{BlobData, artifacts};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::harness::{LIMIT, Node};

/// An artifact of one file, `model.bin`, in a registry.
#[derive(Clone, Debug)]
struct Model {
    /// Its reference by tag.
    reference: String,
    /// The file's digest.
    file: Digest,
}

impl Model {
    /// Pushes a file of `size` bytes that follow from `seed`.
    fn push(registry: &Registry, repository: &str, tag: &str, seed: u64, size: u64) -> Self {
        let data = BlobData::generated(seed, size);
        let artifact = artifacts::oras_files([("model.bin", data)]).build().unwrap();
        registry.push(repository, Some(tag), &artifact);
        let (file, _) = artifact.blobs().last().unwrap().clone();
        Self { reference: registry.reference(repository, tag), file }
    }

    /// The volume attributes that name it.
    fn attributes(&self) -> [(&str, &str); 1] {
        [("reference", &self.reference)]
    }
}

/// What kubelet would unpublish after this request, whatever came of it.
fn publication(request: &PublishRequest) -> Publication {
    let (volume_id, target) = (request.volume_id.clone(), request.target.clone());
    Publication { volume_id, target, failed: Vec::new() }
}

/// A publish that goes on while the test does other things.
fn in_background(plugin: &Plugin, request: &PublishRequest) -> JoinHandle<Result<Publication, Status>> {
    let (plugin, request) = (plugin.clone(), request.clone());
    tokio::spawn(async move { plugin.publish(&request).await })
}

fn code<T>(answer: Result<T, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Kubelet asks again until it is done.
async fn publish(node: &Node, request: &PublishRequest) -> Publication {
    let published = node.plugin().publish_until(request, RetryPolicy::quick(LIMIT)).await;
    published.unwrap_or_else(|failure| panic!("{failure}\n{}", node.log()))
}
