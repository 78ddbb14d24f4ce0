//! Names and labels of what the controller makes.

use std::collections::BTreeMap;

use stowage_artifact::{Algorithm, Digest};

/// The label of everything that belongs to Stowage.
pub(crate) const NAME_LABEL: &str = "app.kubernetes.io/name";
/// The label that tells our parts apart.
pub(crate) const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// The label with the object that a pod is for.
pub(crate) const ARTIFACT_LABEL: &str = "stowage.dev/cached-artifact";
/// The label with the beginning of the digest that a pod is for.
pub(crate) const DIGEST_LABEL: &str = "stowage.dev/digest";
/// The label that tells volumes apart which are made of one digest in different ways.
pub(crate) const VOLUME_LABEL: &str = "stowage.dev/volume";
/// The annotation with all of the digest.
pub(crate) const DIGEST_ANNOTATION: &str = "stowage.dev/resolved-digest";

/// The longest value of a label.
const LONGEST_LABEL: usize = 63;
/// The longest name of a DaemonSet whose pods still have names of their own.
const LONGEST_NAME: usize = 57;
const PREFIX: &str = "stowage-prefetch-";

/// The DaemonSet of an object.
pub(crate) fn daemon_set(object: &str) -> String {
    short(&format!("{PREFIX}{object}"), LONGEST_NAME)
}

/// The value of [`ARTIFACT_LABEL`] for an object.
pub(crate) fn artifact_label(object: &str) -> String {
    short(object, LONGEST_LABEL)
}

/// The value of [`DIGEST_LABEL`]: no value may be as long as a digest.
pub(crate) fn digest_label(digest: &str) -> String {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.chars().take(32).collect()
}

/// The value of [`VOLUME_LABEL`] for the attributes of a volume.
pub(crate) fn volume_label(attributes: &BTreeMap<String, String>) -> String {
    let mut bytes = Vec::new();
    for text in attributes.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    Digest::of(Algorithm::Sha256, &bytes).hex()[..16].to_owned()
}

/// The name itself, or its beginning and a hash of all of it.
pub(crate) fn short(name: &str, longest: usize) -> String {
    if name.len() <= longest {
        return name.to_owned();
    }
    let hash = Digest::of(Algorithm::Sha256, name.as_bytes());
    // Names of objects are ASCII.
    let kept: String = name.chars().take(longest - 9).collect();
    format!("{}-{}", kept.trim_end_matches(['-', '.']), &hash.hex()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_and_stay_different() {
        assert_eq!(daemon_set("llama"), "stowage-prefetch-llama");
        let (one, other) = (format!("{}.1", "a".repeat(200)), format!("{}.2", "a".repeat(200)));
        for name in [daemon_set(&one), artifact_label(&one)] {
            assert!(name.len() <= 63, "{name}");
        }
        assert!(daemon_set(&one).len() <= 57);
        assert_ne!(daemon_set(&one), daemon_set(&other));
        assert_ne!(artifact_label(&one), artifact_label(&other));
    }

    #[test]
    fn each_attribute_makes_another_volume() {
        let of = |pairs: &[(&str, &str)]| {
            volume_label(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let labels = [
            of(&[("reference", "r/a@x")]),
            of(&[("reference", "r/a@y")]),
            of(&[("reference", "r/a@x"), ("ab", "c")]),
            of(&[("reference", "r/a@x"), ("a", "bc")]),
            of(&[("reference", "r/a@x"), ("subPath", "a")]),
        ];
        let different: std::collections::BTreeSet<&String> = labels.iter().collect();
        assert_eq!(different.len(), labels.len());
        assert!(labels.iter().all(|label| label.len() == 16));
    }

    #[test]
    fn a_digest_becomes_a_label() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(digest_label(&digest), "ab".repeat(16));
    }
}
