//! Taking objects away, and waiting until they are gone.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::artifacts;
use crate::wait::{Look, Wait};

/// How long the end of objects of one kind may take.
const END: Duration = Duration::from_mins(3);
/// How long the driver may take for volumes whose claims are gone.
const PROVISIONED: Duration = Duration::from_mins(1);

/// Deletes all objects with these labels and waits until they are gone.
pub(crate) async fn gone<K>(api: &Api<K>, selector: &str) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    delete(api, &K::kind(&()), selector).await
}

/// The same for `CachedArtifact`s, and for the pods that they brought along.
pub(crate) async fn artifacts_gone(client: &Client, namespace: &str, selector: &str) -> Result<()> {
    let artifacts = artifacts::api(client, namespace);
    match delete(&artifacts, "CachedArtifact", selector).await {
        // The cluster does not know the kind.
        Err(error) if is_not_found(&error) => return Ok(()),
        deleted => deleted?,
    }
    // Those of a failure that is kept have pods that stay.
    if !names(&artifacts, &ListParams::default()).await?.is_empty() {
        return Ok(());
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let theirs = ListParams::default().labels(artifacts::POD_LABEL);
    Wait::new("the pods of the CachedArtifacts are gone", END)
        .until(async || Ok(nothing_left(&names(&pods, &theirs).await?)))
        .await?;
    Ok(())
}

/// Waits until the driver has taken away the volumes of every `StorageClass` whose name begins so. One that it leaves is
/// taken away by force, and the error tells of it.
pub(crate) async fn provisioned_gone(client: &Client, class: &str) -> Result<()> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let of_class = async || -> Result<Vec<String>> {
        let all = volumes.list(&ListParams::default()).await?.items;
        let ours = all.into_iter().filter(|volume| {
            let name = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
            name.is_some_and(|name| name.starts_with(class))
        });
        Ok(ours.filter_map(|volume| volume.metadata.name).collect())
    };
    let waited = Wait::new(format!("the driver has deleted the volumes of {class}…"), PROVISIONED)
        .until(async || Ok(nothing_left(&of_class().await?)))
        .await;
    let Err(gave_up) = waited else { return Ok(()) };
    for name in of_class().await? {
        force(&volumes, &name).await?;
    }
    bail!("{gave_up}; they were taken away by force")
}

/// Deletes a volume and whatever would hold it: nobody is left who would take it away.
async fn force(volumes: &Api<PersistentVolume>, name: &str) -> Result<()> {
    let forced = async {
        found(volumes.delete(name, &DeleteParams::default()).await.map(drop))?;
        let none = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        found(volumes.patch(name, &PatchParams::default(), &none).await.map(drop))
    };
    forced.await.with_context(|| format!("cannot take the volume {name} away"))
}

/// Deletes what the selector finds, and waits for its end.
async fn delete<K>(api: &Api<K>, kind: &str, selector: &str) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let ours = ListParams::default().labels(selector);
    let all = names(api, &ours).await.with_context(|| format!("cannot list {kind} objects"))?;
    // One by one: namespaces cannot be deleted as a collection.
    for name in &all {
        let deleted = api.delete(name, &DeleteParams::background()).await;
        found(deleted.map(drop)).with_context(|| format!("cannot delete {kind} {name}"))?;
    }
    if !all.is_empty() {
        Wait::new(format!("every {kind} with {selector} is gone"), END)
            .until(async || Ok(nothing_left(&names(api, &ours).await?)))
            .await?;
    }
    Ok(())
}

async fn names<K>(api: &Api<K>, wanted: &ListParams) -> Result<Vec<String>>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let items = api.list(wanted).await?.items;
    Ok(items.into_iter().filter_map(|item| item.meta().name.clone()).collect())
}

fn nothing_left(names: &[String]) -> Look<()> {
    if names.is_empty() { Look::Found(()) } else { Look::NotYet(format!("{} are left", names.join(", "))) }
}

/// What is gone already need not be taken away.
fn found(done: kube::Result<()>) -> kube::Result<()> {
    match done {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        done => done,
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.is_not_found())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api_server::{ApiServer, list};

    const ARTIFACTS: &str = "/apis/stowage.dev/v1alpha1/namespaces/ns/cachedartifacts";
    const VOLUMES: &str = "/api/v1/persistentvolumes";

    fn named(api_version: &str, kind: &str, name: &str) -> Value {
        json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name } })
    }

    #[tokio::test(start_paused = true)]
    async fn cached_artifacts_have_gone_when_their_pods_have() {
        let server = ApiServer::new();
        let client = server.client();
        let (gone, ()) = tokio::join!(artifacts_gone(&client, "ns", "a=b"), async {
            let artifact = named("stowage.dev/v1alpha1", "CachedArtifact", "c");
            server.expect("GET", ARTIFACTS).await.answer(200, &list("List", std::slice::from_ref(&artifact)));
            server.expect("DELETE", &format!("{ARTIFACTS}/c")).await.answer(200, &artifact);
            server.expect("GET", ARTIFACTS).await.answer(200, &list("List", &[]));
            let all = server.expect("GET", ARTIFACTS).await;
            assert!(!all.query().contains("labelSelector"), "{}", all.query());
            all.answer(200, &list("List", &[]));
            let pods = "/api/v1/namespaces/ns/pods";
            let call = server.expect("GET", pods).await;
            assert!(call.query().contains("stowage.dev%2Fcached-artifact"), "{}", call.query());
            call.answer(200, &list("PodList", &[named("v1", "Pod", "p")]));
            server.expect("GET", pods).await.answer(200, &list("PodList", &[]));
        });
        gone.unwrap();
        server.nothing_more();
    }

    #[tokio::test]
    async fn pods_of_a_cached_artifact_that_is_kept_are_not_waited_for() {
        let server = ApiServer::new();
        let client = server.client();
        let (gone, ()) = tokio::join!(artifacts_gone(&client, "ns", "a=b"), async {
            server.expect("GET", ARTIFACTS).await.answer(200, &list("List", &[]));
            let kept = named("stowage.dev/v1alpha1", "CachedArtifact", "kept");
            server.expect("GET", ARTIFACTS).await.answer(200, &list("List", &[kept]));
        });
        gone.unwrap();
        server.nothing_more();
    }

    #[tokio::test]
    async fn a_cluster_without_the_kind_has_no_cached_artifacts() {
        let server = ApiServer::new();
        let client = server.client();
        let (gone, ()) = tokio::join!(artifacts_gone(&client, "ns", "a=b"), async {
            server.expect("GET", ARTIFACTS).await.refuse(404, "NotFound", "no such resource");
        });
        gone.unwrap();
        server.nothing_more();
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_that_the_driver_leaves_is_taken_away_by_force_and_told_of() {
        let server = ApiServer::new();
        let client = server.client();
        let volume = |class: &str| {
            let mut volume = named("v1", "PersistentVolume", &format!("of-{class}"));
            volume["spec"] = json!({ "storageClassName": class });
            volume
        };
        let volumes = list("PersistentVolumeList", &[volume("run-1-class"), volume("theirs")]);
        let (gone, ()) = tokio::join!(provisioned_gone(&client, "run-1-"), async {
            let left = format!("{VOLUMES}/of-run-1-class");
            for look in 0.. {
                let call = server.next().await;
                if call.is("DELETE", &left) {
                    assert!(look > 50, "after {look} looks");
                    call.answer(200, &volume("run-1-class"));
                    break;
                }
                assert!(call.is("GET", VOLUMES));
                call.answer(200, &volumes);
            }
            let patch = server.expect("PATCH", &left).await;
            assert_eq!(patch.body()["metadata"], json!({ "finalizers": null }));
            patch.refuse(404, "NotFound", "gone by now");
        });
        let error = gone.unwrap_err().to_string();
        assert!(error.contains("of-run-1-class are left") && error.ends_with("by force"), "{error}");
        server.nothing_more();
    }
}
