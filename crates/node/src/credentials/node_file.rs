//! The node's own docker configuration, which every pod on the node may use.

use std::path::Path;

use stowage_artifact::Reference;
use stowage_registry::{Credential, DockerConfig};

use crate::small_file;

/// As much as of a pull secret.
const LONGEST_FILE: u64 = 1 << 20;

/// The node's own docker configuration.
#[derive(Debug)]
pub struct NodeCredentials;

impl NodeCredentials {
    /// The credential for `reference` in the docker configuration at `path`; none where the file is absent.
    ///
    /// # Errors
    /// One sentence where the file is there and cannot be used.
    pub fn lookup(path: &Path, reference: &Reference) -> Result<Option<Credential>, String> {
        let text = match small_file::read(path, LONGEST_FILE) {
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
