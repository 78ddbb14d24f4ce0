//! Brings the blobs of a volume to the node, and settles for each that this principal may read it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use stowage_artifact::{Digest, PullPolicy};
use stowage_engine::FetchRequest;

use crate::Inner;
use crate::error::PublishError;
use crate::grants::Scope;
use crate::job::Job;
use crate::origin::Origin;
use crate::progress::{BlobProgress, BlobReading};
use crate::publish::Missing;
use crate::request::PublishRequest;
use crate::resolve::Resolved;

/// Grants of so many downloads are recorded in one step, where so many have ended.
const TOGETHER: usize = 256;

/// How many bytes came, and how many were there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Brought {
    pub(crate) fetched: u64,
    pub(crate) cached: u64,
}

impl Inner {
    /// Downloads `missing`, proves access to the rest. Dropping the future gives up the interest in every
    /// download; what has arrived stays for the next try.
    pub(crate) async fn bring(
        self: &Arc<Self>,
        job: &Arc<Job>,
        request: &PublishRequest,
        origin: &Origin,
        resolved: &Resolved,
        missing: Missing,
    ) -> Result<Brought, PublishError> {
        let reference = &resolved.reference;
        let never = request.attributes.pull_policy == PullPolicy::Never;
        if never && !missing.blobs.is_empty() {
            return Err(PublishError::NotPresent { reference: reference.to_string() });
        }
        let scope = origin.scope(&request.access.principal);
        let mut present: BTreeMap<Digest, u64> = resolved.plan.layout.blobs();
        for digest in resolved.plan.layout.inline().keys() {
            present.remove(digest);
        }
        for digest in missing.blobs.keys() {
            present.remove(digest);
        }
        let pulled = Brought {
            fetched: missing.blobs.values().map(|need| need.size).sum(),
            cached: present.values().sum(),
        };

        let (inner, manifest, granted) = (Arc::clone(self), resolved.manifest_digest.clone(), scope.clone());
        let all_granted = self
            .blocking("look for a grant", move || Ok(granted.has_all_layers(&inner.store, &manifest)))
            .await?;
        let mut to_prove: Vec<(Digest, u64)> = Vec::new();
        if !all_granted {
            to_prove.extend(present);
        }
        if never {
            self.require_grants(reference, &scope, to_prove).await?;
            return Ok(pulled);
        }
        self.prove_all(reference, origin, &scope, to_prove).await?;

        let source = origin.source();
        let mut progress: Vec<BlobProgress> = Vec::new();
        let downloads = FuturesUnordered::new();
        for (digest, need) in missing.blobs {
            let size = need.size;
            let mut ticket = self.engine.join(FetchRequest {
                digest: digest.clone(),
                size,
                source: Arc::clone(&source),
                namespace: request.namespace.clone(),
                authority: Some(scope.authority(&self.store)),
                decode: need.decode(),
            });
            let watch = ticket.watch();
            // Another pod's download may have brought a part already.
            let before = watch.borrow().done;
            progress.push(Box::new(move || {
                let now = *watch.borrow();
                BlobReading { done: now.done, resumed: now.resumed.max(before).min(now.done) }
            }));
            let room = missing.room.get(&digest);
            let mut arrived = ticket.watch();
            downloads.push(async move {
                // The engine reserves the blob on the disk before its first byte.
                let first_byte = async {
                    if arrived.wait_for(|progress| progress.done > 0).await.is_ok()
                        && let Some(room) = room
                    {
                        room.on_disk();
                    }
                    // The end is the ticket's to tell: it may fail, or have no byte at all.
                    std::future::pending::<Infallible>().await
                };
                let fetched = tokio::select! {
                    fetched = ticket.done() => fetched,
                    never = first_byte => match never {},
                };
                let fetched = fetched.map_err(|source| PublishError::Fetch {
                    reference: reference.to_string(),
                    source: Arc::new(source),
                })?;
                Ok::<_, PublishError>((digest, size, fetched.whole_by_me))
            });
        }
        job.progress.begin(pulled.fetched + pulled.cached, pulled.cached, progress);
        let mut arriving = downloads.ready_chunks(TOGETHER);
        while let Some(chunk) = arriving.next().await {
            let (mut mine, mut others) = (Vec::new(), Vec::new());
            for arrived in chunk {
                let (digest, size, whole_by_me) = arrived?;
                // Another pod's credential brought it, or a part of it: this pod shows its own access.
                if whole_by_me { mine.push(digest) } else { others.push((digest, size)) }
            }
            self.record_deliveries(origin, &scope, mine).await?;
            self.prove_all(reference, origin, &scope, others).await?;
        }
        self.grant_layers(resolved, &scope, all_granted).await?;
        Ok(pulled)
    }

    /// `pullPolicy: Never` asks no registry, so only what is known already counts.
    async fn require_grants(
        self: &Arc<Self>,
        reference: &stowage_artifact::Reference,
        scope: &Scope,
        blobs: Vec<(Digest, u64)>,
    ) -> Result<(), PublishError> {
        let (inner, scope, reference) = (Arc::clone(self), scope.clone(), reference.to_string());
        self.blocking("look for grants", move || {
            match blobs.into_iter().find(|(digest, _)| !scope.has(&inner.store, digest)) {
                None => Ok(()),
                Some((digest, _)) => Err(PublishError::NoGrant {
                    reference,
                    reason: format!("pullPolicy is Never and access to blob {digest} was never shown"),
                }),
            }
        })
        .await
    }

    /// Where every layer of the manifest has passed, one grant stands for them all from now on.
    async fn grant_layers(
        self: &Arc<Self>,
        resolved: &Resolved,
        scope: &Scope,
        known: bool,
    ) -> Result<(), PublishError> {
        let brought = resolved.plan.layout.blobs();
        let complete = resolved.manifest.layers.iter().all(|layer| brought.contains_key(&layer.digest));
        if known || !complete {
            return Ok(());
        }
        let (inner, scope, digest) = (Arc::clone(self), scope.clone(), resolved.manifest_digest.clone());
        self.blocking("record a grant", move || scope.grant_all_layers(&inner.store, &digest)).await
    }
}
