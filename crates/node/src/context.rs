//! The volume context of a publish call: our attributes and kubelet's own keys.

use std::collections::{BTreeMap, HashMap};

use stowage_registry::Secret;

use crate::credentials::TOKENS_KEY;

/// What kubelet says of the pod that the volume is for (`podInfoOnMount`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) service_account: String,
    pub(crate) ephemeral: bool,
}

const PREFIX: &str = "csi.storage.k8s.io/";
const PROVISIONER_IDENTITY: &str = "storage.kubernetes.io/csiProvisionerIdentity";
/// What a claim asked for, beside the pin that our controller made of it; for people to read.
const REQUESTED_REFERENCE: &str = "requestedReference";

/// A volume context, taken apart.
pub(crate) struct Context {
    pub(crate) pod: Pod,
    /// Service account tokens, by whomever: see `credentials::tokens`.
    pub(crate) tokens: Option<Secret>,
    /// The keys that are for us.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// The pod of a volume context; empty where kubelet says nothing of one.
pub(crate) fn pod(context: &HashMap<String, String>) -> Pod {
    let value = |key: &str| context.get(&format!("{PREFIX}{key}")).cloned().unwrap_or_default();
    Pod {
        name: value("pod.name"),
        namespace: value("pod.namespace"),
        uid: value("pod.uid"),
        service_account: value("serviceAccount.name"),
        ephemeral: value("ephemeral") == "true",
    }
}

/// Splits a volume context into the pod and the keys that are for us.
///
/// Only the keys that kubelet overwrites itself are believed; a key with its prefix that it does not set is an
/// unknown attribute, so that a pod's author cannot forge one for a later version.
pub(crate) fn split(context: HashMap<String, String>) -> Context {
    let pod = pod(&context);
    let mut tokens = None;
    let mut attributes = BTreeMap::new();
    for (key, value) in context {
        match key.strip_prefix(PREFIX) {
            Some("pod.name" | "pod.namespace" | "pod.uid" | "serviceAccount.name" | "ephemeral") => {}
            _ if key == TOKENS_KEY => tokens = Some(Secret::new(value)),
            _ if [PROVISIONER_IDENTITY, REQUESTED_REFERENCE].contains(&key.as_str()) => {}
            _ => {
                attributes.insert(key, value);
            }
        }
    }
    Context { pod, tokens, attributes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_keys_become_the_pod_and_the_rest_stays() {
        let context = [
            ("csi.storage.k8s.io/pod.name", "web-0"),
            ("csi.storage.k8s.io/pod.namespace", "team"),
            ("csi.storage.k8s.io/pod.uid", "u-1"),
            ("csi.storage.k8s.io/serviceAccount.name", "default"),
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/serviceAccount.tokens", "{}"),
            ("storage.kubernetes.io/csiProvisionerIdentity", "123"),
            ("csi.storage.k8s.io/forged", "x"),
            ("requestedReference", "r.example/a:v1"),
            ("reference", "r.example/a:v1"),
        ];
        let Context { pod, tokens, attributes } =
            split(context.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
        assert_eq!(
            pod,
            Pod {
                name: "web-0".to_owned(),
                namespace: "team".to_owned(),
                uid: "u-1".to_owned(),
                service_account: "default".to_owned(),
                ephemeral: true,
            }
        );
        assert_eq!(tokens.unwrap().expose(), "{}");
        let keys: Vec<&str> = attributes.keys().map(String::as_str).collect();
        assert_eq!(keys, ["csi.storage.k8s.io/forged", "reference"]);
    }
}
