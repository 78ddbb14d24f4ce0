//! The four ways to a credential, each against a registry that demands one, and whose the grants are that come of it.

mod canary;
mod exchange;
mod looking;
mod order;
mod providers;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use stowage_testkit::kubelet::{Pod, PublishRequest, is_uncertain};
use stowage_testkit::registry::{Registry, RegistryBuilder};
use tonic::{Code, Status};

use super::{Model, publication, publish};
use crate::harness::{Node, Scene, digest_of};

const MIB: u64 = 1 << 20;
const REPOSITORY: &str = "team/private";
/// The audience of the tokens.
const AUDIENCE: &str = "stowage-test";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
/// Who signs in with what was made of a token.
const ROBOT: &str = "robot";

/// A configuration file in the scene's directory.
struct Config(PathBuf);

impl Config {
    fn new(scene: &Scene, sections: &Value) -> Self {
        let config = Self(scene.root().join("node.yaml"));
        config.write(sections);
        config
    }

    /// Replaces the file as a whole, as an update of a `ConfigMap` does.
    fn write(&self, sections: &Value) {
        let mut file = json!({ "apiVersion": "config.stowage.dev/v1alpha1", "kind": "NodeConfiguration" });
        for (key, value) in sections.as_object().unwrap() {
            file[key] = value.clone();
        }
        self.write_text(&file.to_string());
    }

    fn write_text(&self, text: &str) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &self.0).unwrap();
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

/// A token of a service account, as the API server would sign it; `salt` is its signature.
fn token(namespace: &str, account: &str, uid: &str, salt: &str) -> String {
    let claims = json!({
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "aud": [AUDIENCE],
        "kubernetes.io": { "namespace": namespace, "serviceaccount": { "name": account, "uid": uid } },
    });
    format!("e30.{}.{salt}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// What kubelet sends of a token.
fn tokens(token: &str) -> String {
    json!({ AUDIENCE: { "token": token, "expirationTimestamp": "2030-01-01T00:00:00Z" } }).to_string()
}

/// A volume of a new pod, without any token.
fn volume(node: &Node, namespace: &str, account: &str, attributes: &[(&str, &str)]) -> PublishRequest {
    let pod = Pod { service_account: account.to_owned(), ..Pod::new(namespace, "pod") };
    node.plugin().inline(&pod, "model", attributes)
}

/// The same with a token where kubelet puts it for drivers that ask for it in secrets.
fn with_token(mut request: PublishRequest, token: &str) -> PublishRequest {
    request.secrets.insert(TOKENS.to_owned(), tokens(token));
    request
}

/// The same where anybody can put it.
fn with_context_token(mut request: PublishRequest, token: &str) -> PublishRequest {
    request.volume_context.insert(TOKENS.to_owned(), tokens(token));
    request
}

fn never(model: &Model) -> [(&str, &str); 2] {
    [("reference", &model.reference), ("pullPolicy", "Never")]
}

fn always(model: &Model) -> [(&str, &str); 2] {
    [("reference", &model.reference), ("pullPolicy", "Always")]
}

/// Publishes, checks the file and unpublishes.
async fn served(node: &Node, request: &PublishRequest, model: &Model) {
    let volume = publish(node, request).await;
    assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
    node.plugin().unpublish(&volume).await.unwrap();
}

/// Nothing is mounted for this request, and its target is gone.
async fn refused(node: &Node, request: &PublishRequest, code: Code, word: &str) -> Status {
    let status = node.plugin().publish(request).await.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(word), "{word} not in: {status}");
    if is_uncertain(status.code()) {
        node.plugin().unpublish(&publication(request)).await.unwrap();
    }
    assert!(!request.target.exists() && node.mounts().is_empty(), "{status}: something is mounted");
    status
}

fn heads(registry: &Registry) -> usize {
    registry.traffic().count(|request| request.method.as_str() == "HEAD" && request.path.contains("/blobs/"))
}

/// The accounts of every registry here, over TLS: tokens go nowhere else.
fn accounts(builder: RegistryBuilder) -> RegistryBuilder {
    builder.tls().user(ROBOT, "nobody knows").user("ada", "ada's own")
}
