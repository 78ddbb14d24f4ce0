//! The order of the ways, as far as no registry is needed for it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use stowage_registry::RegistryOptions;

use super::*;

/// Credentials of a node with a plugin for `r.example` that wants tokens, and a docker configuration.
fn credentials(directory: &Path, docker_config: bool) -> Credentials {
    let file = json!({
        "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
        "providers": [{
            "name": "plugin", "matchImages": ["r.example"], "defaultCacheDuration": "0s",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "tokenAttributes": {
                "serviceAccountTokenAudience": "r", "cacheType": "Token", "requireServiceAccount": true,
            },
        }],
    });
    let (config_file, docker) = (directory.join("providers.json"), directory.join("docker.json"));
    std::fs::write(&config_file, file.to_string()).unwrap();
    std::fs::write(&docker, json!({ "auths": { "r.example": { "auth": "dTpw" } } }).to_string()).unwrap();
    let settings = CredentialSettings {
        providers: Some(ProviderSettings { config_file, bin_dir: directory.to_owned() }),
        docker_config: docker_config.then_some(docker),
        ..CredentialSettings::default()
    };
    Credentials::new(Registry::new(RegistryOptions::default()).unwrap(), settings, Metrics::new())
}

fn question() -> Question {
    let pod = Pod { namespace: "team".to_owned(), service_account: "one".to_owned(), ..Pod::default() };
    Question { secrets: HashMap::new(), pod, context_tokens: None, used: UsedAnswer::default() }
}

#[tokio::test]
async fn the_nodes_own_configuration_serves_where_a_plugin_lacks_a_token() {
    let directory = tempfile::tempdir().unwrap();
    symlink("/bin/false", directory.path().join("plugin")).unwrap();
    let attributes = [("reference".to_owned(), "r.example/a:v1".to_owned())].into();
    let attributes = VolumeAttributes::parse(&attributes).unwrap();
    let until = Instant::now() + Duration::from_mins(1);
    let ask =
        async |docker| credentials(directory.path(), docker).access(question(), &attributes, until).await;
    assert!(ask(true).await.is_ok());
    let error = ask(false).await.err().unwrap();
    assert!(matches!(error, CredentialError::Token(_)), "{error}");
}
