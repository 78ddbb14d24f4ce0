//! What a run makes around its scenarios, and takes away again.

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::labels;
use crate::removal::{self, gone};

/// The run, in one cluster.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) run: String,
}

impl World {
    /// The namespace with the restricted standard.
    pub(crate) fn restricted(&self) -> String {
        format!("{}-restricted", self.namespace)
    }

    /// Major and minor version of the API server.
    pub(crate) async fn version(&self) -> Result<(u32, u32)> {
        let info = self.client.apiserver_version().await.context("the cluster does not answer")?;
        let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok();
        match (number(&info.major), number(&info.minor)) {
            (Some(major), Some(minor)) => Ok((major, minor)),
            _ => bail!("the cluster has a version that is not understood: {}.{}", info.major, info.minor),
        }
    }

    /// Makes the two namespaces of the run, which must not be there yet.
    pub(crate) async fn make_namespaces(&self) -> Result<()> {
        let restricted = self.restricted();
        for (name, standard) in [(&self.namespace, "baseline"), (&restricted, "restricted")] {
            self.make_namespace(name, standard, &self.run).await.with_context(|| {
                format!("cannot make the namespace {name}; where an earlier run has left it, delete it or choose --namespace")
            })?;
        }
        Ok(())
    }

    /// Makes the namespace that the chart is installed into.
    pub(crate) async fn make_plugin_namespace(&self, name: &str) -> Result<()> {
        self.make_namespace(name, "privileged", &self.plugin_run())
            .await
            .with_context(|| format!("cannot make the namespace {name} to install into"))
    }

    async fn make_namespace(&self, name: &str, standard: &str, run: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let manifest = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": {
                labels::RUN: run, "pod-security.kubernetes.io/enforce": standard,
            }},
        });
        namespaces.create(&PostParams::default(), &serde_json::from_value(manifest)?).await?;
        Ok(())
    }

    /// Takes away what a scenario made: pods first, since they use the rest.
    pub(crate) async fn sweep(&self, scenario: &str) -> Result<()> {
        let (client, selector) = (&self.client, labels::selector(&self.run, scenario));
        for namespace in [&self.namespace, &self.restricted()] {
            removal::artifacts_gone(client, namespace, &selector).await?;
            gone::<Pod>(&Api::namespaced(client.clone(), namespace), &selector).await?;
            gone::<Secret>(&Api::namespaced(client.clone(), namespace), &selector).await?;
        }
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &self.namespace);
        gone(&claims, &selector).await?;
        let classes = format!("{}-{scenario}-", self.run);
        let provisioned = removal::provisioned_gone(client, &classes).await;
        gone::<PersistentVolume>(&Api::all(client.clone()), &selector).await?;
        gone::<StorageClass>(&Api::all(client.clone()), &selector).await?;
        provisioned
    }

    /// Takes the namespaces of the run away, and what belongs to the cluster; not that of the plugin, which is needed
    /// for it. What fails keeps nothing else from going.
    pub(crate) async fn end(&self) -> Result<()> {
        let (client, own) = (&self.client, format!("{}={}", labels::RUN, self.run));
        let all = [
            gone::<Namespace>(&Api::all(client.clone()), &own).await,
            removal::provisioned_gone(client, &format!("{}-", self.run)).await,
            gone::<PersistentVolume>(&Api::all(client.clone()), &own).await,
            gone::<StorageClass>(&Api::all(client.clone()), &own).await,
        ];
        let failures: Vec<String> =
            all.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(())
    }

    /// The pods that are left in the namespaces of the run, where these are left.
    pub(crate) async fn pods_left(&self) -> Result<Vec<String>> {
        let own = ListParams::default().labels(&format!("{}={}", labels::RUN, self.run));
        let namespaces = Api::<Namespace>::all(self.client.clone()).list(&own).await;
        let namespaces = namespaces.context("cannot list the namespaces that are left")?.items;
        let mut left = Vec::new();
        for namespace in namespaces.into_iter().filter_map(|namespace| namespace.metadata.name) {
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            let pods =
                pods.list(&ListParams::default()).await.context("cannot list the pods that are left")?;
            left.extend(pods.items.into_iter().filter_map(|pod| pod.metadata.name));
        }
        Ok(left)
    }

    /// Takes the namespace of the plugin away.
    pub(crate) async fn end_plugin(&self) -> Result<()> {
        let own = format!("{}={}", labels::RUN, self.plugin_run());
        gone::<Namespace>(&Api::all(self.client.clone()), &own).await
    }

    fn plugin_run(&self) -> String {
        format!("{}-plugin", self.run)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api_server::{ApiServer, list};

    fn world(server: &ApiServer) -> World {
        World { client: server.client(), namespace: "e2e".into(), run: "r1".into() }
    }

    #[tokio::test]
    async fn versions_of_providers_are_understood() {
        let server = ApiServer::new();
        let world = world(&server);
        for (minor, expected) in [("33", Some((1, 33))), ("31+", Some((1, 31))), ("x", None)] {
            let (version, ()) = tokio::join!(world.version(), async {
                let info = json!({
                    "major": "1", "minor": minor, "gitVersion": "v", "gitCommit": "", "gitTreeState": "",
                    "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
                });
                server.expect("GET", "/version").await.answer(200, &info);
            });
            assert_eq!(version.ok(), expected, "{minor}");
        }
    }

    #[tokio::test]
    async fn a_namespace_that_is_there_is_not_taken_over() {
        let server = ApiServer::new();
        let world = world(&server);
        let (made, ()) = tokio::join!(world.make_namespaces(), async {
            let call = server.expect("POST", "/api/v1/namespaces").await;
            assert_eq!(call.body()["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "baseline");
            call.refuse(409, "AlreadyExists", "namespaces \"e2e\" already exists");
        });
        let error = format!("{:#}", made.unwrap_err());
        assert!(error.contains("choose --namespace") && error.contains("already exists"), "{error}");
        server.nothing_more();
    }

    fn named(kind: &str, name: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } })
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_deletes_what_has_the_labels_and_waits_for_its_end() {
        let server = ApiServer::new();
        let world = world(&server);
        let empty = |kind: &str| list(&format!("{kind}List"), &[]);
        let (swept, ()) = tokio::join!(world.sweep("static-pv"), async {
            let artifacts = |namespace: &str| {
                format!("/apis/stowage.dev/v1alpha1/namespaces/{namespace}/cachedartifacts")
            };
            server.expect("GET", &artifacts("e2e")).await.refuse(404, "NotFound", "no such kind");
            let pods = "/api/v1/namespaces/e2e/pods";
            let call = server.expect("GET", pods).await;
            let ours = "stowage.dev%2Fe2e-run%3Dr1%2Cstowage.dev%2Fe2e-scenario%3Dstatic-pv";
            assert!(call.query().contains(ours), "{}", call.query());
            call.answer(200, &list("PodList", &[named("Pod", "one")]));
            server.expect("DELETE", &format!("{pods}/one")).await.answer(200, &named("Pod", "one"));
            server.expect("GET", pods).await.answer(200, &list("PodList", &[named("Pod", "one")]));
            server.expect("GET", pods).await.answer(200, &empty("Pod"));
            let secrets = "/api/v1/namespaces/e2e/secrets";
            server.expect("GET", secrets).await.answer(200, &list("SecretList", &[named("Secret", "right")]));
            server.expect("DELETE", &format!("{secrets}/right")).await.answer(200, &named("Secret", "right"));
            server.expect("GET", secrets).await.answer(200, &empty("Secret"));
            server.expect("GET", &artifacts("e2e-restricted")).await.refuse(404, "NotFound", "no such kind");
            for (path, kind) in [
                ("/api/v1/namespaces/e2e-restricted/pods", "Pod"),
                ("/api/v1/namespaces/e2e-restricted/secrets", "Secret"),
                ("/api/v1/namespaces/e2e/persistentvolumeclaims", "PersistentVolumeClaim"),
                ("/api/v1/persistentvolumes", "PersistentVolume"),
                ("/api/v1/persistentvolumes", "PersistentVolume"),
                ("/apis/storage.k8s.io/v1/storageclasses", "StorageClass"),
            ] {
                server.expect("GET", path).await.answer(200, &empty(kind));
            }
        });
        swept.unwrap();
        server.nothing_more();
    }

    #[tokio::test]
    async fn what_does_not_go_keeps_nothing_else_from_going() {
        let server = ApiServer::new();
        let world = world(&server);
        let (ended, ()) = tokio::join!(world.end(), async {
            server.expect("GET", "/api/v1/namespaces").await.refuse(403, "Forbidden", "not your namespaces");
            for _ in 0..2 {
                let volumes = server.expect("GET", "/api/v1/persistentvolumes").await;
                volumes.answer(200, &list("PersistentVolumeList", &[]));
            }
            let classes = server.expect("GET", "/apis/storage.k8s.io/v1/storageclasses").await;
            classes.refuse(403, "Forbidden", "not your classes");
        });
        let error = ended.unwrap_err().to_string();
        assert!(error.contains("not your namespaces") && error.contains("not your classes"), "{error}");
        server.nothing_more();
    }

    #[tokio::test]
    async fn pods_that_are_left_are_found_in_the_namespaces_that_the_run_made() {
        let server = ApiServer::new();
        let world = world(&server);
        let (left, ()) = tokio::join!(world.pods_left(), async {
            let both = ["e2e", "e2e-restricted"];
            let call = server.expect("GET", "/api/v1/namespaces").await;
            assert!(call.query().contains("e2e-run%3Dr1"), "{}", call.query());
            call.answer(200, &list("NamespaceList", &both.map(|name| named("Namespace", name))));
            for namespace in both {
                let call = server.expect("GET", &format!("/api/v1/namespaces/{namespace}/pods")).await;
                call.answer(200, &list("PodList", &[named("Pod", namespace)]));
            }
        });
        assert_eq!(left.unwrap(), ["e2e", "e2e-restricted"]);
        server.nothing_more();
    }
}
