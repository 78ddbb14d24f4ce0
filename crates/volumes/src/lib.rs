//! Publish and unpublish as one state machine: admission, grants, downloads that outlive their call, mounts, and
//! the repair after a crash. Wires the registry client, the engine, the store and the kernel together; knows
//! nothing of gRPC or Kubernetes.
//!
//! ```text
//! call -> job (a task of its own) -> resolve -> pin -> bring blobs, prove access -> view -> mount -> record
//! ```
//!
//! Locks, in this order: target, view, (flight, refs inside engine and store). None is held across the network.

mod call;
mod end;
mod erofs;
mod error;
mod fetch;
mod grants;
mod inspect;
mod job;
mod jobs;
mod keyed;
mod mount;
mod needs;
mod origin;
mod plans;
mod policy;
mod progress;
mod publish;
mod pull;
mod recover;
mod request;
mod reservations;
mod resolve;
mod stats;
mod unpublish;
mod work;

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use stowage_artifact::{Digest, MAX_MANIFEST_BYTES, Platform};
use stowage_engine::Engine;
use stowage_registry::Registry;
use stowage_store::Store;
use stowage_sys::{ErofsBackingChoice, ErofsSupport, Mounter, TargetRoot};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use call::{Call, Look};
pub use erofs::READ_AHEAD_KIB;
pub use error::{Meaning, PublishError};
pub use inspect::inspect;
pub use progress::{Progress, Reading, Stage, human_bytes};
pub use publish::wait_within;
pub use pull::{PullRequest, Pulled};
pub use recover::Recovered;
pub use request::{Access, PublishRequest, Published};
pub use resolve::Resolved;
pub use stats::{Abnormal, AbnormalKind, StatsError, VolumeStats};
pub use stowage_artifact::ReferencePolicy as Policy;
pub use unpublish::UnpublishError;
pub use work::Work;

/// Blocking steps (disk, mounts) that run at the same time.
const BLOCKING_STEPS: usize = 64;

/// What every container may read, without a category of its own.
const CONTAINER_FILE: &str = "system_u:object_r:container_file_t:s0";

/// Settings of [`Volumes`].
#[derive(Clone, Debug)]
pub struct VolumesOptions {
    /// Which entry of an index this node prefers.
    pub platform: Platform,
    /// How long a volume nobody asks for keeps its download and its record.
    pub interest: Duration,
    /// Volumes that may be on their way at the same time.
    pub max_pending_volumes: usize,
    /// The administrator's rules; see [`Volumes::set_policy`].
    pub policy: Policy,
    /// How mounts are built.
    pub mounter: Mounter,
    /// How the kernel reads the tars behind a volume; found out where nothing is said.
    pub erofs: ErofsBackingChoice,
    /// Whether the kernel may mount filesystem images that came from a registry: it would parse what a stranger wrote.
    pub allow_filesystem_layers: bool,
    /// How far the kernel reads ahead in files that come out of tars, in KiB.
    pub read_ahead_kib: u32,
}

impl Default for VolumesOptions {
    fn default() -> Self {
        Self {
            platform: Platform::current(),
            interest: Duration::from_mins(5),
            max_pending_volumes: 1000,
            policy: Policy::default(),
            mounter: Mounter::default(),
            erofs: ErofsBackingChoice::default(),
            allow_filesystem_layers: false,
            read_ahead_kib: erofs::READ_AHEAD_KIB,
        }
    }
}

/// All volumes of this node; cheap to clone.
#[derive(Clone)]
pub struct Volumes {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Volumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volumes").field("store", &self.inner.store.root()).finish_non_exhaustive()
    }
}

/// Hears of volumes that were mounted.
type Listener = Box<dyn Fn(&Published) + Send + Sync>;

struct Inner {
    store: Store,
    engine: Engine,
    registry: Registry,
    target_root: TargetRoot,
    mounter: Mounter,
    /// The second lower layer of read-only overlays.
    empty_dir: PathBuf,
    /// The label of every volume's superblock, where SELinux is on.
    selinux_label: Option<&'static str>,
    /// How the members of tars are shown here, once somebody wanted to know.
    erofs: OnceLock<ErofsSupport>,
    options: VolumesOptions,
    /// The rules that hold now.
    policy: RwLock<Arc<Policy>>,
    jobs: jobs::Jobs,
    targets: keyed::KeyedLocks<PathBuf>,
    views: keyed::KeyedLocks<String>,
    idle: recover::Idle,
    /// Told of each volume when it is mounted.
    published: OnceLock<Listener>,
    reservations: reservations::Reservations,
    plans: plans::Plans,
    tasks: TaskTracker,
    stop: CancellationToken,
    steps: Semaphore,
}

impl Volumes {
    /// Volumes out of `store`, published beneath `target_root`.
    pub fn new(
        store: Store,
        engine: Engine,
        registry: Registry,
        target_root: TargetRoot,
        options: VolumesOptions,
    ) -> Self {
        let empty_dir = store.empty_dir();
        Self {
            inner: Arc::new(Inner {
                store,
                engine,
                registry,
                target_root,
                mounter: options.mounter.clone(),
                empty_dir,
                selinux_label: stowage_sys::selinux_enabled().then_some(CONTAINER_FILE),
                erofs: OnceLock::new(),
                policy: RwLock::new(Arc::new(options.policy.clone())),
                options,
                jobs: jobs::Jobs::default(),
                targets: keyed::KeyedLocks::default(),
                views: keyed::KeyedLocks::default(),
                idle: recover::Idle::default(),
                published: OnceLock::new(),
                reservations: reservations::Reservations::default(),
                plans: plans::Plans::default(),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                steps: Semaphore::new(BLOCKING_STEPS),
            }),
        }
    }

    /// The store behind the volumes.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The engine behind the volumes.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Replaces the administrator's rules. They hold for volumes that are published from now on, and for those that
    /// kubelet asks for again; what is mounted stays.
    pub fn set_policy(&self, policy: Policy) {
        *self.inner.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Has `told` hear of each volume once, when it is mounted, whether or not a call still waits for it. The first
    /// listener counts. It is called on an async worker and must not block.
    pub fn on_published(&self, told: impl Fn(&Published) + Send + Sync + 'static) {
        let _ = self.inner.published.set(Box::new(told));
    }

    /// Answers every waiting call at once, stops the downloads so that they can be resumed, leaves every mount.
    pub async fn shutdown(&self) {
        self.inner.jobs.close();
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.engine.shutdown();
        self.inner.engine.closed().await;
    }
}

impl Inner {
    /// The administrator's rules.
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs one blocking step off the async workers, and to its end even when the caller is dropped.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        step: impl FnOnce() -> Result<T, PublishError> + Send + 'static,
    ) -> Result<T, PublishError> {
        let Ok(_permit) = self.steps.acquire().await else { return Err(PublishError::ShuttingDown) };
        tokio::task::spawn_blocking(step).await.map_err(|error| {
            tracing::error!(%error, doing, "a blocking step died");
            PublishError::Died { doing }
        })?
    }

    /// A manifest or config out of the store.
    fn read_small(&self, digest: &Digest) -> Result<Option<Vec<u8>>, PublishError> {
        let doing = "read a manifest";
        match self.store.blob_size(digest) {
            None => return Ok(None),
            // Whatever stands there, it is no document.
            Some(size) if size > MAX_MANIFEST_BYTES => return Ok(None),
            Some(_) => {}
        }
        let mut bytes = Vec::new();
        self.store
            .open_blob(digest)
            .and_then(|mut file| Ok(file.read_to_end(&mut bytes)?))
            .map_err(error::store_error(doing))?;
        Ok(Some(bytes))
    }
}
