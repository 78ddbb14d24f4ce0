//! Publishing: from a request to a mounted volume, as one state machine.
//!
//! ```text
//! absent --pin--> pending record --blobs, view--> mount --> mounted record
//!    ^                 |                            |
//!    +---- final error, unpublish, abandoned -------+
//! ```
//!
//! Steps that only wait or talk to the network can be dropped at any point. Steps that change the disk or the
//! mount table are awaited to their end, under the locks of `store.md`: target, view, (flight, refs within).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use stowage_artifact::Digest;
use stowage_registry::Renewable;
use stowage_store::{RecordState, StoreError, View, VolumeRecord};

use crate::error::{ClearError, PublishError, store_error};
use crate::job::{Job, Outcome};
use crate::needs::{Need, needs};
use crate::origin::Origin;
use crate::request::{Arguments, PublishRequest, Published, VolumeKey};
use crate::reservations::Reserved;
use crate::resolve::{Resolved, Resolver};
use crate::{Inner, Volumes, mount, policy};

/// How often a view is built for one publish when collection takes it away each time.
const VIEW_TRIES: usize = 10;

/// What is to be done for a call, found out under the target's lock.
pub(crate) enum Found {
    /// A healthy mount with the same arguments.
    Mounted(Digest),
    /// Nothing, or something to finish; the digest is pinned where an earlier call resolved one.
    ToDo(Option<Digest>),
}

/// The blobs that the node lacks, and the room that they have been promised.
pub(crate) struct Missing {
    pub(crate) blobs: BTreeMap<Digest, Need>,
    pub(crate) room: HashMap<Digest, Arc<Reserved>>,
    /// The view, where it is there already: it keeps its blobs, and the record names it.
    pub(crate) view: Option<View>,
}

impl Volumes {
    /// Runs the job as a task of its own, which outlives every call.
    pub(crate) fn start(&self, key: VolumeKey, job: Arc<Job>, request: PublishRequest) {
        let volumes = self.clone();
        let tracker = self.inner.tasks.clone();
        tracker.spawn(async move {
            let work = {
                let (inner, job) = (Arc::clone(&volumes.inner), Arc::clone(&job));
                tokio::spawn(async move { inner.run(&job, &request).await })
            };
            // A panic in the work must not leave a job that nobody finishes.
            let outcome = work.await.unwrap_or(Err(PublishError::Died { doing: "publish a volume" }));
            volumes.inner.jobs.leave(&key, &job);
            job.finish(outcome);
        });
    }
}

impl Inner {
    /// The whole of one publish. On a final error nothing of it is left.
    async fn run(self: &Arc<Self>, job: &Arc<Job>, request: &PublishRequest) -> Outcome {
        let outcome = self.attempt(job, request).await;
        let outcome = outcome.map_err(|error| request.access.explain(&request.attributes.reference, error));
        if let Err(error) = &outcome {
            tracing::info!(volume = %request.volume_id, %error, "volume is not published");
            // A conflict is about another volume's record, which stays.
            let conflict = matches!(error, PublishError::Conflict { .. });
            if error.meaning().is_final()
                && !conflict
                && let Err(left) = self.roll_back(request).await
            {
                tracing::warn!(volume = %request.volume_id, error = %left, "a failed publish could not be rolled back");
                return Err(PublishError::NotRolledBack {
                    source: Arc::new(error.clone()),
                    left: Arc::new(left),
                });
            }
        }
        outcome
    }

    async fn attempt(self: &Arc<Self>, job: &Arc<Job>, request: &PublishRequest) -> Outcome {
        let id = &request.volume_id;
        let pinned = match self.find(request).await.map_err(|error| error.unsure(id))? {
            Found::Mounted(digest) => {
                return Ok(Published {
                    digest,
                    fetched: 0,
                    cached: 0,
                    elapsed: job.started.elapsed(),
                    already: true,
                });
            }
            Found::ToDo(pinned) => pinned,
        };
        policy::check(&self.policy(), &request.attributes.reference)?;
        request.access.check(&request.attributes.reference)?;
        let origin = self.registry_of(request, &job.credential);

        job.progress.phase("resolving the reference");
        let resolved = job
            .unless_ended(id, {
                let resolver = Resolver {
                    cache: Some(self),
                    origin: &origin,
                    principal: &request.access.principal,
                    attributes: &request.attributes,
                    platform: &self.options.platform,
                };
                async move { resolver.resolve(pinned).await }
            })
            .await?;
        self.check_kernel(&resolved).await?;
        let mut missing = self.pin(request, &resolved).await?;
        let ready = missing.view.take();
        let pulled = job.unless_ended(id, self.bring(job, request, &origin, &resolved, missing)).await?;
        job.progress.complete();
        let view = match ready {
            Some(view) => view,
            None => self.view(request, &resolved).await?,
        };
        self.mount(job, request, &resolved, view).await?;
        let elapsed = job.started.elapsed();
        tracing::info!(
            volume = %id,
            reference = %request.attributes.reference,
            digest = %resolved.digest,
            fetched = pulled.fetched,
            cached = pulled.cached,
            elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "volume is published"
        );
        let published = Published {
            digest: resolved.digest.clone(),
            fetched: pulled.fetched,
            cached: pulled.cached,
            elapsed,
            already: false,
        };
        if let Some(told) = self.published.get() {
            told(&published);
        }
        Ok(published)
    }

    /// Refuses what this kernel cannot show, before a byte is fetched for it.
    async fn check_kernel(self: &Arc<Self>, resolved: &Resolved) -> Result<(), PublishError> {
        // One that has a name is a file where it turns out to be no tar.
        let Some(tar) = resolved.plan.layout.tars().iter().find(|tar| tar.fallback.is_none()) else {
            return Ok(());
        };
        if self.erofs.get().is_some_and(|support| support.backing.is_some()) {
            return Ok(());
        }
        let (reference, layer) = (resolved.reference.to_string(), tar.origin.clone());
        let inner = Arc::clone(self);
        // The first look mounts something.
        self.blocking("look for EROFS", move || {
            let support = inner.erofs_support();
            if support.backing.is_some() {
                return Ok(());
            }
            let why = support.why.clone().unwrap_or_else(|| "this kernel has none".to_owned());
            Err(PublishError::NoErofs { reference, layer, why })
        })
        .await
    }

    /// The registry that the request names, asked with the newest credential of whoever asks.
    pub(crate) fn registry_of(&self, request: &PublishRequest, credential: &Renewable) -> Origin {
        Origin::Registry(self.registry.repository_of(&request.attributes.reference, credential))
    }

    /// What is at the target, and what earlier calls have left to go on with.
    pub(crate) async fn find(self: &Arc<Self>, request: &PublishRequest) -> Result<Found, PublishError> {
        let key = request.key();
        let _target = self.targets.lock(&key.target).await;
        let (inner, request) = (Arc::clone(self), request.clone());
        self.blocking("look at the target", move || {
            // The path is checked before anything is believed about it.
            inner.target_root.find(&request.target).map_err(|error| PublishError::Target(Arc::new(error)))?;
            inner.no_other_volume(&key)?;
            let Some(record) = inner
                .store
                .record(&request.volume_id, &request.target)
                .map_err(store_error("read the volume's record"))?
            else {
                let pinned = inner
                    .store
                    .records_of(&request.volume_id)
                    .map_err(store_error("read the volume's records"))?
                    .into_iter()
                    .filter(|record| record.reference == request.attributes.reference.to_string())
                    .find_map(|record| record.manifest_digest);
                return Ok(Found::ToDo(pinned));
            };
            let recorded = arguments_of(&record);
            if recorded != request.arguments() {
                return Err(conflict(&key, &recorded, &request.arguments()));
            }
            match record.manifest_digest.clone() {
                Some(digest) if record.state == RecordState::Mounted && mount::is_healthy(&record)? => {
                    Ok(Found::Mounted(digest))
                }
                digest => Ok(Found::ToDo(digest)),
            }
        })
        .await
    }

    /// Writes the pending record, from which moment nothing that it names is collected. Returns the blobs that
    /// the node lacks, with the room for them. Refuses before the first byte where they would not fit.
    pub(crate) async fn pin(
        self: &Arc<Self>,
        request: &PublishRequest,
        resolved: &Resolved,
    ) -> Result<Missing, PublishError> {
        if let Some(view) = self.pin_view(request, resolved).await? {
            return Ok(Missing { blobs: BTreeMap::new(), room: HashMap::new(), view: Some(view) });
        }
        let record = pending_record(request, resolved, None);
        let wanted = needs(&resolved.plan.layout);
        let inline = resolved.plan.layout.inline().clone();
        let (inner, reference) = (Arc::clone(self), request.attributes.reference.clone());
        self.blocking("pin the volume's blobs", move || {
            let missing = inner.store.pin(&record).map_err(store_error("write the volume's record"))?;
            let mut blobs = BTreeMap::new();
            for digest in missing {
                if let Some(bytes) = inline.get(&digest) {
                    inner.store.put_blob(&digest, bytes).map_err(store_error("store an inline blob"))?;
                } else if let Some(need) = wanted.get(&digest)
                    && need.is_missing(&inner.store, &digest).map_err(store_error("look for a blob"))?
                {
                    blobs.insert(digest, *need);
                }
            }
            let room = inner.reservations.admit(&inner.store, &blobs).map_err(|error| {
                PublishError::Space { reference: reference.to_string(), source: Arc::new(error) }
            })?;
            Ok(Missing { blobs, room, view: None })
        })
        .await
    }

    /// The same where the view is there: the record names it, and the view keeps its blobs, which need not be looked at
    /// one by one. None where there is no such view, or where a document is missing.
    async fn pin_view(
        self: &Arc<Self>,
        request: &PublishRequest,
        resolved: &Resolved,
    ) -> Result<Option<View>, PublishError> {
        let (inner, hash) = (Arc::clone(self), resolved.view_hash.clone());
        let mut record = pending_record(request, resolved, Some(String::new()));
        self.blocking("pin the volume's view", move || {
            let failed = store_error("write the volume's record");
            let Some(view) = inner.store.find_view_by_hash(&hash).map_err(store_error("look for a view"))?
            else {
                return Ok(None);
            };
            record.view = Some(view.id.clone());
            match inner.store.pin(&record) {
                Ok(missing) => Ok(missing.is_empty().then_some(view)),
                // Collected in between.
                Err(StoreError::NoSuchView(_)) => Ok(None),
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }

    /// The view of the volume, built where it does not exist yet, and in the volume's record, so that nothing
    /// collects it before it is mounted.
    pub(crate) async fn view(
        self: &Arc<Self>,
        request: &PublishRequest,
        resolved: &Resolved,
    ) -> Result<View, PublishError> {
        let spec = Arc::clone(&resolved.view);
        let reference = resolved.reference.to_string();
        let mut record = pending_record(request, resolved, Some(String::new()));
        let inner = Arc::clone(self);
        self.blocking("build the view", move || {
            let mut tries = VIEW_TRIES;
            loop {
                let view = inner.store.build_view(&spec).map_err(|error| PublishError::View {
                    reference: reference.clone(),
                    source: Arc::new(error),
                })?;
                record.view = Some(view.id.clone());
                tries -= 1;
                match inner.store.put_record(&record) {
                    Ok(()) => return Ok(view),
                    // Collected in between.
                    Err(StoreError::NoSuchView(_)) if tries > 0 => {}
                    Err(error) => return Err(store_error("write the volume's record")(error)),
                }
            }
        })
        .await
    }

    /// Puts the view at the target and records it, under the target's lock and then the view's.
    async fn mount(
        self: &Arc<Self>,
        job: &Arc<Job>,
        request: &PublishRequest,
        resolved: &Resolved,
        view: View,
    ) -> Result<(), PublishError> {
        let _target = self.targets.lock(&request.target).await;
        let _view = self.views.lock(&view.id).await;
        // An unpublish sets the reason first and then waits for this lock: from here on it finds the mount.
        if let Some(reason) = job.ended() {
            return Err(reason.error(&request.volume_id));
        }
        let record = pending_record(request, resolved, Some(view.id.clone()));
        let inner = Arc::clone(self);
        self.blocking("mount the volume", move || inner.mount_recorded(record, &view)).await
    }

    /// Removes what a failed publish has left: the record, and the target where we made it.
    async fn roll_back(self: &Arc<Self>, request: &PublishRequest) -> Result<(), PublishError> {
        let _target = self.targets.lock(&request.target).await;
        let (inner, request) = (Arc::clone(self), request.clone());
        self.blocking("roll a failed publish back", move || {
            // A target that is refused has nothing of ours; its record, if any, goes all the same.
            match inner.clear_target(&request.target) {
                Ok(_) | Err(ClearError::Target(_)) => {}
                Err(error) => return Err(error.into()),
            }
            inner
                .store
                .remove_record(&request.volume_id, &request.target)
                .map_err(store_error("remove the volume's record"))
        })
        .await
    }
}

/// A record of what the volume needs: its documents, and either its view or all blobs that a view will be built of.
fn pending_record(request: &PublishRequest, resolved: &Resolved, view: Option<String>) -> VolumeRecord {
    let arguments = request.arguments();
    let mut blobs: Vec<Digest> = resolved.documents.clone();
    if view.is_none() {
        blobs.extend(resolved.plan.layout.blobs().into_keys());
    }
    VolumeRecord {
        volume_id: request.volume_id.clone(),
        target: request.target.clone(),
        state: RecordState::Pending,
        readonly: arguments.readonly,
        capability: arguments.capability,
        attributes: arguments.attributes,
        reference: request.attributes.reference.to_string(),
        manifest_digest: Some(resolved.digest.clone()),
        view,
        blobs,
        dev_ino: None,
        created: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    }
}

pub(crate) fn arguments_of(record: &VolumeRecord) -> Arguments {
    Arguments {
        attributes: record.attributes.clone(),
        capability: record.capability.clone(),
        readonly: record.readonly,
    }
}

pub(crate) fn conflict(key: &VolumeKey, recorded: &Arguments, asked: &Arguments) -> PublishError {
    let difference = if recorded.readonly != asked.readonly {
        format!("readonly is {}, asked for {}", recorded.readonly, asked.readonly)
    } else if recorded.capability != asked.capability {
        format!("the capability is {}, asked for {}", recorded.capability, asked.capability)
    } else {
        let name = recorded
            .attributes
            .keys()
            .chain(asked.attributes.keys())
            .find(|name| recorded.attributes.get(*name) != asked.attributes.get(*name));
        format!("attribute {}", name.map_or("unknown", String::as_str))
    };
    PublishError::Conflict { volume_id: key.volume_id.clone(), target: key.target.clone(), difference }
}

/// How long a call may wait, from the caller's deadline: 5 s before it, and at most `publish_wait`.
pub fn wait_within(publish_wait: Duration, deadline: Option<Duration>) -> Duration {
    deadline.map_or(publish_wait, |left| publish_wait.min(left.saturating_sub(Duration::from_secs(5))))
}
