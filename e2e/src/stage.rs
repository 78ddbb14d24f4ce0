//! What a scenario works with: a namespace, readers, events, and waits that end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::events::{self, Reason};
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
            "metadata": { "name": name },
            "stringData": { ".dockerconfigjson": config.to_string() },
        });
        self.make::<Secret>(secret).await.map(drop)
    }

    /// Starts a reader.
    pub(crate) async fn start(&self, reader: &Reader) -> Result<Pod> {
        self.make(reader.manifest(&self.image, &self.driver)).await
    }

    /// Starts a reader and waits until it has read everything.
    pub(crate) async fn reads(&self, reader: &Reader) -> Result<Pod> {
        self.reads_within(reader, SMALL).await
    }

    /// The same with another limit.
    pub(crate) async fn reads_within(&self, reader: &Reader, limit: Duration) -> Result<Pod> {
        let pod = self.start(reader).await?;
        self.succeeds(reader.name(), limit).await?;
        Ok(pod)
    }

    /// Waits until a pod has ended well; the last lines of its log are part of what is told otherwise.
    pub(crate) async fn succeeds(&self, pod: &str, limit: Duration) -> Result<()> {
        let pods = self.api::<Pod>();
        Wait::new(format!("the reader {pod} has read the whole volume"), limit)
            .until(async || {
                let look = pods::succeeded(&pods.get(pod).await?);
                let Look::Never(state) = look else { return Ok(look) };
                Ok(Look::Never(format!("{state}; its log ends with: {}", self.last_line(pod).await)))
            })
            .await?;
        Ok(())
    }

    /// Waits until a reader that holds on has read the volume as often, and returns how often it has.
    pub(crate) async fn rounds(&self, pod: &str, at_least: u64) -> Result<u64> {
        let pods = self.api::<Pod>();
        let rounds = Wait::new(format!("the reader {pod} has read the volume {at_least} times"), SMALL)
            .until(async || {
                let state = pods.get(pod).await?;
                if let Look::Never(why) = pods::ready(&state) {
                    return Ok(Look::Never(format!(
                        "{why}; its log ends with: {}",
                        self.last_line(pod).await
                    )));
                }
                let line = self.last_line(pod).await;
                let round = serde_json::from_str::<Value>(&line).ok().and_then(|line| line["round"].as_u64());
                Ok(match round {
                    Some(round) if round >= at_least => Look::Found(round),
                    Some(round) => Look::NotYet(format!("{round} times")),
                    None => Look::NotYet(pods::state(&state)),
                })
            })
            .await?;
        Ok(rounds)
    }

    async fn last_line(&self, pod: &str) -> String {
        let wanted = LogParams { tail_lines: Some(1), ..LogParams::default() };
        match self.api::<Pod>().logs(pod, &wanted).await {
            Ok(log) => log.trim().to_owned(),
            Err(error) => format!("(no log: {error})"),
        }
    }

    /// Waits for an event about the pod whose message has all the words.
    pub(crate) async fn event(&self, pod: &Pod, reason: Reason, words: &[&str]) -> Result<Event> {
        self.event_within(pod, reason, words, SMALL).await
    }

    /// The same with another limit.
    pub(crate) async fn event_within(
        &self,
        pod: &Pod,
        reason: Reason,
        words: &[&str],
        limit: Duration,
    ) -> Result<Event> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let what = format!("an event {} of {name} with {words:?}", reason.as_str());
        let event = Wait::new(what, limit)
            .until(async || {
                let events = self.events(pod).await?;
                Ok(match events::matching(&events, reason, words) {
                    Some(event) => Look::Found(event.clone()),
                    None => Look::NotYet(events::seen(&events)),
                })
            })
            .await?;
        Ok(event)
    }

    /// All events about a pod.
    pub(crate) async fn events(&self, pod: &Pod) -> Result<Vec<Event>> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        Ok(self.api::<Event>().list(&about).await?.items)
    }

    /// Deletes a pod and waits until it is gone: only then has the volume been taken away.
    pub(crate) async fn ends(&self, pod: &str) -> Result<()> {
        let pods = self.api::<Pod>();
        pods.delete(pod, &DeleteParams::default())
            .await
            .with_context(|| format!("cannot delete the pod {pod}"))?;
        Wait::new(format!("the pod {pod} is gone"), END)
            .until(async || {
                Ok(match pods.get_opt(pod).await? {
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
pub(crate) mod tests {
    use super::*;
    use crate::api_server::{ApiServer, list};

    const PODS: &str = "/api/v1/namespaces/ns/pods";

    pub(crate) fn stage(server: &ApiServer) -> Stage {
        let client = server.client();
        Stage {
            namespace: "ns".into(),
            restricted: "ns-restricted".into(),
            run: "run-1".into(),
            scenario: "test",
            image: "img:1".into(),
            driver: "csi.stowage.dev".into(),
            version: (1, 33),
            registry: Registry::for_tests(client.clone()),
            plugin: Plugin::for_tests(client.clone()),
            client,
        }
    }

    fn pod(phase: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "r", "uid": "u" },
            "status": { "phase": phase },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_started_marked_and_waited_for() {
        let server = ApiServer::new();
        let stage = stage(&server);
        let reader = Reader::inline("r", "10.0.0.1:5000/a:v1");
        let (read, ()) = tokio::join!(stage.reads(&reader), async {
            let made = server.expect("POST", PODS).await;
            assert_eq!(made.body()["metadata"]["labels"][labels::RUN], "run-1");
            assert_eq!(made.body()["metadata"]["labels"][labels::SCENARIO], "test");
            assert_eq!(made.body()["spec"]["containers"][0]["image"], "img:1");
            made.echo();
            server.expect("GET", &format!("{PODS}/r")).await.answer(200, &pod("Pending"));
            server.expect("GET", &format!("{PODS}/r")).await.refuse(503, "ServiceUnavailable", "busy");
            server.expect("GET", &format!("{PODS}/r")).await.answer(200, &pod("Succeeded"));
        });
        read.unwrap();
        server.nothing_more();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_fails_ends_the_wait_with_its_own_words() {
        let server = ApiServer::new();
        let stage = stage(&server);
        let (read, ()) = tokio::join!(stage.succeeds("r", SMALL), async {
            server.expect("GET", &format!("{PODS}/r")).await.answer(200, &pod("Failed"));
            let log = server.expect("GET", &format!("{PODS}/r/log")).await;
            assert!(log.query().contains("tailLines=1"), "{}", log.query());
            log.text(200, "stowage: a.txt has other bytes\n");
        });
        let error = read.unwrap_err().to_string();
        assert!(error.ends_with("its log ends with: stowage: a.txt has other bytes"), "{error}");
        server.nothing_more();
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_looked_for_among_those_of_the_very_pod() {
        let server = ApiServer::new();
        let stage = stage(&server);
        let about: Pod = serde_json::from_value(pod("Pending")).unwrap();
        let event = json!({
            "metadata": { "name": "e" }, "involvedObject": {}, "source": { "component": "stowage" },
            "reason": "ArtifactNotFound", "message": "a:v9 is not there",
        });
        let (found, ()) = tokio::join!(stage.event(&about, Reason::NotFound, &["a:v9"]), async {
            let empty = server.expect("GET", "/api/v1/namespaces/ns/events").await;
            assert!(empty.query().contains("involvedObject.uid%3Du"), "{}", empty.query());
            empty.answer(200, &list("EventList", &[]));
            let call = server.expect("GET", "/api/v1/namespaces/ns/events").await;
            call.answer(200, &list("EventList", &[event]));
        });
        assert_eq!(found.unwrap().message.as_deref(), Some("a:v9 is not there"));
        server.nothing_more();
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_does_not_come_is_given_up_on_with_those_that_did() {
        let server = ApiServer::new();
        let stage = stage(&server);
        let about: Pod = serde_json::from_value(pod("Pending")).unwrap();
        let other = json!({
            "metadata": { "name": "e" }, "involvedObject": {}, "source": { "component": "stowage" },
            "reason": "ArtifactPullFailed", "message": "connection refused",
        });
        let words = ["a:v9"];
        let waited = stage.event_within(&about, Reason::NotFound, &words, Duration::from_secs(2));
        let (found, ()) = tokio::join!(waited, async {
            for _ in 0..3 {
                server.next().await.answer(200, &list("EventList", std::slice::from_ref(&other)));
            }
        });
        let error = found.unwrap_err().to_string();
        assert!(error.contains("ArtifactNotFound") && error.contains("connection refused"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_are_read_from_the_end_of_the_log() {
        let server = ApiServer::new();
        let stage = stage(&server);
        let (rounds, ()) = tokio::join!(stage.rounds("r", 5), async {
            for line in ["", "{\"round\":4}\n", "{\"round\":6}\n"] {
                server.expect("GET", &format!("{PODS}/r")).await.answer(200, &pod("Running"));
                server.expect("GET", &format!("{PODS}/r/log")).await.text(200, line);
            }
        });
        assert_eq!(rounds.unwrap(), 6);
        server.nothing_more();
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_has_ended_when_it_is_gone() {
        let server = ApiServer::new();
        let stage = stage(&server);
        let (ended, ()) = tokio::join!(stage.ends("r"), async {
            server.expect("DELETE", &format!("{PODS}/r")).await.answer(200, &pod("Running"));
            server.expect("GET", &format!("{PODS}/r")).await.answer(200, &pod("Running"));
            server.expect("GET", &format!("{PODS}/r")).await.refuse(404, "NotFound", "gone");
        });
        ended.unwrap();
        server.nothing_more();
    }

    #[tokio::test]
    async fn a_secret_names_the_private_registry() {
        let server = ApiServer::new();
        let stage = stage(&server);
        let (made, ()) = tokio::join!(stage.secret("s", "ada", "pw"), async {
            let call = server.expect("POST", "/api/v1/namespaces/ns/secrets").await;
            let text = call.body()["stringData"][".dockerconfigjson"].as_str().unwrap().to_owned();
            let config: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(config["auths"]["10.96.0.9:5001"], json!({ "username": "ada", "password": "pw" }));
            call.echo();
        });
        made.unwrap();
        server.nothing_more();
    }
}
