//! Keeps `CachedArtifact` objects true: a DaemonSet whose pods do nothing but mount the artifact.
//!
//! `resolution` finds the digest, `daemon_set` is the object that is applied, `placing` applies it, `nodes` reads what
//! became of it, `status` puts all into conditions, and `reconcile` does it in one step that can be repeated. `pauses` and
//! `slots` keep steps from asking too often and too much. What the DaemonSet's owner reference says is all the cleaning up
//! there is: no finalizer.

mod daemon_set;
mod nodes;
mod notes;
mod pauses;
mod placing;
mod reconcile;
mod resolution;
mod run;
mod slots;
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
