//! `stowage controller`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::RegistryArgs;

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
