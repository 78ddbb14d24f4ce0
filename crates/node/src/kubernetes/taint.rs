//! The taint `stowage.dev/not-ready`: whoever makes nodes may set it, so that no pod with a volume of ours comes to a
//! node before its plugin is there. The plugin takes it off its own node.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{Api, Client};
use serde_json::{Value, json};
use stowage_telemetry::Health;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Backoff, CallError, Warnings, call};

/// The key of the taint, whatever its effect and value.
pub const TAINT: &str = "stowage.dev/not-ready";

/// Between two tries.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

/// For how long the right to do it is hoped for: an installation may still be on its way. Without a taint to remove nobody
/// grants it.
const HOPE: Duration = Duration::from_mins(10);

/// Waits until the plugin is registered and its store is open, then removes the taint; tries until it is gone.
pub(crate) async fn remove_when_ready(client: Client, node: String, health: Health, stop: CancellationToken) {
    let work = async {
        health.until_ready().await;
        remove(client, &node).await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

async fn remove(client: Client, node: &str) {
    let (mut backoff, mut warnings) = (BACKOFF, Warnings::about("remove the taint stowage.dev/not-ready"));
    let started = Instant::now();
    loop {
        match try_to_remove(&client, node).await {
            Ok(true) => {
                tracing::info!(node, "removed the taint {TAINT}: pods with volumes may come");
                return;
            }
            Ok(false) => return,
            // Somebody changed the taints after we had looked.
            Err(error @ CallError::Conflict(_)) => tracing::debug!(%error, "looking at the taints again"),
            Err(error @ CallError::Forbidden(_)) if started.elapsed() > HOPE => {
                tracing::info!(%error, "the taint {TAINT}, where there is one, stays");
                return;
            }
            Err(error) => warnings.warn(&error, "trying again"),
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Whether there was one to remove.
async fn try_to_remove(client: &Client, name: &str) -> Result<bool, CallError> {
    let node = call(Api::<Node>::all(client.clone()).get(name)).await?;
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let operations = removals(&taints);
    if operations.is_empty() {
        return Ok(false);
    }
    // A raw request: kube makes JSON patches only with one more dependency.
    let request = http::Request::patch(format!("/api/v1/nodes/{name}"))
        .header(CONTENT_TYPE, "application/json-patch+json")
        .body(Value::Array(operations).to_string().into_bytes())
        .map_err(|error| CallError::Refused(error.to_string()))?;
    call(client.request::<Node>(request)).await?;
    Ok(true)
}

/// Takes away only what is ours, where it still is: an index that now has another taint fails the test of its key, and
/// with it the whole patch. From the last to the first, because each removal moves what follows.
fn removals(taints: &[Taint]) -> Vec<Value> {
    let ours = taints.iter().enumerate().rev().filter(|(_, taint)| taint.key == TAINT);
    ours.flat_map(|(index, _)| {
        [
            json!({ "op": "test", "path": format!("/spec/taints/{index}/key"), "value": TAINT }),
            json!({ "op": "remove", "path": format!("/spec/taints/{index}") }),
        ]
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::mock::{ApiServer, status};

    const PATH: &str = "/api/v1/nodes/node-1";

    fn node(taints: &[&str]) -> Value {
        let taints: Vec<_> = taints.iter().map(|key| json!({ "key": key, "effect": "NoSchedule" })).collect();
        json!({ "metadata": { "name": "node-1", "resourceVersion": "7" }, "spec": { "taints": taints } })
    }

    fn ready() -> Health {
        Health::new()
    }

    fn start(health: Health) -> (ApiServer, tokio::task::JoinHandle<()>) {
        let (client, server) = ApiServer::new();
        let stop = CancellationToken::new();
        (server, tokio::spawn(remove_when_ready(client, "node-1".to_owned(), health, stop)))
    }

    #[tokio::test(start_paused = true)]
    async fn only_our_taint_is_removed_and_only_where_it_still_is() {
        let (mut server, task) = start(ready());
        server.expect("GET", PATH).await.answer(200, &node(&["a", TAINT, "b", TAINT]));
        let patch = server.expect("PATCH", PATH).await;
        assert_eq!(patch.content_type(), "application/json-patch+json");
        assert_eq!(
            *patch.body(),
            json!([
                { "op": "test", "path": "/spec/taints/3/key", "value": TAINT },
                { "op": "remove", "path": "/spec/taints/3" },
                { "op": "test", "path": "/spec/taints/1/key", "value": TAINT },
                { "op": "remove", "path": "/spec/taints/1" },
            ])
        );
        patch.answer(200, &node(&["a", "b"]));
        server.ended().await;
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_the_taint_is_left_alone() {
        let (mut server, task) = start(ready());
        server.expect("GET", PATH).await.answer(200, &node(&["a"]));
        server.ended().await;
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_before_the_store_is_open_and_kubelet_has_registered_the_plugin() {
        let health = Health::new();
        health.waiting("store", "x");
        health.waiting("registration", "y");
        let (mut server, task) = start(health.clone());
        server.nothing_more().await;
        health.ready("store");
        server.nothing_more().await;
        health.ready("registration");
        server.expect("GET", PATH).await.answer(200, &node(&[]));
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_by_somebody_else_or_a_failure_is_followed_by_another_look() {
        let (mut server, task) = start(ready());
        server.expect("GET", PATH).await.answer(503, &status(503, "ServiceUnavailable", "starting"));
        server.expect("GET", PATH).await.answer(200, &node(&[TAINT]));
        let test_failed =
            status(422, "Invalid", "the server rejected our request due to an error in our request");
        server.expect("PATCH", PATH).await.answer(422, &test_failed);
        server.expect("GET", PATH).await.answer(200, &node(&["new", TAINT]));
        server.expect("PATCH", PATH).await.answer(403, &status(403, "Forbidden", "no right"));
        // Nobody answers.
        drop(server.expect("GET", PATH).await);
        server.expect("GET", PATH).await.answer(200, &node(&["new", TAINT]));
        let patch = server.expect("PATCH", PATH).await;
        assert_eq!(patch.body()[1]["path"], "/spec/taints/1");
        patch.answer(200, &node(&["new"]));
        server.ended().await;
        task.await.unwrap();
    }

    /// Somebody has to hear of it; that other taints were set meanwhile concerns nobody.
    #[tokio::test(start_paused = true)]
    async fn a_patch_that_a_policy_denies_is_a_warning_and_one_that_came_too_late_is_none() {
        let (client, mut server) = ApiServer::new();
        let denied = status(422, "Invalid", "nodes \"node-1\" is forbidden: policy 'p' denied request: no");
        let late = status(422, "Invalid", "the server rejected our request due to an error in our request");
        for (answer, kind) in [(late, "conflict"), (denied, "refused")] {
            let tried = async {
                server.expect("GET", PATH).await.answer(200, &node(&[TAINT]));
                server.expect("PATCH", PATH).await.answer(422, &answer);
            };
            let (failed, ()) = tokio::join!(try_to_remove(&client, "node-1"), tried);
            assert_eq!(failed.unwrap_err().kind(), kind);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_nobody_grants_is_hoped_for_some_minutes_only() {
        let (mut server, task) = start(ready());
        let started = Instant::now();
        while started.elapsed() <= HOPE {
            server.expect("GET", PATH).await.answer(403, &status(403, "Forbidden", "no right"));
        }
        server.ended().await;
        task.await.unwrap();
    }
}
