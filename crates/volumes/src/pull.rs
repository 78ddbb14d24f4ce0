//! Warms the store: everything a publish does, but the mount.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stowage_artifact::{Digest, VolumeAttributes};
use stowage_engine::OciLayoutSource;
use stowage_registry::Renewable;

use crate::error::{PublishError, store_error};
use crate::fetch::Brought;
use crate::job::Job;
use crate::origin::{Origin, layout_error};
use crate::progress::Progress;
use crate::request::{Access, PublishRequest};
use crate::resolve::Resolver;
use crate::{Volumes, policy};

/// What stands in the record of a pull where a volume has its capability.
pub(crate) const CAPABILITY: &str = "pull";

/// One artifact to bring to the node.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// What to pull; filters and choices count as for a volume.
    pub attributes: VolumeAttributes,
    /// By whose account downloads are queued.
    pub namespace: String,
    /// How the registry is asked; who has access afterwards without being asked again.
    pub access: Access,
    /// Where the caller watches how far the pull has come.
    pub progress: Progress,
}

/// An artifact that is on the node.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The digest that the reference was resolved to.
    pub digest: Digest,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// Bytes that were in the store already.
    pub cached: u64,
    /// Files of the volume that the artifact becomes.
    pub files: usize,
}

impl Volumes {
    /// Pulls an artifact and builds its view, so that a later publish of the same attributes only mounts.
    pub async fn pull(&self, request: PullRequest) -> Result<Pulled, PublishError> {
        let request = publish_request(request);
        let credential = Renewable::from(request.access.credential.clone());
        let origin = self.inner.registry_of(&request, &credential);
        self.pull_from(&origin, request).await
    }

    /// The same from an OCI image layout directory. Everyone on the node may read it afterwards, under the
    /// reference of the attributes.
    pub async fn pull_layout(&self, directory: &Path, request: PullRequest) -> Result<Pulled, PublishError> {
        let (directory, reference) = (directory.to_owned(), request.attributes.reference.clone());
        let named = reference.clone();
        let layout = self
            .inner
            .blocking("open an image layout", move || {
                OciLayoutSource::open(&directory).map_err(layout_error(&named))
            })
            .await?;
        self.pull_from(&Origin::Layout(layout, reference), publish_request(request)).await
    }

    async fn pull_from(&self, origin: &Origin, request: PublishRequest) -> Result<Pulled, PublishError> {
        let job = Job::new(&request);
        let result = self.pull_pinned(&job, origin, &request).await;
        let inner = Arc::clone(&self.inner);
        self.inner
            .blocking("remove the pull's record", move || {
                inner
                    .store
                    .remove_record(&request.volume_id, &request.target)
                    .map_err(store_error("remove the pull's record"))
            })
            .await?;
        result
    }

    async fn pull_pinned(
        &self,
        job: &Arc<Job>,
        origin: &Origin,
        request: &PublishRequest,
    ) -> Result<Pulled, PublishError> {
        let inner = &self.inner;
        policy::check(&inner.policy(), &request.attributes.reference)?;
        job.progress.phase("resolving the reference");
        let resolver = Resolver {
            cache: Some(inner),
            origin,
            principal: &request.access.principal,
            attributes: &request.attributes,
            platform: &inner.options.platform,
        };
        let resolved = resolver.resolve(None).await?;
        let missing = inner.pin(request, &resolved).await?;
        let ready = missing.view.is_some();
        let Brought { fetched, cached } = inner.bring(job, request, origin, &resolved, missing).await?;
        job.progress.complete();
        if !ready {
            inner.view(request, &resolved).await?;
        }
        Ok(Pulled {
            digest: resolved.digest.clone(),
            fetched,
            cached,
            files: resolved.plan.layout.entries().len(),
        })
    }
}

/// A pull is a publish without a mount; a pending record of its own keeps collection away from what it needs.
fn publish_request(request: PullRequest) -> PublishRequest {
    PublishRequest {
        volume_id: format!("pull-{:032x}", rand::random::<u128>()),
        target: PathBuf::from("/stowage-pull"),
        readonly: true,
        capability: CAPABILITY.to_owned(),
        attributes: request.attributes,
        namespace: request.namespace,
        access: request.access,
        wait: Duration::MAX,
        progress: request.progress,
    }
}
