//! Keeps `CachedArtifact` objects true: a DaemonSet whose pods do nothing but mount the artifact.
//!
//! `resolution` finds the digest, `daemon_set` is the object that is applied, `nodes` reads what became of it,
//! `status` puts both into conditions, and `reconcile` does it all in one step that can be repeated. What the
//! DaemonSet's owner reference says is all the cleaning up there is: no finalizer.

mod daemon_set;
mod nodes;
mod notes;
mod reconcile;
mod resolution;
mod run;
mod status;

use std::collections::BTreeSet;

use kube::Client;

use crate::resolve::Resolver;

pub use run::run;

/// Under which name the controller owns fields, and reports events.
pub(crate) const MANAGER: &str = "stowage-controller";

/// Settings of the reconciler.
#[derive(Clone)]
pub struct PrefetchOptions {
    /// The API server.
    pub client: Client,
    /// Resolves references.
    pub resolver: Resolver,
    /// The CSI driver name.
    pub driver_name: String,
    /// The image that holds the volumes: this program's own.
    pub image: String,
    /// Namespaces in which pull secrets may be read.
    pub secret_namespaces: BTreeSet<String>,
}
