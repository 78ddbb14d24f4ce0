//! Pull secrets, as Kubernetes and CSI hand them over: a map of keys to texts.

use std::collections::HashMap;

use stowage_artifact::Reference;

use crate::credential::Credential;
use crate::docker_config::DockerConfig;
use crate::secret::Secret;

/// Keys of a secret that hold a docker configuration, in order of preference.
const DOCKER_CONFIG_KEYS: [&str; 2] = [".dockerconfigjson", ".dockercfg"];

/// A credential cannot be read from what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullSecretError {
    /// A docker configuration in the secret is no such thing. Its content is never repeated.
    #[error(
        "key {key} of the volume's secret is not a docker configuration: {reason}; make it with `kubectl create secret docker-registry`"
    )]
    DockerConfig {
        /// Which key.
        key: &'static str,
        /// What the parser says of its shape.
        reason: String,
    },
    /// A user name and password without the host that they are for.
    #[error(
        "the volume's secret has username and password but no key `registry` that names their host; add it, so that they reach no other host"
    )]
    NoRegistry,
    /// Half of a credential.
    #[error(
        "the volume's secret has no key `{missing}`; give username, password and registry, or .dockerconfigjson"
    )]
    Incomplete {
        /// The key that is not there.
        missing: &'static str,
    },
}

/// The credential for `reference` in a CSI secret; `None` where the secret has none for that registry.
#[expect(clippy::implicit_hasher, reason = "gRPC hands secrets over in the usual kind of map")]
pub fn credential_from_secret(
    mut secret: HashMap<String, String>,
    reference: &Reference,
) -> Result<Option<Credential>, PullSecretError> {
    for key in DOCKER_CONFIG_KEYS {
        if let Some(text) = secret.remove(key).map(Secret::new) {
            let config = DockerConfig::parse(text.expose().as_bytes())
                .map_err(|error| PullSecretError::DockerConfig { key, reason: error.to_string() })?;
            return Ok(config.lookup(reference));
        }
    }
    let (username, password) = match (secret.remove("username"), secret.remove("password")) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(PullSecretError::Incomplete { missing: "password" }),
        (None, Some(_)) => return Err(PullSecretError::Incomplete { missing: "username" }),
        (Some(username), Some(password)) => (username, Secret::new(password)),
    };
    let host = secret.remove("registry").ok_or(PullSecretError::NoRegistry)?;
    Ok(DockerConfig::single(&host, Credential::Password { username, password }).lookup(reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(secret: &[(&str, &str)], reference: &str) -> Result<bool, String> {
        let secret = secret.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        credential_from_secret(secret, &reference.parse().unwrap())
            .map(|credential| credential.is_some())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_plain_credential_reaches_only_the_host_that_it_names() {
        let secret = [("username", "u"), ("password", "hunter2"), ("registry", "r.example")];
        assert_eq!(lookup(&secret, "r.example/a:v1"), Ok(true));
        assert_eq!(lookup(&secret, "other.example/a:v1"), Ok(false));
        assert_eq!(lookup(&[], "r.example/a:v1"), Ok(false));
    }

    #[test]
    fn docker_configurations_are_read_in_both_forms() {
        let auth = r#"{"r.example":{"username":"u","password":"p"}}"#;
        let wrapped = format!(r#"{{"auths":{auth}}}"#);
        assert_eq!(lookup(&[(".dockerconfigjson", &wrapped)], "r.example/a:v1"), Ok(true));
        assert_eq!(lookup(&[(".dockercfg", auth)], "r.example/a:v1"), Ok(true));
        assert_eq!(lookup(&[(".dockerconfigjson", &wrapped)], "x.example/a:v1"), Ok(false));
    }

    #[test]
    fn bad_secrets_are_refused_without_their_content() {
        for (secret, expected) in [
            (vec![("username", "u")], "no key `password`"),
            (vec![("password", "hunter2")], "no key `username`"),
            (vec![("username", "u"), ("password", "hunter2")], "no key `registry`"),
            (vec![(".dockerconfigjson", "{\"hunter2")], ".dockerconfigjson"),
        ] {
            let error = lookup(&secret, "r.example/a:v1").unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
    }
}
