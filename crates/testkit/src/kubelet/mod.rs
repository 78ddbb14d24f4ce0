//! A kubelet, as far as a CSI driver sees one: registration, paths, keys, defaults, deadlines.
//!
//! Everything happens beneath one directory, kubelet's root:
//!
//! ```text
//! plugins_registry/<driver>@reg.sock                         the plugin's registration socket
//! plugins/<driver>/                                          the plugin's own
//! pods/<uid>/volumes/kubernetes.io~csi/<name>/vol_data.json  kubelet's note of the volume
//! pods/<uid>/volumes/kubernetes.io~csi/<name>/mount          the target, which only the driver makes
//! ```

mod channel;
mod plugin;
mod pod;
mod registration;
mod retry;

use std::io;
use std::path::{Path, PathBuf};

pub use plugin::{Plugin, Publication, PublishRequest};
pub use pod::Pod;
pub use registration::RegistrationError;
pub use retry::{Failure, RetryPolicy, is_uncertain};

/// A kubelet with a root directory of its own.
#[derive(Clone, Debug)]
pub struct FakeKubelet {
    root: PathBuf,
}

impl FakeKubelet {
    /// Makes kubelet's directories beneath `root`.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        for directory in ["plugins", "plugins_registry", "pods"] {
            std::fs::create_dir_all(root.join(directory))?;
        }
        Ok(Self { root })
    }

    /// Kubelet's root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a driver's registration socket must appear.
    pub fn registration_socket(&self, driver: &str) -> PathBuf {
        self.root.join("plugins_registry").join(format!("{driver}@reg.sock"))
    }

    /// A driver's own directory.
    pub fn plugin_dir(&self, driver: &str) -> PathBuf {
        self.root.join("plugins").join(driver)
    }

    /// Where kubelet wants a pod's volume: an inline volume by its name in the pod, a persistent one by
    /// its name in the cluster.
    pub fn target_path(&self, pod: &Pod, volume: &str) -> PathBuf {
        self.volume_dir(pod, volume).join("mount")
    }

    fn volume_dir(&self, pod: &Pod, volume: &str) -> PathBuf {
        self.root.join("pods").join(&pod.uid).join("volumes/kubernetes.io~csi").join(volume)
    }
}
