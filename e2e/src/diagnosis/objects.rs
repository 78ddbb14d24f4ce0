//! Objects around the pods, as the API server has them: a file for each kind.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, StorageClass};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, Resource};

use crate::artifacts;

/// Writes the objects of a namespace.
pub(super) async fn of_namespace(client: &Client, namespace: &str, directory: &Path) -> Result<()> {
    let typed = |resource: &ApiResource| Api::namespaced_with(client.clone(), namespace, resource);
    let kinds = [
        ("persistentvolumeclaims", typed(&resource::<PersistentVolumeClaim>())),
        ("daemonsets", typed(&resource::<DaemonSet>())),
        ("deployments", typed(&resource::<Deployment>())),
        ("cachedartifacts", artifacts::api(client, namespace)),
    ];
    write(&kinds, directory).await
}

/// Writes the objects of the cluster.
pub(super) async fn of_cluster(client: &Client, directory: &Path) -> Result<()> {
    let typed = |resource: &ApiResource| Api::all_with(client.clone(), resource);
    let kinds = [
        ("nodes", typed(&resource::<Node>())),
        ("csinodes", typed(&resource::<CSINode>())),
        ("csidrivers", typed(&resource::<CSIDriver>())),
        ("persistentvolumes", typed(&resource::<PersistentVolume>())),
        ("storageclasses", typed(&resource::<StorageClass>())),
    ];
    write(&kinds, directory).await
}

fn resource<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

/// What cannot be read is said in the file.
async fn write(kinds: &[(&str, Api<DynamicObject>)], directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for (name, api) in kinds {
        let text = match api.list(&ListParams::default()).await {
            Ok(mut list) => {
                // Who wrote which field explains nothing and is most of the text.
                list.items.iter_mut().for_each(|object| object.metadata.managed_fields = None);
                serde_json::to_string_pretty(&list.items).unwrap_or_default()
            }
            Err(error) => format!("they cannot be read: {error}"),
        };
        let path = directory.join(format!("{name}.json"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api_server::{ApiServer, list};

    #[tokio::test]
    async fn every_kind_has_a_file_and_one_that_cannot_be_read_says_so() {
        let (server, directory) = (ApiServer::new(), tempfile::tempdir().unwrap());
        let client = server.client();
        let (written, ()) = tokio::join!(of_namespace(&client, "ns", directory.path()), async {
            let claim = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": { "name": "claimed", "managedFields": [{ "manager": "somebody" }] },
                "status": { "phase": "Pending" },
            });
            let claims = server.expect("GET", "/api/v1/namespaces/ns/persistentvolumeclaims").await;
            claims.answer(200, &list("PersistentVolumeClaimList", &[claim]));
            for kind in ["daemonsets", "deployments"] {
                let call = server.expect("GET", &format!("/apis/apps/v1/namespaces/ns/{kind}")).await;
                call.answer(200, &list("List", &[]));
            }
            let artifacts = "/apis/stowage.dev/v1alpha1/namespaces/ns/cachedartifacts";
            server.expect("GET", artifacts).await.refuse(404, "NotFound", "no such kind");
        });
        written.unwrap();
        server.nothing_more();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        let claims = read("persistentvolumeclaims.json");
        assert!(claims.contains("claimed") && claims.contains("Pending"), "{claims}");
        assert!(!claims.contains("somebody"), "{claims}");
        assert!(read("cachedartifacts.json").contains("no such kind"));
    }

    #[tokio::test]
    async fn what_belongs_to_the_cluster_is_there_too() {
        let (server, directory) = (ApiServer::new(), tempfile::tempdir().unwrap());
        let client = server.client();
        let (written, ()) = tokio::join!(of_cluster(&client, directory.path()), async {
            for path in [
                "/api/v1/nodes",
                "/apis/storage.k8s.io/v1/csinodes",
                "/apis/storage.k8s.io/v1/csidrivers",
                "/api/v1/persistentvolumes",
                "/apis/storage.k8s.io/v1/storageclasses",
            ] {
                server.expect("GET", path).await.answer(200, &list("List", &[]));
            }
        });
        written.unwrap();
        server.nothing_more();
        assert_eq!(fs::read_to_string(directory.path().join("csinodes.json")).unwrap(), "[]");
    }
}
