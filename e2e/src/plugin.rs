//! The node plugin in the cluster: found by its labels, restarted by an annotation.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::pods;
use crate::wait::{Look, Wait};

/// The labels of the node plugin's DaemonSet and pods.
const LABELS: &str = "app.kubernetes.io/name=stowage,app.kubernetes.io/component=node";
/// The annotation by which a rollout is begun.
const ROLLED: &str = "stowage.dev/e2e-rolled";
/// How long a rollout over all nodes may take.
const ROLLOUT: Duration = Duration::from_mins(10);
/// How long one plugin may take to come back.
const RETURN: Duration = Duration::from_mins(3);

/// The plugin's DaemonSet.
#[derive(Clone)]
pub(crate) struct Plugin {
    client: Client,
    namespace: String,
    daemonset: String,
    /// The labels of its pods.
    labels: String,
}

impl Plugin {
    /// Finds the one DaemonSet with our labels whose program serves the driver.
    pub(crate) async fn find(client: &Client, driver: &str) -> Result<Self> {
        let all: Api<DaemonSet> = Api::all(client.clone());
        let found =
            all.list(&ListParams::default().labels(LABELS)).await.context("cannot list DaemonSets")?.items;
        let ours: Vec<&DaemonSet> = found.iter().filter(|one| serves(one, driver)).collect();
        match ours.as_slice() {
            [one] => {
                let metadata = &one.metadata;
                let wanted = one.spec.iter().flat_map(|spec| spec.selector.match_labels.iter().flatten());
                let labels: Vec<String> = wanted.map(|(key, value)| format!("{key}={value}")).collect();
                Ok(Self {
                    client: client.clone(),
                    namespace: metadata.namespace.clone().unwrap_or_default(),
                    daemonset: metadata.name.clone().unwrap_or_default(),
                    labels: labels.join(","),
                })
            }
            [] => bail!(
                "no DaemonSet with the labels {LABELS} serves {driver}: install the chart, or let --install do it"
            ),
            several => {
                bail!("{} DaemonSets with the labels {LABELS} serve {driver}: leave one", several.len())
            }
        }
    }

    /// One that was not looked for.
    #[cfg(test)]
    pub(crate) fn for_tests(client: Client) -> Self {
        Self {
            client,
            namespace: "system".into(),
            daemonset: "stowage-node".into(),
            labels: "app=node".into(),
        }
    }

    /// Where it is installed.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its pods, one a node, without those that failed.
    pub(crate) async fn pods(&self) -> Result<Vec<Pod>> {
        let pods = self.api::<Pod>().list(&ListParams::default().labels(&self.labels)).await;
        let mut pods = pods.context("cannot list the plugin's pods")?.items;
        // The DaemonSet replaces one that kubelet refused.
        pods.retain(|pod| !pods::has_failed(pod));
        Ok(pods)
    }

    /// Waits until every node has a ready plugin of the newest kind.
    pub(crate) async fn rolled_out(&self) -> Result<()> {
        let daemonsets = self.api::<DaemonSet>();
        Wait::new("the plugin is ready on every node", ROLLOUT)
            .until(async || Ok(rollout(&daemonsets.get(&self.daemonset).await?)))
            .await?;
        Ok(())
    }

    /// Changes the pod template, as an upgrade does.
    pub(crate) async fn roll(&self, mark: &str) -> Result<()> {
        self.annotate(Some(mark)).await
    }

    /// Takes back what [`Self::roll`] changed, which is one rollout more.
    pub(crate) async fn unroll(&self) -> Result<()> {
        self.annotate(None).await
    }

    async fn annotate(&self, mark: Option<&str>) -> Result<()> {
        let annotations = json!({ ROLLED: mark });
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } });
        self.api::<DaemonSet>()
            .patch(&self.daemonset, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .context("cannot change the plugin's DaemonSet")?;
        Ok(())
    }

    /// Deletes the plugin's pod on a node and waits for the next one to be ready.
    pub(crate) async fn restart_on(&self, node: &str) -> Result<()> {
        let Some(old) = self.pods().await?.into_iter().find(|pod| pods::node(pod) == Some(node)) else {
            bail!("no plugin runs on the node {node}");
        };
        let name = old.metadata.name.clone().unwrap_or_default();
        self.api::<Pod>()
            .delete(&name, &DeleteParams::default())
            .await
            .with_context(|| format!("cannot delete the plugin's pod {name}"))?;
        Wait::new(format!("another plugin is ready on the node {node}"), RETURN)
            .until(async || {
                let others = self.pods().await?;
                let other = others
                    .iter()
                    .find(|pod| pods::node(pod) == Some(node) && pod.metadata.uid != old.metadata.uid);
                Ok(other.map_or_else(|| Look::NotYet("only the old pod".into()), pods::ready))
            })
            .await?;
        Ok(())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn serves(daemonset: &DaemonSet, driver: &str) -> bool {
    let pod = daemonset.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.is_some_and(|pod| is_of_driver(&pod.containers, driver))
}

/// Whether one of the containers was told to be this driver.
pub(crate) fn is_of_driver(containers: &[Container], driver: &str) -> bool {
    let name = format!("--driver-name={driver}");
    containers.iter().flat_map(|container| container.args.iter().flatten()).any(|argument| *argument == name)
}

/// How far a rollout is.
fn rollout(daemonset: &DaemonSet) -> Look<()> {
    let Some(status) = &daemonset.status else { return Look::NotYet("the DaemonSet has no status".into()) };
    if status.observed_generation < daemonset.metadata.generation {
        return Look::NotYet("the change of the DaemonSet has not been seen yet".into());
    }
    let desired = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    if desired > 0 && updated == desired && status.number_ready == desired {
        return Look::Found(());
    }
    Look::NotYet(format!("{updated} of {desired} pods are new, {} are ready", status.number_ready))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api_server::{ApiServer, list};

    fn daemonset(generation: i64, status: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": { "name": "stowage-node", "namespace": "system", "generation": generation },
            "spec": {
                "selector": { "matchLabels": { "app": "node", "release": "r" } },
                "template": { "spec": { "containers": [{ "name": "c", "args": ["--driver-name=ours"] }] } },
            },
            "status": status,
        })
    }

    fn look(generation: i64, status: &Value) -> Look<()> {
        rollout(&serde_json::from_value(daemonset(generation, status)).unwrap())
    }

    fn numbers(observed: i64, desired: i32, updated: i32, ready: i32) -> Value {
        json!({
            "observedGeneration": observed, "desiredNumberScheduled": desired, "currentNumberScheduled": desired,
            "updatedNumberScheduled": updated, "numberReady": ready, "numberMisscheduled": 0,
        })
    }

    #[test]
    fn a_rollout_ends_when_every_node_has_a_ready_new_plugin() {
        assert!(matches!(look(2, &numbers(2, 3, 3, 3)), Look::Found(())));
        for behind in [numbers(1, 3, 3, 3), numbers(2, 3, 2, 3), numbers(2, 3, 3, 2), numbers(2, 0, 0, 0)] {
            assert!(matches!(look(2, &behind), Look::NotYet(_)), "{behind}");
        }
        let Look::NotYet(seen) = look(2, &numbers(2, 3, 1, 2)) else { panic!() };
        assert_eq!(seen, "1 of 3 pods are new, 2 are ready");
    }

    #[tokio::test]
    async fn a_cluster_without_the_plugin_or_with_two_is_refused() {
        let server = ApiServer::new();
        for (count, words) in [(0, "let --install do it"), (2, "2 DaemonSets with the labels")] {
            let client = server.client();
            let items = vec![daemonset(1, &json!(null)); count];
            let (found, ()) = tokio::join!(Plugin::find(&client, "ours"), async {
                let call = server.expect("GET", "/apis/apps/v1/daemonsets").await;
                assert!(call.query().contains("component%3Dnode"), "{}", call.query());
                call.answer(200, &list("DaemonSetList", &items));
            });
            let error = found.err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
        server.nothing_more();
    }

    #[tokio::test]
    async fn the_plugin_is_the_one_of_the_driver_and_its_pods_have_its_labels() {
        let server = ApiServer::new();
        let client = server.client();
        let mut theirs = daemonset(1, &json!(null));
        theirs["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["--driver-name=theirs"]);
        let items = [theirs, daemonset(1, &json!(null))];
        let found = async { Plugin::find(&client, "ours").await.unwrap().pods().await.unwrap() };
        let (pods, ()) = tokio::join!(found, async {
            let daemonsets = server.expect("GET", "/apis/apps/v1/daemonsets").await;
            daemonsets.answer(200, &list("DaemonSetList", &items));
            let call = server.expect("GET", "/api/v1/namespaces/system/pods").await;
            assert!(call.query().contains("app%3Dnode%2Crelease%3Dr"), "{}", call.query());
            let mut failed = pod("failed", "a", false);
            failed["status"]["phase"] = json!("Failed");
            call.answer(200, &list("PodList", &[failed, pod("new", "a", true)]));
        });
        let names: Vec<_> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        assert_eq!(names, ["new"]);
        server.nothing_more();
    }

    fn pod(uid: &str, node: &str, ready: bool) -> Value {
        let status = if ready { "True" } else { "False" };
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("stowage-node-{uid}"), "uid": uid },
            "spec": { "nodeName": node, "containers": [] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": status }] },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_waits_for_another_pod_on_the_same_node() {
        let server = ApiServer::new();
        let plugin = Plugin::for_tests(server.client());
        let pods = "/api/v1/namespaces/system/pods";
        let rounds = [
            vec![pod("old", "a", true), pod("other", "b", true)],
            vec![pod("old", "a", true), pod("other", "b", true)],
            vec![pod("new", "a", false), pod("other", "b", true)],
            vec![pod("new", "a", true), pod("other", "b", true)],
        ];
        let (restarted, ()) = tokio::join!(plugin.restart_on("a"), async {
            for (round, items) in rounds.iter().enumerate() {
                server.expect("GET", pods).await.answer(200, &list("PodList", items));
                if round == 0 {
                    let call = server.expect("DELETE", &format!("{pods}/stowage-node-old")).await;
                    call.answer(200, &items[0]);
                }
            }
        });
        restarted.unwrap();
        server.nothing_more();
    }
}
