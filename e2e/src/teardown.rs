//! The end of a run: what it made goes, in an order in which it can.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::run::Made;
use crate::verdict::{Row, TEARDOWN, Verdict};
use crate::world::World;

/// How long one step may take; helm has five minutes of its own.
const STEP: Duration = Duration::from_mins(8);

/// Takes everything away and says whether it went.
pub(crate) async fn take_away(world: &World, made: &Made<'_>) -> Row {
    let begun = Instant::now();
    let mut failures = Vec::new();
    let mut told = |step: Result<()>| {
        if let Err(error) = step {
            eprintln!("{error:#}");
            failures.push(format!("{error:#}"));
        }
    };
    told(bounded("the end of the namespaces", world.end()).await);
    // The chart refuses to go while pods use the driver, and they need the plugin to go.
    match bounded("the look for pods", nobody_left(world)).await {
        Ok(()) => {
            match (&made.install, &made.plugin) {
                (Some(install), _) => told(bounded("the end of the chart", install.remove()).await),
                (None, Some(plugin)) => told(bounded("the end of the annotation", plugin.unroll()).await),
                (None, None) => {}
            }
            told(bounded("the end of the plugin's namespace", world.end_plugin()).await);
        }
        left => told(left),
    }
    let verdict = if failures.is_empty() { Verdict::Passed } else { Verdict::Failed(failures.join("; ")) };
    Row::new(TEARDOWN, verdict, begun.elapsed())
}

async fn nobody_left(world: &World) -> Result<()> {
    let left = world.pods_left().await?;
    if !left.is_empty() {
        bail!("pods of the run are left, so the plugin stays: {}", left.join(", "));
    }
    Ok(())
}

async fn bounded(what: &str, step: impl Future<Output = Result<()>>) -> Result<()> {
    let ended = tokio::time::timeout(STEP, step).await;
    ended.unwrap_or_else(|_| Err(anyhow!("{what} takes more than {} s", STEP.as_secs())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api_server::{ApiServer, list};
    use crate::plugin::Plugin;

    /// Answers the calls of a teardown in which nothing of the run is left but a namespace with these pods.
    async fn serve(server: &ApiServer, pods: &[Value]) {
        for path in ["/api/v1/namespaces", "/api/v1/persistentvolumes", "/api/v1/persistentvolumes"] {
            server.expect("GET", path).await.answer(200, &list("List", &[]));
        }
        let classes = server.expect("GET", "/apis/storage.k8s.io/v1/storageclasses").await;
        classes.answer(200, &list("List", &[]));
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "e2e" } });
        server.expect("GET", "/api/v1/namespaces").await.answer(200, &list("NamespaceList", &[namespace]));
        let own = server.expect("GET", "/api/v1/namespaces/e2e/pods").await;
        own.answer(200, &list("PodList", pods));
    }

    #[tokio::test]
    async fn the_plugin_stays_as_long_as_pods_of_the_run_are_left() {
        let server = ApiServer::new();
        let world = World { client: server.client(), namespace: "e2e".into(), run: "r1".into() };
        let made = Made { plugin: Some(Plugin::for_tests(server.client())), ..Made::default() };
        let pods = [json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "stuck" } })];
        let (row, ()) = tokio::join!(take_away(&world, &made), serve(&server, &pods));
        let Verdict::Failed(why) = row.verdict else { panic!("{:?}", row.verdict) };
        assert_eq!(why, "pods of the run are left, so the plugin stays: stuck");
        server.nothing_more();
    }

    #[tokio::test]
    async fn a_plugin_that_was_there_before_loses_the_mark_of_the_run() {
        let server = ApiServer::new();
        let world = World { client: server.client(), namespace: "e2e".into(), run: "r1".into() };
        let made = Made { plugin: Some(Plugin::for_tests(server.client())), ..Made::default() };
        let (row, ()) = tokio::join!(take_away(&world, &made), async {
            serve(&server, &[]).await;
            let daemonset = "/apis/apps/v1/namespaces/system/daemonsets/stowage-node";
            let call = server.expect("PATCH", daemonset).await;
            let annotations = &call.body()["spec"]["template"]["metadata"]["annotations"];
            assert_eq!(*annotations, json!({ "stowage.dev/e2e-rolled": null }));
            call.answer(200, &json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {} }));
            server.expect("GET", "/api/v1/namespaces").await.answer(200, &list("List", &[]));
        });
        assert_eq!(row.verdict, Verdict::Passed);
        server.nothing_more();
    }
}
