//! What the provisioner's calls need of the API server: annotations of claims, and volumes that exist already.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, Client};

use super::memory::Made;
use super::parameters::ClaimName;

const PROVISIONER_IDENTITY: &str = "storage.kubernetes.io/csiProvisionerIdentity";

/// The API server did not say what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error(
        "the StorageClass reads annotations of claims, and this controller runs without an API server; start it with --kubernetes=true"
    )]
    NoApiServer,
    #[error("the claim {0} does not exist any more, and with it who the volume is for")]
    NoClaim(String),
    #[error("cannot read {what} from the API server: {source}; the call is repeated by the provisioner")]
    Api {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// What the cluster knows of a volume's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Absent,
    /// A PersistentVolume that this driver made.
    Ours(Made),
    /// A PersistentVolume of something else.
    Foreign,
}

/// The API server, where there is one. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Cluster {
    Kubernetes { client: Client, driver: String },
    None,
}

impl Cluster {
    pub(crate) async fn annotations(
        &self,
        claim: &ClaimName,
    ) -> Result<BTreeMap<String, String>, ClusterError> {
        let Self::Kubernetes { client, .. } = self else { return Err(ClusterError::NoApiServer) };
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &claim.namespace);
        match claims.get_opt(&claim.name).await {
            Ok(Some(found)) => Ok(found.metadata.annotations.unwrap_or_default()),
            Ok(None) => Err(ClusterError::NoClaim(claim.to_string())),
            Err(source) => {
                Err(ClusterError::Api { what: format!("the claim {claim}"), source: Box::new(source) })
            }
        }
    }

    /// The volume of that name; its handle is its name, because the controller chose so.
    pub(crate) async fn volume(&self, name: &str) -> Result<Known, ClusterError> {
        let Self::Kubernetes { client, driver } = self else { return Ok(Known::Absent) };
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        let found = volumes.get_opt(name).await.map_err(|source| ClusterError::Api {
            what: format!("the PersistentVolume {name}"),
            source: Box::new(source),
        })?;
        let Some(spec) = found.map(|found| found.spec.unwrap_or_default()) else { return Ok(Known::Absent) };
        let Some(csi) = spec.csi.filter(|csi| csi.driver == *driver && csi.volume_handle == name) else {
            return Ok(Known::Foreign);
        };
        let mut context = csi.volume_attributes.unwrap_or_default();
        context.remove(PROVISIONER_IDENTITY);
        let capacity = spec.capacity.and_then(|mut capacity| capacity.remove("storage"));
        Ok(Known::Ours(Made { context, capacity: capacity.and_then(|quantity| bytes(&quantity.0)) }))
    }
}

/// A quantity of whole bytes as Kubernetes writes it, with or without a suffix.
fn bytes(quantity: &str) -> Option<i64> {
    let end = quantity.find(|c: char| !c.is_ascii_digit()).unwrap_or(quantity.len());
    let (digits, suffix) = quantity.split_at(end);
    let powers = |base: i64, letters: &str, letter: char| {
        let power = letters.find(letter)? + 1;
        base.checked_pow(u32::try_from(power).ok()?)
    };
    let mut letters = suffix.chars();
    let unit = match (letters.next(), letters.next(), letters.next()) {
        (None, ..) => Some(1),
        (Some(letter), None, _) => powers(1000, "kMGTPE", letter),
        (Some(letter), Some('i'), None) => powers(1024, "KMGTPE", letter),
        _ => None,
    }?;
    digits.parse::<i64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn quantities_are_bytes_and_what_is_no_whole_number_is_unknown() {
        for (text, expected) in [
            ("0", Some(0)),
            ("123", Some(123)),
            ("1k", Some(1000)),
            ("2Mi", Some(2 << 20)),
            ("10Gi", Some(10 << 30)),
            ("7Ei", Some(7 << 60)),
            ("8Ei", None),
            ("1.5Gi", None),
            ("1e3", None),
            ("100m", None),
            ("Gi", None),
            ("1Gib", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
