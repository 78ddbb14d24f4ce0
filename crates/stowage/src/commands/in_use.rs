//! `stowage in-use`: what in a cluster still uses the driver. The chart's hook asks before it is uninstalled.

use std::fmt::Debug;

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::cli::InUseArgs;

/// A cluster has more pods than one answer should hold.
const PAGE: u32 = 500;
/// More names than this help nobody.
const SHOWN: usize = 50;

/// Fails with the names of the pods and `PersistentVolume`s that use the driver, if there are any.
pub(crate) async fn run(args: InUseArgs) -> Result<(), Failure> {
    let client = Client::try_default().await.context(
        "cannot find the cluster: run this in a pod with a service account, or set KUBECONFIG to a file",
    )?;
    let users = users(client, &args.driver_name).await?;
    if users.is_empty() {
        say!("nothing uses {}", args.driver_name);
        return Ok(());
    }
    for user in users.iter().take(SHOWN) {
        say!("{user}");
    }
    if users.len() > SHOWN {
        say!("and {} more", users.len() - SHOWN);
    }
    Err(anyhow!(
        "{} is still in use ({} by this list): delete these pods and PersistentVolumes first (pods of CachedArtifacts \
         go with their CachedArtifact); `helm uninstall --no-hooks` does not look, and leaves pods that cannot end",
        args.driver_name,
        users.len()
    )
    .into())
}

/// Names what uses the driver: pods with inline volumes, and `PersistentVolume`s, which stand for the pods of their claims.
async fn users(client: Client, driver: &str) -> anyhow::Result<Vec<String>> {
    let mut users = Vec::new();
    each::<Pod>(client.clone(), "pods", |pod| {
        if uses_inline(&pod, driver) {
            users.push(format!("pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any()));
        }
    })
    .await?;
    each::<PersistentVolume>(client, "PersistentVolumes", |volume| {
        let source = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
        if source.is_some_and(|source| source.driver == driver) {
            users.push(format!("PersistentVolume {}", volume.name_any()));
        }
    })
    .await?;
    Ok(users)
}

/// Whether the pod has such a volume and has not ended: one that has ended holds none.
fn uses_inline(pod: &Pod, driver: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    !matches!(phase, Some("Succeeded" | "Failed"))
        && volumes
            .into_iter()
            .flatten()
            .any(|volume| volume.csi.as_ref().is_some_and(|csi| csi.driver == driver))
}

/// Shows every object of the cluster, a page at a time.
async fn each<K>(client: Client, what: &str, mut show: impl FnMut(K)) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = Api::<K>::all(client);
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await.with_context(|| format!("cannot list the {what} of the cluster"))?;
        list.items.into_iter().for_each(&mut show);
        match list.metadata.continue_.as_deref() {
            None | Some("") => return Ok(()),
            Some(token) => page = ListParams::default().limit(PAGE).continue_token(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    /// An API server that has these answers, each for one path; what it is asked is written down.
    fn cluster(answers: &[(&str, Value)]) -> (Client, Arc<Mutex<Vec<String>>>) {
        let answers: Vec<_> = answers.iter().map(|(path, list)| ((*path).to_owned(), list.clone())).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Body>| {
            let path = request.uri().to_string();
            let answer = answers.iter().find(|(known, _)| *known == path);
            let (status, body) = match answer {
                Some((_, list)) => (StatusCode::OK, list.to_string()),
                None => (StatusCode::FORBIDDEN, json!({"message": "no"}).to_string()),
            };
            notes.lock().unwrap().push(path);
            let response = Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap();
            async move { Ok::<_, Infallible>(response) }
        });
        (Client::new(service, "default"), asked)
    }

    const PODS: &str = "/api/v1/pods?&limit=500";
    const MORE_PODS: &str = "/api/v1/pods?&limit=500&continue=next";
    const VOLUMES: &str = "/api/v1/persistentvolumes?&limit=500";

    fn pod(name: &str, driver: &str, phase: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "team"},
            "spec": {"containers": [], "volumes": [{"name": "model", "csi": {"driver": driver}}, {"name": "other"}]},
            "status": {"phase": phase},
        })
    }

    fn list(kind: &str, items: &[Value], next: &str) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"continue": next}, "items": items})
    }

    #[tokio::test]
    async fn pods_and_volumes_of_the_driver_are_named_over_all_pages() {
        let ours = "csi.stowage.dev";
        let volume = |name: &str, driver: &str| {
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                   "spec": {"csi": {"driver": driver, "volumeHandle": name}}})
        };
        let (client, asked) = cluster(&[
            (
                PODS,
                list("PodList", &[pod("a", ours, "Running"), pod("b", "csi.other.dev", "Running")], "next"),
            ),
            (MORE_PODS, list("PodList", &[pod("c", ours, "Pending"), pod("d", ours, "Succeeded")], "")),
            (
                VOLUMES,
                list("PersistentVolumeList", &[volume("pv1", "csi.other.dev"), volume("pv2", ours)], ""),
            ),
        ]);
        assert_eq!(users(client, ours).await.unwrap(), ["pod team/a", "pod team/c", "PersistentVolume pv2"]);
        assert_eq!(*asked.lock().unwrap(), [PODS, MORE_PODS, VOLUMES]);
    }

    #[tokio::test]
    async fn a_cluster_without_users_is_said_to_have_none() {
        let (client, _) = cluster(&[
            (PODS, list("PodList", &[pod("a", "csi.other.dev", "Running")], "")),
            (VOLUMES, list("PersistentVolumeList", &[], "")),
        ]);
        assert!(users(client, "csi.stowage.dev").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_refusal_says_what_could_not_be_listed() {
        let (client, _) = cluster(&[(PODS, list("PodList", &[], ""))]);
        let error = format!("{:#}", users(client, "csi.stowage.dev").await.unwrap_err());
        assert!(error.starts_with("cannot list the PersistentVolumes of the cluster"), "{error}");
    }
}
