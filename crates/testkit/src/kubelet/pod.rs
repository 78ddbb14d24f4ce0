//! Pods, as kubelet describes them to a driver.

use std::collections::BTreeMap;

use stowage_artifact::{Algorithm, Digest};

/// The pod that a volume is for.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid, part of every path.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
}

impl Pod {
    /// A pod with a fresh uid and the default service account.
    pub fn new(namespace: &str, name: &str) -> Self {
        let bits = rand::random::<u128>();
        let hex = format!("{bits:032x}");
        let uid = format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
        Self { name: name.into(), namespace: namespace.into(), uid, service_account: "default".into() }
    }

    /// The id that kubelet gives to an inline volume: a hash over the pod's uid and the volume's name.
    pub fn inline_volume_id(&self, volume: &str) -> String {
        let hash = Digest::of(Algorithm::Sha256, format!("{}{volume}", self.uid).as_bytes());
        format!("csi-{}", hash.hex())
    }

    /// The keys that kubelet adds for a driver with `podInfoOnMount`.
    pub(super) fn info(&self, ephemeral: bool) -> BTreeMap<String, String> {
        [
            ("pod.name", self.name.clone()),
            ("pod.namespace", self.namespace.clone()),
            ("pod.uid", self.uid.clone()),
            ("serviceAccount.name", self.service_account.clone()),
            ("ephemeral", ephemeral.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_ids_are_stable_and_differ_between_volumes_and_pods() {
        let (one, two) = (Pod::new("ns", "a"), Pod::new("ns", "a"));
        assert_eq!(one.inline_volume_id("model"), one.inline_volume_id("model"));
        assert_ne!(one.inline_volume_id("model"), one.inline_volume_id("other"));
        assert_ne!(one.inline_volume_id("model"), two.inline_volume_id("model"));
        assert_eq!(one.inline_volume_id("model").len(), "csi-".len() + 64);
        assert_eq!(one.uid.len(), 36);
    }
}
