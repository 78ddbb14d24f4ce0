//! The CSI Identity and Controller services (CSI spec 1.13), for external-provisioner.
//!
//! `provisioner` does the work, `controller_service` and `identity` are thin adapters over it, and `error` says which
//! code each failure is.

mod capability;
mod capacity;
pub(crate) mod cluster;
mod controller_service;
mod error;
mod identity;
pub(crate) mod memory;
mod names;
mod parameters;
mod provisioner;
mod server;

pub use controller_service::ControllerService;
pub use identity::IdentityService;
pub use provisioner::{Provisioner, ProvisionerOptions};
pub use server::serve;
pub use stowage_csi_plugin::ServeError;

/// The key of a volume's context that keeps what the claim asked for, beside the pin that `reference` becomes.
pub(crate) const REQUESTED_REFERENCE: &str = "requestedReference";
