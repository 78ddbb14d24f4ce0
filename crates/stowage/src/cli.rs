//! The command line. Every option is a flag with an environment variable.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help text, which shows backticks as they are"
)]
#![allow(rustdoc::broken_intra_doc_links, reason = "brackets in the help text are what may be left out")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use stowage_engine::EngineOptions;
use stowage_registry::DEFAULT_HOSTS_DIRS;
use stowage_store::{MinFree, StoreOptions};
use stowage_sys::ErofsBackingChoice;
use stowage_telemetry::LogFormat;
use stowage_testkit::stocked::Sample;
use stowage_volumes::{READ_AHEAD_KIB, VolumesOptions};

use crate::commands::probe_volume::ExpectedFile;

/// Mounts OCI artifacts as read-only volumes, without unpacking.
#[derive(Debug, Parser)]
#[command(name = "stowage", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StoreArgs {
    /// Directory of the store, on one filesystem
    #[arg(
        long = "store",
        env = "STOWAGE_STORE",
        default_value = "/var/lib/stowage",
        global = true,
        value_name = "DIR"
    )]
    pub(crate) path: PathBuf,
    /// Most bytes that the store may hold [default: by free space only]
    #[arg(long, env = "STOWAGE_MAX_BYTES", global = true, value_name = "BYTES")]
    pub(crate) max_bytes: Option<u64>,
    /// Per cent of the filesystem's bytes that are kept free for others
    #[arg(long, env = "STOWAGE_MIN_FREE", default_value_t = 20, global = true, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=95))]
    pub(crate) min_free: u8,
}

impl StoreArgs {
    /// The store's options.
    pub(crate) fn options(&self) -> StoreOptions {
        let defaults = StoreOptions::default();
        StoreOptions {
            max_bytes: self.max_bytes,
            min_free: MinFree { bytes_percent: self.min_free, ..defaults.min_free },
            ..defaults
        }
    }
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LogArgs {
    /// What to log: a level, or directives such as `stowage_engine=debug,info` [default: info for node and controller, else warn]
    #[arg(long = "log", env = "STOWAGE_LOG", global = true, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// How log lines look: auto, human or json
    #[arg(long, env = "STOWAGE_LOG_FORMAT", default_value = "auto", global = true, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the main job on this machine: embedded registry, node plugin, volumes; no cluster needed
    Demo(DemoArgs),
    /// Mount an artifact at a directory
    Mount(MountArgs),
    /// Unmount what `stowage mount` has mounted, and remove the empty directory
    Unmount(UnmountArgs),
    /// Bring an artifact into the store, from a registry or an OCI layout directory (oci:DIR)
    Pull(PullArgs),
    /// Show what volume a reference would become, fetching only its manifest
    Inspect(InspectArgs),
    /// Look after the store
    Store(StoreCommandArgs),
    /// Run the node plugin: CSI on a unix socket, registered with kubelet
    Node(Box<NodeArgs>),
    /// Run the controller: CSI for external-provisioner, and CachedArtifacts
    Controller(Box<ControllerArgs>),
    /// Print the definition of CachedArtifact as YAML, for kubectl apply
    Crd,
    /// Wait for SIGTERM: the container of a pod that only holds a volume
    Pause,
    /// Name the pods and PersistentVolumes of a cluster that use the driver; fail if there are any
    InUse(InUseArgs),
    /// Show what a configuration file may say
    Config(ConfigArgs),
    /// For the end-to-end tests: a registry that stocks itself, and forgets everything when it ends
    #[command(hide = true)]
    TestRegistry(TestRegistryArgs),
    /// For the end-to-end tests: compare the files of a volume with their digests
    #[command(hide = true)]
    ProbeVolume(ProbeVolumeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the JSON schema of a configuration file
    Schema {
        /// Whose configuration
        #[arg(default_value = "node", value_name = "WHOSE")]
        whose: ConfigKind,
    },
}

/// Who has a configuration file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ConfigKind {
    /// `stowage node`
    Node,
    /// `stowage controller`
    Controller,
}

/// In place of a directory: no mirrors.
pub(crate) const NO_HOSTS: &str = "none";

/// How registries are reached.
#[derive(Clone, Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Certificate authorities to trust besides the system's, as PEM files
    #[arg(long, env = "STOWAGE_CA", value_name = "FILE", value_delimiter = ',')]
    pub(crate) ca: Vec<PathBuf>,
    /// Registries that speak plain http, as host[:port]
    #[arg(long, env = "STOWAGE_PLAIN_HTTP", value_name = "HOST", value_delimiter = ',')]
    pub(crate) plain_http: Vec<String>,
    /// Hosts that may resolve to loopback or link-local addresses, as host[:port]
    #[arg(long, env = "STOWAGE_ALLOW_LOCAL", value_name = "HOST", value_delimiter = ',')]
    pub(crate) allow_local: Vec<String>,
    /// Directories with containerd's hosts.toml files, for mirrors; `none` for no mirrors [default: those of containerd, k3s, RKE2 and Talos]
    #[arg(long, env = "STOWAGE_HOSTS_DIR", value_name = "DIR", value_delimiter = ',')]
    pub(crate) hosts_dir: Vec<PathBuf>,
    /// Docker configuration with credentials [default: ~/.docker/config.json, none for node]
    #[arg(long, env = "STOWAGE_DOCKER_CONFIG", value_name = "FILE")]
    pub(crate) docker_config: Option<PathBuf>,
}

impl RegistryArgs {
    /// Nothing beyond the defaults.
    pub(crate) fn none() -> Self {
        Self {
            ca: Vec::new(),
            plain_http: Vec::new(),
            allow_local: Vec::new(),
            hosts_dir: vec![NO_HOSTS.into()],
            docker_config: None,
        }
    }

    /// Where mirrors are written down.
    pub(crate) fn hosts_roots(&self) -> Vec<PathBuf> {
        match self.hosts_dir.as_slice() {
            [] => DEFAULT_HOSTS_DIRS.map(PathBuf::from).into(),
            given => given.iter().filter(|root| root.as_os_str() != NO_HOSTS).cloned().collect(),
        }
    }
}

const CONNECTIONS_PER_BLOB: u64 = 12;
const MAX_CONNECTIONS: u64 = 24;
const MAX_CONCURRENT_BLOBS: u64 = 16;
pub(crate) const MAX_PENDING_VOLUMES: u64 = 1000;

/// How much of the network downloads take.
#[derive(Clone, Debug, Args)]
pub(crate) struct DownloadArgs {
    /// Connections that one blob is read over at a time
    #[arg(long, env = "STOWAGE_CONNECTIONS_PER_BLOB", default_value_t = CONNECTIONS_PER_BLOB, value_name = "N", value_parser = limit())]
    pub(crate) connections_per_blob: u64,
    /// Connections of all downloads together; each takes up to 2 MiB of memory
    #[arg(long, env = "STOWAGE_MAX_CONNECTIONS", default_value_t = MAX_CONNECTIONS, value_name = "N", value_parser = limit())]
    pub(crate) max_connections: u64,
    /// Connections to one registry [default: as many as in all]
    #[arg(long, env = "STOWAGE_MAX_CONNECTIONS_PER_REGISTRY", value_name = "N", value_parser = limit())]
    pub(crate) max_connections_per_registry: Option<u64>,
    /// Blobs that are downloaded at a time; small ones are not counted
    #[arg(long, env = "STOWAGE_MAX_CONCURRENT_BLOBS", default_value_t = MAX_CONCURRENT_BLOBS, value_name = "N", value_parser = limit())]
    pub(crate) max_concurrent_blobs: u64,
    /// Bytes a second of all downloads together [default: no limit]
    #[arg(long, env = "STOWAGE_MAX_BYTES_PER_SECOND", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_bytes_per_second: Option<u64>,
}

impl Default for DownloadArgs {
    fn default() -> Self {
        Self {
            connections_per_blob: CONNECTIONS_PER_BLOB,
            max_connections: MAX_CONNECTIONS,
            max_connections_per_registry: None,
            max_concurrent_blobs: MAX_CONCURRENT_BLOBS,
            max_bytes_per_second: None,
        }
    }
}

/// How files that come out of tars are mounted.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TarArgs {
    /// How EROFS reads tars: through files, through loop devices, or not at all
    #[arg(long, env = "STOWAGE_EROFS", default_value = "auto", value_name = "HOW")]
    pub(crate) erofs: Erofs,
    /// Let the kernel mount EROFS and SquashFS images from registries: it then parses what a stranger wrote
    #[arg(long, env = "STOWAGE_ALLOW_FILESYSTEM_LAYERS")]
    pub(crate) allow_filesystem_layers: bool,
    /// How far the kernel reads ahead in a file out of a tar, in KiB
    #[arg(long, env = "STOWAGE_READ_AHEAD_KIB", default_value_t = READ_AHEAD_KIB, value_name = "KIB", value_parser = clap::value_parser!(u32).range(4..=65536))]
    pub(crate) read_ahead_kib: u32,
}

/// How EROFS reads tars.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Erofs {
    /// What the kernel's version and a trial mount say
    Auto,
    /// Through files, from Linux 6.12.2 on
    File,
    /// Through read-only loop devices, from Linux 6.4 on
    Loop,
    /// Tars are refused, unless they are mounted as files
    None,
}

impl TarArgs {
    /// The same options over those of volumes.
    pub(crate) fn options(self) -> VolumesOptions {
        let erofs = match self.erofs {
            Erofs::Auto => ErofsBackingChoice::Auto,
            Erofs::File => ErofsBackingChoice::File,
            Erofs::Loop => ErofsBackingChoice::Loop,
            Erofs::None => ErofsBackingChoice::None,
        };
        VolumesOptions {
            erofs,
            allow_filesystem_layers: self.allow_filesystem_layers,
            read_ahead_kib: self.read_ahead_kib,
            ..VolumesOptions::default()
        }
    }
}

impl Default for TarArgs {
    fn default() -> Self {
        Self { erofs: Erofs::Auto, allow_filesystem_layers: false, read_ahead_kib: READ_AHEAD_KIB }
    }
}

/// A number of connections or blobs.
fn limit() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1024)
}

impl DownloadArgs {
    /// The engine's options. One namespace may take three quarters of what there is.
    pub(crate) fn options(&self) -> EngineOptions {
        let most = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let share = |all: u64| most((all * 3).div_ceil(4));
        EngineOptions {
            connections_per_blob: most(self.connections_per_blob),
            max_connections: most(self.max_connections),
            max_connections_per_namespace: share(self.max_connections),
            max_connections_per_registry: most(
                self.max_connections_per_registry.unwrap_or(self.max_connections),
            ),
            max_blobs: most(self.max_concurrent_blobs),
            max_blobs_per_namespace: share(self.max_concurrent_blobs),
            max_bytes_per_second: self.max_bytes_per_second,
            ..EngineOptions::default()
        }
    }
}

/// What volume an artifact becomes; the same words as a pod's volumeAttributes.
#[derive(Clone, Debug, Args)]
pub(crate) struct VolumeArgs {
    /// The artifact: registry/repository[:tag][@digest]
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    /// IfNotPresent, Always or Never
    #[arg(long, env = "STOWAGE_PULL_POLICY", value_name = "POLICY")]
    pub(crate) pull_policy: Option<String>,
    /// Only files that match this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// No files that match this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Only this directory of the artifact, as the root of the volume
    #[arg(long, value_name = "PATH")]
    pub(crate) sub_path: Option<String>,
    /// Which manifest of an index: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Which manifest of an index: key=value on its annotations or artifactType
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) variant: Option<String>,
    /// Any other volume attribute; may be repeated
    #[arg(long = "attribute", short = 'a', value_name = "KEY=VALUE")]
    pub(crate) attributes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Size in MiB of the largest file in the demo's artifacts
    #[arg(long, env = "STOWAGE_DEMO_MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=16384))]
    pub(crate) size_mib: u64,
}

#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    /// An existing directory, or one whose parent exists
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) downloads: DownloadArgs,
    #[command(flatten)]
    pub(crate) tars: TarArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnmountArgs {
    /// Where the artifact is mounted
    pub(crate) target: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) downloads: DownloadArgs,
    /// For oci:DIR: under which reference pods will ask for it
    #[arg(long = "as", value_name = "REF")]
    pub(crate) name: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StoreCommandArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List blobs, views, volumes and incomplete downloads
    Ls,
    /// Remove everything that no volume uses
    Gc,
    /// Read every blob again and compare it with its digest
    Fsck {
        /// Quarantine what is damaged, remove what is left over
        #[arg(long)]
        repair: bool,
    },
    /// Remove one blob or view that no volume uses
    Rm {
        /// A digest, or the id of a view
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InUseArgs {
    /// CSI driver name
    #[arg(long, env = "STOWAGE_DRIVER_NAME", default_value = stowage_node::DRIVER_NAME, value_name = "NAME")]
    pub(crate) driver_name: String,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    /// A NodeConfiguration file; what is typed here or set in the environment beats it
    #[arg(long, env = "STOWAGE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The CSI socket
    #[arg(long, env = "STOWAGE_CSI_SOCKET", default_value = "/csi/csi.sock", value_name = "PATH")]
    pub(crate) csi_socket: PathBuf,
    /// The CSI socket as kubelet sees it [default: KUBELET_DIR/plugins/DRIVER/csi.sock]
    #[arg(long, env = "STOWAGE_KUBELET_ENDPOINT", value_name = "PATH")]
    pub(crate) kubelet_endpoint: Option<PathBuf>,
    /// Kubelet's root directory; volumes are published only beneath it
    #[arg(long, env = "STOWAGE_KUBELET_DIR", default_value = "/var/lib/kubelet", value_name = "DIR")]
    pub(crate) kubelet_dir: PathBuf,
    /// Kubelet's plugin registration directory as this process sees it [default: KUBELET_DIR/plugins_registry]
    #[arg(long, env = "STOWAGE_REGISTRATION_DIR", value_name = "DIR")]
    pub(crate) registration_dir: Option<PathBuf>,
    /// Register with kubelet; false where a registrar sidecar does it
    #[arg(long, env = "STOWAGE_REGISTRATION", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) registration: bool,
    /// CSI driver name
    #[arg(long, env = "STOWAGE_DRIVER_NAME", default_value = stowage_node::DRIVER_NAME, value_name = "NAME")]
    pub(crate) driver_name: String,
    /// Name of this node in the cluster
    #[arg(long, env = "STOWAGE_NODE_ID", value_name = "NAME")]
    pub(crate) node_id: String,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "STOWAGE_HTTP", default_value = "127.0.0.1:9808", value_name = "ADDRESS")]
    pub(crate) http: SocketAddr,
    /// Write pod events, and remove the taint stowage.dev/not-ready from this node [default: true in a cluster]
    #[arg(long, env = "STOWAGE_KUBERNETES", action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) kubernetes: Option<bool>,
    /// How long a publish call waits for a download, in seconds
    #[arg(long, env = "STOWAGE_PUBLISH_WAIT", default_value_t = 110, value_name = "SECONDS")]
    pub(crate) publish_wait: u64,
    /// How long a download goes on when nobody asks for its volume any more, in seconds
    #[arg(long, env = "STOWAGE_INTEREST", default_value_t = 300, value_name = "SECONDS")]
    pub(crate) interest: u64,
    /// Volumes that may be on their way at the same time
    #[arg(long, env = "STOWAGE_MAX_PENDING_VOLUMES", default_value_t = MAX_PENDING_VOLUMES, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) max_pending_volumes: u64,
    /// Only references whose registry/repository one of these globs covers; without a `/`, a glob is for the host alone
    #[arg(long, env = "STOWAGE_ALLOWED_REGISTRIES", value_delimiter = ',', value_name = "GLOB")]
    pub(crate) allowed_registries: Vec<String>,
    /// Refuse references without a digest
    #[arg(long, env = "STOWAGE_REQUIRE_DIGEST")]
    pub(crate) require_digest: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) downloads: DownloadArgs,
    #[command(flatten)]
    pub(crate) tars: TarArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TestRegistryArgs {
    /// Address of the registry, over plain http
    #[arg(long, default_value = "0.0.0.0:5000", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Address of /healthz, /samples and /traffic
    #[arg(long, default_value = "0.0.0.0:5080", value_name = "ADDRESS")]
    pub(crate) books: SocketAddr,
    /// The one user, NAME:PASSWORD; without it everybody may pull
    #[arg(long, env = "STOWAGE_TEST_REGISTRY_USER", hide_env_values = true)]
    pub(crate) user: Option<String>,
    /// Bytes a second of each connection
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// Another text gives other bytes
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) salt: String,
    /// An artifact to stock, FAMILY:REPOSITORY:BYTES with oras, modelpack or image; may be repeated
    #[arg(long = "sample", value_name = "SAMPLE")]
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeVolumeArgs {
    /// Where the volume is mounted
    #[arg(long, value_name = "DIR")]
    pub(crate) path: PathBuf,
    /// A file that must be there, PATH=DIGEST; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) expect: Vec<ExpectedFile>,
    /// No other file may be there
    #[arg(long)]
    pub(crate) exact: bool,
    /// Every attempt to write must fail because the filesystem is read-only
    #[arg(long)]
    pub(crate) write_must_fail: bool,
    /// Read again and again until told to stop
    #[arg(long)]
    pub(crate) hold: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ControllerArgs {
    /// Serve CSI for external-provisioner
    #[arg(long, env = "STOWAGE_CSI", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) csi: bool,
    /// The CSI socket
    #[arg(long, env = "STOWAGE_CSI_SOCKET", default_value = "/csi/csi.sock", value_name = "PATH")]
    pub(crate) csi_socket: PathBuf,
    /// CSI driver name
    #[arg(long, env = "STOWAGE_DRIVER_NAME", default_value = stowage_node::DRIVER_NAME, value_name = "NAME")]
    pub(crate) driver_name: String,
    /// Settings as a file: a ControllerConfiguration
    #[arg(long, env = "STOWAGE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "STOWAGE_HTTP", default_value = "127.0.0.1:9808", value_name = "ADDRESS")]
    pub(crate) http: SocketAddr,
    /// Speak to the API server [default: true in a pod]
    #[arg(long, env = "STOWAGE_KUBERNETES", action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) kubernetes: Option<bool>,
    /// Remember volumes in this file, where no API server does
    #[arg(long, env = "STOWAGE_MEMORY", value_name = "FILE")]
    pub(crate) memory: Option<PathBuf>,
    /// Look after CachedArtifacts
    #[arg(long, env = "STOWAGE_PREFETCH", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) prefetch: bool,
    /// The image of the pods of CachedArtifacts: that of this program
    #[arg(long, env = "STOWAGE_PREFETCH_IMAGE", value_name = "IMAGE")]
    pub(crate) prefetch_image: Option<String>,
    /// Namespaces in which pull secrets of CachedArtifacts may be read
    #[arg(long, env = "STOWAGE_SECRET_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    pub(crate) secret_namespaces: Vec<String>,
    /// Let one of several replicas look after CachedArtifacts, by a Lease
    #[arg(long, env = "STOWAGE_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) leader_election: bool,
    /// Namespace of the Lease [default: this pod's]
    #[arg(long, env = "STOWAGE_NAMESPACE", value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Name of the Lease
    #[arg(long, env = "STOWAGE_LEASE_NAME", default_value = "stowage-controller", value_name = "NAME")]
    pub(crate) lease_name: String,
    /// This replica's name in the Lease [default: the host's]
    #[arg(long, env = "STOWAGE_IDENTITY", value_name = "NAME")]
    pub(crate) identity: Option<String>,
    /// Only references whose registry/repository one of these globs covers; without a `/`, a glob is for the host alone
    #[arg(long, env = "STOWAGE_ALLOWED_REGISTRIES", value_delimiter = ',', value_name = "GLOB")]
    pub(crate) allowed_registries: Vec<String>,
    /// Refuse references without a digest
    #[arg(long, env = "STOWAGE_REQUIRE_DIGEST", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) require_digest: Option<bool>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mirrors_are_looked_for_where_container_runtimes_look_unless_told_otherwise() {
        let roots = |arguments: &[&str]| {
            let line = ["stowage", "inspect", "a.io/b"].iter().chain(arguments);
            let Command::Inspect(args) = Cli::try_parse_from(line).unwrap().command else { panic!() };
            args.registry.hosts_roots()
        };
        assert_eq!(roots(&[]), DEFAULT_HOSTS_DIRS.map(PathBuf::from));
        assert_eq!(
            roots(&["--hosts-dir", "/a", "--hosts-dir", "/b,/c"]),
            ["/a", "/b", "/c"].map(PathBuf::from)
        );
        assert!(roots(&["--hosts-dir", "none"]).is_empty());
        assert!(RegistryArgs::none().hosts_roots().is_empty());
    }

    /// `architecture.md`: all options are flags with an environment variable each; those of a single
    /// artifact are its words, not settings.
    #[test]
    fn every_setting_of_the_long_running_parts_has_an_environment_variable() {
        let command = Cli::command();
        for part in ["node", "controller"] {
            let part = command.find_subcommand(part).unwrap();
            for argument in part.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let builtin = matches!(argument.get_id().as_str(), "help" | "version");
                assert!(builtin || argument.get_env().is_some(), "{}", argument.get_id());
            }
        }
    }
}
