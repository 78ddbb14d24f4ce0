//! What is kept of a failure: events, objects and logs of the namespaces that took part, and what belongs to the cluster.

mod objects;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, Client};

use crate::{events, pods};

/// Lines of each log that are shown at once; the files have all.
const SHOWN: usize = 15;

/// Writes everything beneath `directory` and returns the essence: states, events, ends of logs. What cannot be had is said
/// in its place, since the failure that led here matters more.
pub(crate) async fn collect(client: &Client, namespaces: &[&str], directory: &Path) -> Result<String> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut essence = String::new();
    for namespace in namespaces {
        let found = Namespace::read(client, namespace).await;
        essence.push_str(&found.essence());
        found.write(&directory.join(namespace))?;
        objects::of_namespace(client, namespace, &directory.join(namespace)).await?;
    }
    objects::of_cluster(client, &directory.join("cluster")).await?;
    Ok(essence)
}

/// What was found in one namespace.
struct Namespace {
    name: String,
    states: Vec<String>,
    manifests: String,
    events: String,
    /// Name of the file and text.
    logs: Vec<(String, String)>,
}

impl Namespace {
    async fn read(client: &Client, name: &str) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), name);
        let all: Api<Event> = Api::namespaced(client.clone(), name);
        let events = match all.list(&ListParams::default()).await {
            Ok(list) => events::lines(&list.items),
            Err(error) => format!("the events cannot be read: {error}"),
        };
        let items = match pods.list(&ListParams::default()).await {
            Ok(list) => list.items,
            Err(error) => {
                let states = vec![format!("the pods cannot be read: {error}")];
                let name = name.to_owned();
                return Self { name, states, manifests: String::new(), events, logs: Vec::new() };
            }
        };
        let mut logs = Vec::new();
        for pod in &items {
            logs.extend(read_logs(&pods, pod).await);
        }
        Self {
            name: name.to_owned(),
            states: items.iter().map(pods::state).collect(),
            manifests: serde_json::to_string_pretty(&items).unwrap_or_default(),
            events,
            logs,
        }
    }

    fn essence(&self) -> String {
        let mut text = format!("--- namespace {}\n{}\n{}\n", self.name, self.states.join("\n"), self.events);
        for (name, log) in &self.logs {
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            let _ = writeln!(text, "--- {}/{name}, its last lines\n{end}", self.name);
        }
        text
    }

    fn write(&self, directory: &Path) -> Result<()> {
        let write = |name: &str, text: &str| {
            let path: PathBuf = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        write("events.txt", &self.events)?;
        write("pods.json", &self.manifests)?;
        for (name, log) in &self.logs {
            write(name, log)?;
        }
        Ok(())
    }
}

/// The logs of each container, and those of the run before where it was restarted.
async fn read_logs(pods: &Api<Pod>, pod: &Pod) -> Vec<(String, String)> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| &container.name);
    let mut logs = Vec::new();
    for container in containers {
        for previous in [false, true] {
            if previous && pods::restarts(pod) == 0 {
                continue;
            }
            let wanted = LogParams { container: Some(container.clone()), previous, ..LogParams::default() };
            let file = format!("{name}-{container}{}.log", if previous { "-before" } else { "" });
            let text = pods.logs(&name, &wanted).await;
            logs.push((file, text.unwrap_or_else(|error| format!("the log cannot be read: {error}"))));
        }
    }
    logs
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api_server::{ApiServer, list};

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "reader" },
            "spec": { "containers": [{ "name": "c" }] },
            "status": { "phase": "Running", "containerStatuses": [
                { "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 1 },
            ]},
        })
    }

    /// Answers for the kinds that [`objects`] reads.
    async fn objects(server: &ApiServer) {
        for _ in 0..9 {
            server.next().await.answer(200, &list("List", &[]));
        }
    }

    #[tokio::test]
    async fn events_pods_and_the_logs_of_both_runs_are_kept() {
        let (server, directory) = (ApiServer::new(), tempfile::tempdir().unwrap());
        let event = json!({
            "metadata": { "name": "e" }, "involvedObject": { "kind": "Pod", "name": "reader" },
            "reason": "ArtifactNotFound", "message": "no such tag", "type": "Warning",
        });
        let long: Vec<String> = (1..=40).map(|number| format!("line {number}")).collect();
        let base = "/api/v1/namespaces/ns";
        let client = server.client();
        let (essence, ()) = tokio::join!(collect(&client, &["ns"], directory.path()), async {
            let call = server.expect("GET", &format!("{base}/events")).await;
            call.answer(200, &list("EventList", &[event]));
            server.expect("GET", &format!("{base}/pods")).await.answer(200, &list("PodList", &[pod()]));
            server.expect("GET", &format!("{base}/pods/reader/log")).await.text(200, &long.join("\n"));
            let before = server.expect("GET", &format!("{base}/pods/reader/log")).await;
            assert!(before.query().contains("previous=true"), "{}", before.query());
            before.refuse(400, "BadRequest", "previous terminated container not found");
            objects(&server).await;
        });
        server.nothing_more();
        let essence = essence.unwrap();
        assert!(essence.contains("pod reader is Running") && essence.contains("no such tag"), "{essence}");
        assert!(essence.contains("line 40") && !essence.contains("line 20\n"), "{essence}");
        let read = |name: &str| fs::read_to_string(directory.path().join("ns").join(name)).unwrap();
        assert!(read("reader-c.log").starts_with("line 1\n"));
        assert!(read("reader-c-before.log").contains("cannot be read"));
        assert!(read("events.txt").contains("ArtifactNotFound"));
        assert!(read("pods.json").contains("\"reader\""));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said_in_its_place() {
        let (server, directory) = (ApiServer::new(), tempfile::tempdir().unwrap());
        let client = server.client();
        let (essence, ()) = tokio::join!(collect(&client, &["ns"], directory.path()), async {
            server.next().await.refuse(403, "Forbidden", "not your events");
            server.next().await.refuse(403, "Forbidden", "not your pods");
            objects(&server).await;
        });
        let essence = essence.unwrap();
        assert!(essence.contains("not your events") && essence.contains("not your pods"), "{essence}");
    }
}
