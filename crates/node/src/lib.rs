//! The node plugin: the CSI Identity and Node services, the registration with kubelet, and events of pods.
//!
//! A thin adapter: foreign text becomes types in `arguments`, the work is done by
//! `stowage-volumes`, and its errors become status codes in `status`. Nothing is pulled or mounted here.

mod arguments;
mod configuration;
mod context;
mod credentials;
mod deadline;
mod events;
mod identity;
pub mod kubernetes;
mod node_service;
mod registration;
mod server;
mod small_file;
mod status;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use stowage_telemetry::{Health, Metrics};
use stowage_volumes::Volumes;

pub use configuration::{
    ConfigurationError, ErofsBacking, LogLines, NodeConfiguration, Watcher, node_schema, restart_needed,
};
pub use credentials::{
    CredentialSettings, Credentials, NodeCredentials, ProviderSettings, TOKEN_USERNAME, TokenMode, TokenRule,
};
pub use events::Events;
pub use identity::IdentityService;
pub use node_service::NodeService;
pub use registration::{Registration, RegistrationOptions};
pub use server::serve;
pub use stowage_csi_plugin::{OwnedSocket, ServeError, SocketError};

/// The driver's name in Kubernetes objects, unless the administrator chooses another one.
pub const DRIVER_NAME: &str = "csi.stowage.dev";

/// Settings of the two services.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The CSI driver name: at most 63 characters of DNS label letters, ending in a letter or digit.
    pub driver_name: String,
    /// The node's name in the cluster.
    pub node_id: String,
    /// How long a publish call waits for a download at most.
    pub publish_wait: Duration,
    /// Where credentials come from besides the pods' own secrets.
    pub credentials: Credentials,
}

/// What both services share. The volumes come when the store is open; until then Probe says so.
#[derive(Clone, Debug)]
pub struct Plugin {
    options: Arc<NodeOptions>,
    volumes: Arc<OnceLock<Volumes>>,
    events: Events,
    metrics: Metrics,
    health: Health,
}

impl Plugin {
    /// A plugin whose store is not open yet.
    pub fn new(options: NodeOptions, metrics: Metrics, health: Health) -> Self {
        health.waiting("store", "the store is not open yet");
        Self { options: Arc::new(options), volumes: Arc::default(), events: Events::off(), metrics, health }
    }

    /// The same plugin, which reports to `events` what becomes of the volumes of pods.
    #[must_use]
    pub fn with_events(mut self, events: Events) -> Self {
        self.events = events;
        self
    }

    /// The store is open and repaired: from now on volumes are published. The first call counts.
    pub fn open(&self, volumes: Volumes) {
        let metrics = self.metrics.clone();
        volumes.on_published(move |published| {
            metrics.mounted(published.elapsed, published.fetched, published.cached);
        });
        if self.volumes.set(volumes).is_ok() {
            self.health.ready("store");
        }
    }

    /// Ends all waiting for credentials: the process is about to stop.
    pub(crate) fn stop_looking(&self) {
        self.options.credentials.close();
    }

    /// The volumes, once the store is open.
    pub(crate) fn volumes(&self) -> Option<&Volumes> {
        self.volumes.get()
    }
}

/// Checks a CSI driver name (CSI spec, `GetPluginInfoResponse.name`).
///
/// # Errors
/// One sentence that says which rule the name breaks.
pub fn check_driver_name(name: &str) -> Result<(), String> {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    let ends = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric());
    if name.len() <= 63 && letters && ends {
        return Ok(());
    }
    Err(format!(
        "driver name `{name}` is invalid: use at most 63 letters, digits, dots and dashes, with a letter or digit at both ends"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_names_follow_the_csi_spec() {
        for good in [DRIVER_NAME, "a", "A-1.b"] {
            assert_eq!(check_driver_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a.", "a/b", "a_b", &"a".repeat(64)] {
            assert!(check_driver_name(bad).unwrap_err().contains(bad), "{bad}");
        }
    }
}
