//! The node's own docker configuration, which every pod on the node may use.

use std::path::Path;

use stowage_artifact::Reference;
use stowage_registry::{Credential, DockerConfig};

/// The node's own docker configuration.
#[derive(Debug)]
pub struct NodeCredentials;

impl NodeCredentials {
    /// The credential for `reference` in the docker configuration at `path`; none where the file is absent.
    ///
    /// # Errors
    /// One sentence where the file is there and cannot be used.
    pub fn lookup(path: &Path, reference: &Reference) -> Result<Option<Credential>, String> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(format!("cannot read the docker configuration {}: {error}", path.display()));
            }
        };
        let config = DockerConfig::parse(&text)
            .map_err(|error| format!("the docker configuration {} is invalid: {error}", path.display()))?;
        Ok(config.lookup(reference))
    }
}
