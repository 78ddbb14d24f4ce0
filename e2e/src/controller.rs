//! What of the controller runs in the cluster.

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::plugin;

/// The labels of the controller's Deployment.
const LABELS: &str = "app.kubernetes.io/name=stowage,app.kubernetes.io/component=controller";

/// The parts of the controller of a driver; none where it is not installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Controller {
    /// Volumes of a `StorageClass` are made.
    pub(crate) provisions: bool,
    /// Every `CachedArtifact` is brought to the nodes.
    pub(crate) prefetches: bool,
}

impl Controller {
    /// Looks at the Deployments of the cluster.
    pub(crate) async fn find(client: &Client, driver: &str) -> Result<Self> {
        let all: Api<Deployment> = Api::all(client.clone());
        let found =
            all.list(&ListParams::default().labels(LABELS)).await.context("cannot list Deployments")?.items;
        let containers = found.into_iter().filter_map(|one| Some(one.spec?.template.spec?.containers));
        let ours = containers.filter(|containers| plugin::is_of_driver(containers, driver));
        Ok(ours.map(|containers| Self::of(&containers)).next().unwrap_or_default())
    }

    fn of(containers: &[Container]) -> Self {
        let argument = |wanted: &str| {
            containers.iter().flat_map(|one| one.args.iter().flatten()).any(|argument| argument == wanted)
        };
        Self {
            provisions: containers.iter().any(|container| container.name == "provisioner"),
            prefetches: !argument("--prefetch=false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api_server::{ApiServer, list};

    fn deployment(driver: &str, more: &str, sidecar: &str) -> Value {
        let arguments = ["controller", &format!("--driver-name={driver}"), more];
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "c" }, "spec": {
            "selector": {},
            "template": { "spec": { "containers": [
                { "name": "stowage", "args": arguments }, { "name": sidecar, "args": [] },
            ]}},
        }})
    }

    #[tokio::test]
    async fn the_parts_are_those_of_the_drivers_own_controller() {
        let both = Controller { provisions: true, prefetches: true };
        for (items, expected) in [
            (vec![], Controller::default()),
            (vec![deployment("other", "--prefetch=true", "provisioner")], Controller::default()),
            (vec![deployment("ours", "--prefetch=true", "provisioner")], both),
            (
                vec![deployment("ours", "--prefetch=false", "provisioner")],
                Controller { prefetches: false, ..both },
            ),
            (vec![deployment("ours", "--prefetch=true", "proxy")], Controller { provisions: false, ..both }),
        ] {
            let server = ApiServer::new();
            let client = server.client();
            let (found, ()) = tokio::join!(Controller::find(&client, "ours"), async {
                let call = server.expect("GET", "/apis/apps/v1/deployments").await;
                assert!(call.query().contains("component%3Dcontroller"), "{}", call.query());
                call.answer(200, &list("DeploymentList", &items));
            });
            assert_eq!(found.unwrap(), expected);
            server.nothing_more();
        }
    }
}
