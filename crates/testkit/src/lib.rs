//! What the tests, and the demo, need around Stowage: an in-process registry that can misbehave on
//! demand, builders of artifacts, a kubelet, an API server, real registries and clients, private mount namespaces.
//!
//! Never published, never on the path of a volume.

pub mod api_server;
pub mod artifacts;
pub mod docker_registry;
pub mod kubelet;
pub mod namespace;
pub mod registry;
pub mod stocked;
pub mod throttle;
pub mod tools;

pub use api_server::ApiServer;
pub use artifacts::{Artifact, ArtifactBuilder, BlobData, Generated, Layer};
pub use kubelet::FakeKubelet;
pub use registry::{Fault, Registry, Target};
