//! What the demo plays on: a registry, the node plugin on its socket, a kubelet, one temporary directory.

use std::collections::{BTreeMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use stowage_artifact::{Platform, VolumeAttributes};
use stowage_registry::Registry;
use stowage_testkit::artifacts::WirePush;
use stowage_testkit::kubelet::{FakeKubelet, Plugin, Pod, Publication};
use stowage_volumes::{Access, Resolved};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::samples::Sample;
use crate::Failure;
use crate::cli::{DownloadArgs, LogArgs, MAX_PENDING_VOLUMES, NodeArgs, RegistryArgs, StoreArgs, TarArgs};
use crate::commands::node;
use crate::node_setup::NodeSetup;

/// How long the plugin may take to be registered.
const REGISTERED_WITHIN: Duration = Duration::from_secs(30);

/// Everything that runs during the demo.
pub(crate) struct Stage {
    pub(crate) place: String,
    pub(crate) registry: stowage_testkit::Registry,
    pub(crate) directory: tempfile::TempDir,
    client: Registry,
    plugin: Plugin,
    node: JoinHandle<Result<(), Failure>>,
    stop: CancellationToken,
}

/// A published volume and how long its publish took.
pub(crate) struct Shown {
    pub(crate) target: PathBuf,
    pub(crate) elapsed: Duration,
    publication: Publication,
}

impl Stage {
    pub(crate) async fn set(place: &str) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("stowage-demo-").tempdir()?;
        let registry = stowage_testkit::Registry::builder()
            .start()
            .await
            .context("cannot start the embedded registry")?;
        let kubelet = FakeKubelet::new(directory.path().join("kubelet"))?;
        let driver = stowage_node::DRIVER_NAME;
        let plugin_dir = kubelet.plugin_dir(driver);
        std::fs::create_dir_all(&plugin_dir)?;
        let local = RegistryArgs {
            plain_http: vec![registry.host()],
            allow_local: vec![registry.host()],
            ..RegistryArgs::none()
        };
        let args = NodeArgs {
            config: None,
            csi_socket: plugin_dir.join("csi.sock"),
            kubelet_endpoint: None,
            kubelet_dir: kubelet.root().to_owned(),
            registration_dir: None,
            registration: true,
            driver_name: driver.to_owned(),
            node_id: "demo".to_owned(),
            http: ([127, 0, 0, 1], 0).into(),
            kubernetes: Some(false),
            publish_wait: 110,
            interest: 300,
            max_pending_volumes: MAX_PENDING_VOLUMES,
            allowed_registries: Vec::new(),
            require_digest: false,
            registry: local.clone(),
            downloads: DownloadArgs::default(),
            tars: TarArgs::default(),
        };
        let store = StoreArgs {
            path: directory.path().join("store"),
            max_bytes: None,
            // The demo's few megabytes are gone in a moment; a nearly full laptop may still see them.
            min_free: 1,
        };
        let stop = CancellationToken::new();
        let node = tokio::spawn({
            let stop = stop.clone();
            let setup = NodeSetup::without_file(store, LogArgs::default(), args);
            async move { node::run_until(setup, stop).await }
        });
        let registered = kubelet.register(driver, REGISTERED_WITHIN).await;
        let plugin = match registered {
            Ok(plugin) => plugin,
            // The plugin's own reason says more than kubelet's.
            Err(_) if node.is_finished() => match node.await? {
                Err(Failure::Failed(error) | Failure::Configuration(error)) => return Err(error),
                Ok(()) => anyhow::bail!("the node plugin ended before it was registered"),
            },
            Err(error) => return Err(error.into()),
        };
        let client = crate::wiring::registry(&local, true).map_err(|failure| match failure {
            Failure::Failed(error) | Failure::Configuration(error) => error,
        })?;
        Ok(Self { place: place.to_owned(), registry, directory, client, plugin, node, stop })
    }

    pub(crate) fn socket(&self) -> &Path {
        self.plugin.endpoint()
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn reference(&self, sample: &Sample) -> String {
        self.registry.reference(sample.repository, "v1")
    }

    /// Pushes over the wire, as any client would.
    pub(crate) async fn push(&self, sample: &Sample) -> anyhow::Result<()> {
        Ok(WirePush::to(&self.reference(sample)).plain_http().push(&sample.artifact).await?)
    }

    /// What the volume is to hold, from the manifest alone.
    pub(crate) async fn inspect(
        &self,
        sample: &Sample,
        attributes: &[(&'static str, &'static str)],
    ) -> anyhow::Result<Resolved> {
        let mut all: BTreeMap<String, String> =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        all.insert("reference".to_owned(), self.reference(sample));
        let attributes = VolumeAttributes::parse(&all)?;
        let access = Access::of(None);
        Ok(stowage_volumes::inspect(&self.client, &attributes, &access, &Platform::current()).await?)
    }

    /// Publishes an inline volume for a new pod, as kubelet does.
    pub(crate) async fn publish(
        &self,
        sample: &Sample,
        attributes: &[(&'static str, &'static str)],
        pod: &str,
    ) -> anyhow::Result<Shown> {
        let reference = self.reference(sample);
        let mut all = vec![("reference", reference.as_str())];
        all.extend(attributes);
        let started = Instant::now();
        let publication = self
            .plugin
            .publish_inline(&Pod::new("demo", pod), "artifact", &all, &[], true)
            .await
            .map_err(|status| anyhow::anyhow!("{}", status.message()))?;
        Ok(Shown { target: publication.target.clone(), elapsed: started.elapsed(), publication })
    }

    pub(crate) async fn unpublish(&self, shown: &Shown) -> anyhow::Result<()> {
        self.plugin
            .unpublish(&shown.publication)
            .await
            .map_err(|status| anyhow::anyhow!("{}", status.message()))
    }

    /// Bytes that the store's blobs take on the disk.
    pub(crate) fn disk_bytes(&self) -> anyhow::Result<u64> {
        self.sum_of_blobs(|metadata| metadata.blocks() * 512)
    }

    /// Bytes that the store's blobs hold.
    pub(crate) fn blob_bytes(&self) -> anyhow::Result<u64> {
        self.sum_of_blobs(Metadata::len)
    }

    /// Adds up over the store's blobs, each inode once.
    fn sum_of_blobs(&self, size: impl Fn(&Metadata) -> u64) -> anyhow::Result<u64> {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        let mut open = vec![self.store().join("blobs")];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(&directory)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    open.push(entry.path());
                } else if seen.insert(metadata.ino()) {
                    bytes += size(&metadata);
                }
            }
        }
        Ok(bytes)
    }

    /// Stops the plugin and removes every mount and file; says so only where it is true.
    pub(crate) async fn clear(self) -> anyhow::Result<()> {
        let Self { directory, node, stop, registry, .. } = self;
        stop.cancel();
        if let Err(Failure::Failed(error) | Failure::Configuration(error)) = node.await? {
            return Err(error.context("the node plugin did not stop cleanly"));
        }
        drop(registry);
        let path = directory.path().to_owned();
        let left = stowage_sys::mounts_beneath(&path)?;
        for mount in &left {
            stowage_sys::unmount(&mount.mount_point)?;
        }
        make_removable(&path)?;
        directory.close().context("cannot remove the demo's directory")?;
        ensure!(left.is_empty(), "{} mounts were left behind and have been removed", left.len());
        ensure!(!path.exists(), "{} was left behind", path.display());
        say!("\ncleaned up: no mount, no file left in {}", path.display());
        Ok(())
    }
}

/// Whether the kernel keeps EROFS from whoever is root only in a user namespace, or has none.
pub(crate) fn mounts_no_tars() -> bool {
    let initial = std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    let known = std::fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("\terofs"));
    !initial || !known
}

/// Directories of views are 0555, which only root removes from.
fn make_removable(root: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}
