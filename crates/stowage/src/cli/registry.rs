//! How registries are reached.

use std::path::PathBuf;

use clap::Args;
use stowage_registry::DEFAULT_HOSTS_DIRS;

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
