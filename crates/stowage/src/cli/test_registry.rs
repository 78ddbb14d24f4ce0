//! `stowage test-registry`.

use std::net::SocketAddr;

use clap::Args;
use stowage_testkit::stocked::Sample;

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
    /// The tag of all samples
    #[arg(long, default_value = "v1", value_name = "TAG")]
    pub(crate) tag: String,
    /// An artifact to stock, FAMILY:REPOSITORY:BYTES with oras, modelpack or image; may be repeated
    #[arg(long = "sample", value_name = "SAMPLE")]
    pub(crate) samples: Vec<Sample>,
}
