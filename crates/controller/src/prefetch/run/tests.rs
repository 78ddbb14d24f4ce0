//! The whole loop against an API server that lists, and whose watches have no news.

use std::sync::Mutex;

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use stowage_registry::RegistryOptions;
use stowage_telemetry::Series as _;
use tokio::sync::watch;

use super::*;
use crate::crd::CachedArtifactSpec;
use crate::resolve::Resolver;

const STATUS: &str = "/apis/stowage.dev/v1alpha1/namespaces/team/cachedartifacts/llama/status";
const OURS: &str = "labelSelector=app.kubernetes.io/name=stowage,app.kubernetes.io/component=prefetch";

/// An object whose spec cannot be read: a step for it is one call.
fn object() -> Value {
    json!({
        "apiVersion": "stowage.dev/v1alpha1", "kind": "CachedArtifact",
        "metadata": { "name": "llama", "namespace": "team", "uid": "u-1", "generation": 1, "resourceVersion": "1" },
        "spec": { "volumeAttributes": { "refrence": "x" } },
    })
}

fn owned_set() -> Value {
    json!({ "metadata": { "name": "stowage-prefetch-llama", "namespace": "team", "ownerReferences": [{
        "apiVersion": "stowage.dev/v1alpha1", "kind": "CachedArtifact", "name": "llama", "uid": "u-1",
        "controller": true,
    }] } })
}

/// Counts the steps, and holds each `DaemonSet` back until it is told.
struct Cluster {
    lists: Mutex<Vec<String>>,
    steps: watch::Sender<usize>,
    sets: CancellationToken,
}

impl Cluster {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default());
        let query = query.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
        if query.contains("watch=true") {
            std::future::pending::<()>().await;
        }
        let list = |kind: &str, items: Value| json!({ "apiVersion": "v1", "kind": kind, "metadata": { "resourceVersion": "1" }, "items": items });
        let (status, answer) = match (request.method(), &*path) {
            (&Method::GET, "/apis/stowage.dev/v1alpha1/cachedartifacts") => {
                (200, list("CachedArtifactList", json!([object()])))
            }
            (&Method::GET, "/apis/apps/v1/daemonsets") => {
                self.note(&path, &query);
                self.sets.cancelled().await;
                (200, list("DaemonSetList", json!([owned_set()])))
            }
            (&Method::GET, "/api/v1/pods") => {
                self.note(&path, &query);
                (200, list("PodList", json!([])))
            }
            (&Method::PATCH, STATUS) => {
                self.steps.send_modify(|steps| *steps += 1);
                // The first step fails.
                if *self.steps.borrow() == 1 {
                    (
                        500,
                        json!({ "kind": "Status", "status": "Failure", "code": 500, "reason": "InternalError", "message": "x" }),
                    )
                } else {
                    (200, object())
                }
            }
            (&Method::POST, _) => (201, json!({ "metadata": {}, "involvedObject": {} })),
            other => panic!("unexpected: {other:?}"),
        };
        let bytes = serde_json::to_vec(&answer).unwrap();
        Response::builder().status(status).body(Body::from(bytes)).unwrap()
    }

    fn note(&self, path: &str, query: &str) {
        self.lists.lock().unwrap().push(format!("{path}?{query}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_is_repeated_after_a_failure_and_when_a_daemon_set_of_the_object_changes() {
    let (steps, mut stepped) = watch::channel(0);
    let cluster = Arc::new(Cluster { lists: Mutex::default(), steps, sets: CancellationToken::new() });
    let service = tower::service_fn({
        let cluster = Arc::clone(&cluster);
        move |request| {
            let cluster = Arc::clone(&cluster);
            async move { Ok::<_, std::convert::Infallible>(cluster.answer(request).await) }
        }
    });
    let registry = stowage_registry::Registry::new(RegistryOptions::default()).unwrap();
    let options = PrefetchOptions {
        client: Client::new(service, "default"),
        resolver: Resolver::new(registry, crate::Policy::default()),
        driver_name: "csi.stowage.dev".to_owned(),
        image: "x".to_owned(),
        secret_namespaces: std::collections::BTreeSet::new(),
    };
    let (metrics, stop) = (ControllerMetrics::new(), CancellationToken::new());
    let running = tokio::spawn(run(options, metrics.clone(), stop.clone()));
    let began = tokio::time::Instant::now();
    stepped.wait_for(|steps| *steps == 1).await.unwrap();
    stepped.wait_for(|steps| *steps == 2).await.unwrap();
    let pause = began.elapsed();
    assert!(pause >= RETRY && pause < RETRY * 2, "a step that failed is repeated: {pause:?}");
    assert!(metrics.text().unwrap().contains("cached_artifacts{state=\"unresolved\"} 1"));
    cluster.sets.cancel();
    stepped.wait_for(|steps| *steps == 3).await.unwrap();
    {
        let lists = cluster.lists.lock().unwrap();
        for path in ["/apis/apps/v1/daemonsets", "/api/v1/pods"] {
            let list = lists.iter().find(|list| list.starts_with(path)).unwrap();
            assert!(list.contains(OURS), "{list}");
        }
    }
    stop.cancel();
    running.await.unwrap();
    assert!(!metrics.text().unwrap().contains("cached_artifacts{"), "who does not lead says nothing");
}

#[tokio::test]
async fn work_that_is_dropped_takes_its_numbers_along() {
    let metrics = ControllerMetrics::new();
    let (store, _writer) = reflector::store();
    let exported = Exported::new(&metrics, store);
    assert!(metrics.text().unwrap().contains("cached_artifacts{"));
    drop(exported);
    assert!(!metrics.text().unwrap().contains("cached_artifacts{"));
}

#[test]
fn a_state_follows_from_what_nodes_have() {
    use status::{RESOLVED, Verdict, set};
    let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
    for (digest, resolved, cached, expected) in [
        (true, "Resolved", "Cached", "cached"),
        // A registry that is away takes nothing from nodes.
        (true, "RegistryUnavailable", "Cached", "cached"),
        (true, "RegistryUnavailable", "PullFailing", "failing"),
        (true, "Resolved", "Pulling", "pulling"),
        (true, "Resolved", "Pending", "pulling"),
        (true, "Resolved", "NoNodes", "no_nodes"),
        (true, "Resolved", "NameTaken", "blocked"),
        (true, "Resolved", "DaemonSetRefused", "blocked"),
        (true, "InvalidSpec", "NotResolved", "unresolved"),
        (false, "RegistryUnavailable", "NotResolved", "unresolved"),
    ] {
        let mut artifact = CachedArtifact::new("llama", CachedArtifactSpec::default());
        let mut status = CachedArtifactStatus {
            resolved_digest: digest.then(|| "sha256:a".to_owned()),
            ..CachedArtifactStatus::default()
        };
        let verdict = |reason| match reason {
            "Resolved" | "Cached" => Verdict::yes(reason, "x"),
            _ => Verdict::no(reason, "x"),
        };
        set(&mut status, RESOLVED, verdict(resolved), None, now);
        set(&mut status, CACHED, verdict(cached), None, now);
        artifact.status = Some(status);
        let mut numbers = ArtifactNumbers::default();
        *state(&mut numbers, artifact.status.as_ref()) += 1;
        let ArtifactNumbers { cached, pulling, failing, unresolved, no_nodes, blocked } = numbers;
        let counted = [
            ("cached", cached),
            ("pulling", pulling),
            ("failing", failing),
            ("unresolved", unresolved),
            ("no_nodes", no_nodes),
            ("blocked", blocked),
        ];
        let counted: Vec<&str> =
            counted.iter().filter(|(_, number)| *number == 1).map(|(name, _)| *name).collect();
        assert_eq!(counted, [expected]);
    }
}
