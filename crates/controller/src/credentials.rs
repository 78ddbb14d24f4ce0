//! With which credential a registry is asked: the provisioner's secret first, then the controller's own file.

use std::collections::HashMap;
use std::path::PathBuf;

use stowage_artifact::Reference;
use stowage_registry::{Credential, DockerConfig, PullSecretError, credential_from_secret};

/// A credential cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    /// The secret of the request.
    #[error(transparent)]
    Secret(#[from] PullSecretError),
    /// The controller's own file. Its content is never repeated.
    #[error(
        "the controller's docker configuration {path} cannot be used: {reason}; correct it as `docker login` writes it",
        path = path.display()
    )]
    DockerConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The credential for `reference`; the file is read anew each time, and may be absent.
pub(crate) async fn of_request(
    secrets: HashMap<String, String>,
    docker_config: Option<&PathBuf>,
    reference: &Reference,
) -> Result<Option<Credential>, CredentialError> {
    let credential = credential_from_secret(secrets, reference)?;
    let (None, Some(path)) = (&credential, docker_config) else { return Ok(credential) };
    let failed = |reason: String| CredentialError::DockerConfig { path: path.clone(), reason };
    match tokio::fs::read(path).await {
        Ok(text) => {
            let config = DockerConfig::parse(&text).map_err(|error| failed(error.to_string()))?;
            Ok(config.lookup(reference))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_secret_goes_before_the_file_and_a_broken_file_is_named_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let reference: Reference = "r.example/a:v1".parse().unwrap();
        let user = |credential: Option<Credential>| match credential {
            Some(Credential::Password { username, .. }) => Some(username),
            _ => None,
        };
        let of = async |secrets: &[(&str, &str)]| {
            let secrets = secrets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            of_request(secrets, Some(&path), &reference).await.map(user)
        };
        assert_eq!(of(&[]).await, Ok(None), "a file that is not there");
        std::fs::write(&path, r#"{"auths":{"r.example":{"username":"file","password":"p"}}}"#).unwrap();
        assert_eq!(of(&[]).await, Ok(Some("file".to_owned())));
        let secret = [("username", "secret"), ("password", "p"), ("registry", "r.example")];
        assert_eq!(of(&secret).await, Ok(Some("secret".to_owned())));
        std::fs::write(&path, "{\"hunter2").unwrap();
        let error = of(&[]).await.unwrap_err().to_string();
        assert!(error.contains("config.json") && !error.contains("hunter2"), "{error}");
    }
}
