//! Volumes of one node, with everything beneath them, in a private mount namespace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stowage_artifact::VolumeAttributes;
use stowage_engine::{Engine, EngineOptions};
use stowage_registry::{Backoff, Credential, PlainHttp, RegistryOptions};
use stowage_store::{MinFree, Store, StoreOptions};
use stowage_sys::TargetRoot;
use stowage_testkit::artifacts::{self, Artifact};
use stowage_testkit::namespace::private_mounts;
use stowage_testkit::{BlobData, Registry};
use stowage_volumes::{Access, Progress, PublishRequest, Volumes, VolumesOptions};

/// How long anything may take on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Runs a test in a private mount namespace; the directory is made and removed outside of it.
pub(crate) fn scene(body: impl AsyncFnOnce(&Path) + Send) {
    let directory = tempfile::Builder::new().prefix("stv-").tempdir_in("/tmp").unwrap();
    let root = directory.path();
    private_mounts(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(body(root));
    });
}

/// Waits until `holds`, looking every few milliseconds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let met = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while !holds() {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, met).await.is_ok(), "not within {LIMIT:?}: {what}");
}

/// A registry without accounts that speaks plain http.
pub(crate) async fn registry() -> Registry {
    Registry::builder().start().await.unwrap()
}

/// A store that does not mind a full disk.
pub(crate) fn store_options() -> StoreOptions {
    StoreOptions { min_free: MinFree { bytes_percent: 0, inodes_percent: 0 }, ..StoreOptions::default() }
}

/// A node whose volumes appear beneath `root`.
pub(crate) struct Bench {
    pub(crate) volumes: Volumes,
    pub(crate) store: Store,
    pods: PathBuf,
}

impl Bench {
    pub(crate) fn new(root: &Path) -> Self {
        Self::with(root, store_options(), VolumesOptions::default())
    }

    pub(crate) fn with(root: &Path, store: StoreOptions, options: VolumesOptions) -> Self {
        let pods = root.join("pods");
        std::fs::create_dir_all(&pods).unwrap();
        let store = Store::open(&root.join("store"), store).unwrap();
        let quick = Duration::from_millis(1);
        let engine = Engine::new(
            store.clone(),
            EngineOptions { backoff_base: quick, backoff_cap: quick, tries: 2, ..EngineOptions::default() },
        );
        let registry = stowage_registry::Registry::new(RegistryOptions {
            plain_http: PlainHttp { hosts: Vec::new(), loopback: true },
            tries: 2,
            backoff: Backoff { base: quick, cap: quick },
            ..RegistryOptions::default()
        })
        .unwrap();
        let root = TargetRoot::open(&pods).unwrap();
        Self { volumes: Volumes::new(store.clone(), engine, registry, root, options), store, pods }
    }

    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.pods.join(name)
    }

    /// A volume at a target of the same name.
    pub(crate) fn request(&self, name: &str, reference: &str) -> PublishRequest {
        let attributes = BTreeMap::from([("reference".to_owned(), reference.to_owned())]);
        PublishRequest {
            volume_id: name.to_owned(),
            target: self.target(name),
            readonly: false,
            capability: "mount/SINGLE_NODE_WRITER".to_owned(),
            attributes: VolumeAttributes::parse(&attributes).unwrap(),
            namespace: "team".to_owned(),
            access: Access::of(None),
            wait: LIMIT,
            progress: Progress::default(),
        }
    }

    pub(crate) fn has_record(&self, name: &str) -> bool {
        self.store.record(name, &self.target(name)).unwrap().is_some()
    }

    pub(crate) fn is_mounted(&self, name: &str) -> bool {
        stowage_sys::inspect(&self.target(name)).unwrap().is_some()
    }

    pub(crate) async fn unpublish(&self, name: &str) {
        self.volumes.unpublish(name, &self.target(name)).await.unwrap();
    }
}

/// The same request by the holder of a password.
pub(crate) fn by(user: &str, mut request: PublishRequest) -> PublishRequest {
    request.access = Access::of(Some(Credential::password(user, format!("{user}-password"))));
    request
}

/// An artifact of one file.
pub(crate) fn model(seed: u64, size: u64) -> Artifact {
    artifacts::oras_files([("model.bin", BlobData::generated(seed, size))]).build().unwrap()
}
