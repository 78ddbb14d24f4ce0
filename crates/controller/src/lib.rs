//! The controller: volumes for claims, and artifacts on nodes before they are asked for.
//!
//! - [`csi`] serves the Controller service to external-provisioner: it resolves a StorageClass's reference, pins it to
//!   a digest and says how large the volume is. Nothing is stored.
//! - [`crd`] defines `CachedArtifact`, and [`prefetch`] keeps a DaemonSet for each of them.
//! - [`lease`] chooses the one of several replicas that reconciles. All of them serve CSI.
#![forbid(unsafe_code)]

#[cfg(test)]
#[path = "../harness/api_server.rs"]
mod api_server;
pub mod configuration;
pub mod crd;
mod credentials;
pub mod csi;
pub mod lease;
mod names;
pub mod prefetch;
pub mod resolve;

pub use configuration::{ConfigurationError, ControllerConfiguration};
pub use csi::memory::{Memory, MemoryError};
pub use csi::{Provisioner, ProvisionerOptions};
pub use lease::{LeaderElection, LeaseOptions};
pub use prefetch::PrefetchOptions;
pub use resolve::Resolver;
pub use stowage_artifact::ReferencePolicy as Policy;
