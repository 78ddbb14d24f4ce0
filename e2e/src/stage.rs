//! What a scenario works with: a namespace, readers, events, and waits that end.

mod watch;

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::plugin::Plugin;
use crate::reader::Reader;
use crate::registry::{House, Registry, Sample};
use crate::wait::{Look, Wait};
use crate::{labels, pods};

/// How long a small volume may take, with scheduling and the start of a container.
const SMALL: Duration = Duration::from_mins(3);
/// How long the end of a pod may take.
const END: Duration = Duration::from_mins(2);

/// Where one scenario plays.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// The namespace in which only the restricted standard is allowed.
    pub(crate) restricted: String,
    pub(crate) run: String,
    pub(crate) scenario: &'static str,
    pub(crate) image: String,
    pub(crate) driver: String,
    /// Major and minor version of Kubernetes.
    pub(crate) version: (u32, u32),
    pub(crate) registry: Registry,
    pub(crate) plugin: Plugin,
}

impl Stage {
    /// The name of an object of this scenario in its namespace. Readers, secrets and claims are called by the short one.
    pub(crate) fn name(&self, short: &str) -> String {
        labels::name(self.scenario, short)
    }

    /// The name of an object of the cluster, which no other run has.
    pub(crate) fn global_name(&self, short: &str) -> String {
        format!("{}-{}", self.run, self.name(short))
    }

    /// An artifact of the registry.
    pub(crate) fn sample(&self, repository: &str) -> Result<Sample> {
        self.registry.sample(repository).cloned()
    }

    /// Objects of a kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes an object in the namespace, marked as ours.
    pub(crate) async fn make<K>(&self, manifest: Value) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        self.create(&self.api::<K>(), manifest).await
    }

    /// Makes an object of the cluster, marked as ours.
    pub(crate) async fn make_global<K>(&self, manifest: Value) -> Result<K>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        self.create(&Api::<K>::all(self.client.clone()), manifest).await
    }

    async fn create<K>(&self, api: &Api<K>, mut manifest: Value) -> Result<K>
    where
        K: Serialize + DeserializeOwned + Clone + std::fmt::Debug,
    {
        labels::mark(&mut manifest, &self.run, self.scenario);
        let name = format!("{} {}", text(&manifest["kind"]), text(&manifest["metadata"]["name"]));
        let object =
            serde_json::from_value(manifest).with_context(|| format!("{name} cannot be written so"))?;
        api.create(&PostParams::default(), &object).await.with_context(|| format!("cannot make {name}"))
    }

    /// A pull secret for the private registry.
    pub(crate) async fn secret(&self, name: &str, user: &str, password: &str) -> Result<()> {
        let host = self.registry.host(House::Private);
        let config = json!({ "auths": { host: { "username": user, "password": password } } });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": { "name": self.name(name) },
            "stringData": { ".dockerconfigjson": config.to_string() },
        });
        self.make::<Secret>(secret).await.map(drop)
    }

    /// Starts a reader; where it was not told where to run, on [`Self::node`].
    pub(crate) async fn start(&self, reader: &Reader) -> Result<Pod> {
        let reader =
            if reader.is_placed() { reader.clone() } else { reader.clone().on(&self.node().await?) };
        self.make(reader.manifest(self.scenario, &self.image, &self.driver)).await
    }

    /// Deletes a pod and waits until it is gone: only then has the volume been taken away.
    pub(crate) async fn ends(&self, reader: &str) -> Result<()> {
        let (pods, pod) = (self.api::<Pod>(), self.name(reader));
        pods.delete(&pod, &DeleteParams::default())
            .await
            .with_context(|| format!("cannot delete the pod {pod}"))?;
        Wait::new(format!("the pod {pod} is gone"), END)
            .until(async || {
                Ok(match pods.get_opt(&pod).await? {
                    None => Look::Found(()),
                    Some(there) => Look::NotYet(pods::state(&there)),
                })
            })
            .await?;
        Ok(())
    }

    /// A node with a ready plugin. Readers of one node find the same store.
    pub(crate) async fn node(&self) -> Result<String> {
        let mut nodes = self.nodes().await?;
        // The last by name, which is a worker wherever there are some.
        nodes.pop().context("no node has a ready plugin")
    }

    /// All nodes with a ready plugin, sorted.
    pub(crate) async fn nodes(&self) -> Result<Vec<String>> {
        let pods = self.plugin.pods().await?;
        let ready = pods.iter().filter(|pod| pods::is_ready(pod));
        let mut nodes: Vec<String> = ready.filter_map(|pod| pods::node(pod)).map(str::to_owned).collect();
        nodes.sort();
        Ok(nodes)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
pub(crate) mod tests;
