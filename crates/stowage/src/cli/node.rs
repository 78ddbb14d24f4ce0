//! `stowage node`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{DownloadArgs, RegistryArgs, TarArgs};

pub(crate) const MAX_PENDING_VOLUMES: u64 = 1000;

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
