//! Steps against an API server that is written down call by call, and a registry that answers.

mod asking;
mod refusals;
mod secrets;

use http::Method;
use kube::runtime::{reflector, watcher};
use serde_json::{Value, json};
use stowage_artifact::Digest;
use stowage_registry::{Backoff, PlainHttp, RegistryOptions};
use stowage_testkit::{BlobData, Registry, artifacts};

use super::*;
use crate::Policy;
use crate::api_server::{ApiServer, pair};
use crate::resolve::Resolver;

const SET: &str = "/apis/apps/v1/namespaces/team/daemonsets/stowage-prefetch-llama";
const EVENTS: &str = "/api/v1/namespaces/team/events";
const STATUS: &str = "/apis/stowage.dev/v1alpha1/namespaces/team/cachedartifacts/llama/status";
const SECRET: &str = "/api/v1/namespaces/team/secrets/pull";
const SIZE: u64 = 100_000;

/// A registry with one artifact.
async fn registry() -> (Registry, Digest) {
    fill(Registry::builder().start().await.unwrap())
}

fn fill(registry: Registry) -> (Registry, Digest) {
    let artifact = artifacts::oras_files([("model.gguf", BlobData::generated(1, SIZE))]).build().unwrap();
    let digest = registry.push("models/llama", Some("v1"), &artifact);
    (registry, digest)
}

/// An object as the API server hands it out.
#[expect(clippy::needless_pass_by_value, reason = "both are made for the call")]
fn object(spec: Value, status: Option<Value>) -> Value {
    json!({
        "apiVersion": "stowage.dev/v1alpha1", "kind": "CachedArtifact",
        "metadata": { "name": "llama", "namespace": "team", "uid": "u-1", "generation": 2, "resourceVersion": "7" },
        "spec": spec,
        "status": status,
    })
}

/// The reference of the pods' volumes.
fn tagged(registry: &Registry, digest: &Digest) -> String {
    format!("{}@{digest}", registry.reference("models/llama", "v1"))
}

fn spec_of(reference: &str) -> Value {
    json!({ "volumeAttributes": { "reference": reference, "include": "*.gguf" } })
}

/// The DaemonSet after its controller has looked at it.
fn set(wanted: &Value, desired: u32, ready: u32) -> Value {
    let mut set = wanted.clone();
    set["metadata"]["generation"] = json!(1);
    set["status"] = json!({
        "observedGeneration": 1, "desiredNumberScheduled": desired, "updatedNumberScheduled": desired,
        "currentNumberScheduled": desired, "numberMisscheduled": 0, "numberReady": ready,
    });
    set
}

/// The label of the pods that this DaemonSet makes.
fn volume_of(set: &Value) -> String {
    set["spec"]["template"]["metadata"]["labels"]["stowage.dev/volume"].as_str().unwrap().to_owned()
}

fn pod(uid: &str, node: &str, volume: &str, ready: bool) -> Value {
    json!({
        "metadata": {
            "name": uid, "namespace": "team", "uid": uid,
            "labels": { "stowage.dev/cached-artifact": "llama", "stowage.dev/volume": volume },
        },
        "spec": { "nodeName": node, "containers": [] },
        "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
    })
}

/// A watch that has seen these pods.
fn watched(pods: &[Value]) -> Store<Pod> {
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    for pod in pods {
        let pod = serde_json::from_value(pod.clone()).unwrap();
        writer.apply_watcher_event(&watcher::Event::InitApply(pod));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    store
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": {}, "items": items })
}

/// What steps need, with a client that nobody else has.
fn context(secret_namespaces: &[&str], pods: &[Value]) -> (Context, ApiServer) {
    let (client, server) = pair();
    let options = RegistryOptions {
        plain_http: PlainHttp { loopback: true, hosts: Vec::new() },
        tries: 2,
        backoff: Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(2) },
        ..RegistryOptions::default()
    };
    let registry = stowage_registry::Registry::new(options).unwrap();
    let options = PrefetchOptions {
        client,
        resolver: Resolver::new(registry, Policy::default()),
        driver_name: "csi.stowage.dev".to_owned(),
        image: "ghcr.io/stowage-dev/stowage:test".to_owned(),
        secret_namespaces: secret_namespaces.iter().map(|name| (*name).to_owned()).collect(),
    };
    (Context::new(options, ControllerMetrics::new(), watched(pods)), server)
}

/// A step on its way.
struct Stepped(tokio::task::JoinHandle<Result<Action, ReconcileError>>);

impl Stepped {
    /// The only step of a controller that sees no pods.
    fn start(object: Value, secret_namespaces: &[&str]) -> (Self, ApiServer) {
        let (context, server) = context(secret_namespaces, &[]);
        (Self::with(object, &Arc::new(context)), server)
    }

    /// The only step of a controller that sees these pods.
    fn among(object: Value, pods: &[Value]) -> (Self, ApiServer) {
        let (context, server) = context(&[], pods);
        (Self::with(object, &Arc::new(context)), server)
    }

    /// One step of several.
    fn with(object: Value, context: &Arc<Context>) -> Self {
        let (artifact, context) = (Arc::new(serde_json::from_value(object).unwrap()), Arc::clone(context));
        Self(tokio::spawn(async move { reconcile(artifact, context).await }))
    }

    /// The step has ended, and has asked for nothing more.
    async fn end(self, server: ApiServer) -> Result<Action, ReconcileError> {
        let action = self.0.await.unwrap();
        server.done().await;
        action
    }
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Answers the status and the events that follow; gives the status and the reasons.
async fn told(server: &mut ApiServer, object: &Value, events: usize) -> (Value, Vec<String>) {
    let patched = server.answer(Method::PATCH, STATUS, 200, object.clone()).await;
    assert!(
        patched.query.contains("force=true") && patched.query.contains("fieldManager=stowage-controller")
    );
    let mut reasons = Vec::new();
    for _ in 0..events {
        let event =
            server.answer(Method::POST, EVENTS, 201, json!({ "metadata": {}, "involvedObject": {} })).await;
        assert_eq!(event.body["involvedObject"]["uid"], "u-1");
        reasons.push(format!(
            "{} {}",
            event.body["type"].as_str().unwrap(),
            event.body["reason"].as_str().unwrap()
        ));
    }
    (patched.body["status"].clone(), reasons)
}

#[tokio::test]
async fn a_new_object_gets_a_daemon_set_that_is_pinned_and_restricted() {
    let (registry, digest) = registry().await;
    let reference = registry.reference("models/llama", "v1");
    let object = object(
        json!({
            "volumeAttributes": { "reference": reference, "include": "*.gguf" },
            "pullSecretRef": { "name": "pull" },
            "nodeSelector": { "gpu": "yes" },
            "tolerations": [{ "key": "gpu", "operator": "Exists" }],
            "maxConcurrentNodes": 3,
        }),
        None,
    );
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    server.absent(Method::GET, SET).await;
    let apply = server.answer(Method::PATCH, SET, 200, json!({ "metadata": { "generation": 1 } })).await;
    assert!(apply.query.contains("force=true") && apply.query.contains("fieldManager=stowage-controller"));
    let (status, reasons) = told(&mut server, &object, 1).await;
    step.end(server).await.unwrap();

    let set = apply.body;
    assert_eq!((&set["kind"], &set["apiVersion"]), (&json!("DaemonSet"), &json!("apps/v1")));
    let owner = &set["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&json!("u-1"), &json!(true)));
    let strategy = &set["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(strategy, &json!({ "maxSurge": 3, "maxUnavailable": 0 }));
    let template = &set["spec"]["template"];
    for (key, value) in set["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&template["metadata"]["labels"][key], value, "the selector finds the pods");
    }
    let pod = &template["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["terminationGracePeriodSeconds"], 1);
    assert_eq!(pod["nodeSelector"], json!({ "gpu": "yes", "kubernetes.io/os": "linux" }));
    assert_eq!(pod["tolerations"][0]["key"], "gpu");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    assert_eq!(container["args"], json!(["pause"]));
    assert_eq!(container["image"], "ghcr.io/stowage-dev/stowage:test");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["volumeMounts"][0]["name"], pod["volumes"][0]["name"]);
    let csi = &pod["volumes"][0]["csi"];
    assert_eq!((&csi["driver"], &csi["readOnly"]), (&json!("csi.stowage.dev"), &json!(true)));
    assert_eq!(csi["nodePublishSecretRef"]["name"], "pull");
    // With the tag that was asked for: a node may answer for it, once its registry has confirmed it.
    assert_eq!(csi["volumeAttributes"]["reference"], tagged(&registry, &digest));
    assert_eq!(csi["volumeAttributes"]["include"], "*.gguf");

    assert_eq!(status["observedGeneration"], 2);
    assert_eq!(status["requestedReference"], reference);
    assert_eq!(status["resolvedReference"], registry.pinned("models/llama", &digest));
    assert_eq!(status["resolvedDigest"], digest.to_string());
    assert_eq!(status["sizeBytes"], SIZE);
    assert_eq!(condition(&status, "Resolved")["status"], "True");
    assert_eq!(condition(&status, "Cached")["reason"], "Pending");
    assert_eq!(reasons, ["Normal Resolved"], "what is pending is no news");
}

/// The status after an object was resolved and its set applied, as [`Stepped`] writes it.
async fn settled(registry: &Registry, digest: &Digest) -> (Value, Value) {
    let spec = spec_of(&registry.reference("models/llama", "v1"));
    let (step, mut server) = Stepped::start(object(spec.clone(), None), &[]);
    server.absent(Method::GET, SET).await;
    let wanted =
        server.answer(Method::PATCH, SET, 200, json!({ "metadata": { "generation": 1 } })).await.body;
    let (status, _) = told(&mut server, &object(spec.clone(), None), 1).await;
    step.end(server).await.unwrap();
    assert_eq!(status["resolvedDigest"], digest.to_string());
    (object(spec, Some(status)), wanted)
}

#[tokio::test]
async fn it_is_cached_when_all_nodes_are_ready_and_then_nothing_is_written() {
    let (registry, digest) = registry().await;
    let (object, wanted) = settled(&registry, &digest).await;
    registry.traffic().reset();
    let set = set(&wanted, 2, 2);
    let volume = volume_of(&wanted);
    let pods = [pod("1", "n1", &volume, true), pod("2", "n2", &volume, true)];
    let (step, mut server) = Stepped::among(object.clone(), &pods);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set.clone()).await;
    let (status, reasons) = told(&mut server, &object, 1).await;
    step.end(server).await.unwrap();
    assert_eq!(status["nodes"], json!({ "desired": 2, "updated": 2, "ready": 2, "failed": 0 }));
    assert_eq!(condition(&status, "Cached")["status"], "True");
    assert_eq!(reasons, ["Normal Cached"]);

    let mut object = object;
    object["status"] = status;
    let (step, mut server) = Stepped::among(object, &pods);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set).await;
    let action = step.end(server).await.unwrap();
    assert_eq!(action, Action::requeue(SELDOM));
    assert_eq!(registry.traffic().requests().len(), 0, "the registry was asked again");
}

#[tokio::test]
async fn why_nodes_do_not_have_it_comes_from_the_events_of_their_pods() {
    let (registry, digest) = registry().await;
    let (object, wanted) = settled(&registry, &digest).await;
    let set = set(&wanted, 3, 1);
    let volume = volume_of(&wanted);
    let pods =
        [pod("1", "n1", &volume, true), pod("2", "n2", &volume, false), pod("3", "n3", &volume, false)];
    let (step, mut server) = Stepped::among(object.clone(), &pods);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set).await;
    let event = json!({
        "metadata": { "name": "e" }, "involvedObject": { "kind": "Pod", "uid": "2" }, "type": "Warning",
        "reason": "ArtifactNoSpace", "message": "cannot pull r: 9 bytes needed, 1 free",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    let mut first = list("EventList", &[]);
    first["metadata"]["continue"] = json!("page-2");
    let ours = server.answer(Method::GET, EVENTS, 200, first).await;
    assert!(ours.query.contains("involvedObject.kind=Pod,source=stowage"), "{}", ours.query);
    let next = server.answer(Method::GET, EVENTS, 200, list("EventList", &[event])).await;
    assert!(next.query.contains("continue=page-2"), "{}", next.query);
    // Of the pod on n3 the plugin has said nothing.
    let kubelets = server.answer(Method::GET, EVENTS, 200, list("EventList", &[])).await;
    assert!(kubelets.query.contains("involvedObject.kind=Pod,reason=FailedMount"), "{}", kubelets.query);
    let (status, reasons) = told(&mut server, &object, 1).await;
    assert_eq!(step.end(server).await.unwrap(), Action::requeue(LOOK_AGAIN[0]));
    assert_eq!(status["nodes"], json!({ "desired": 3, "updated": 3, "ready": 1, "failed": 1 }));
    let failure = json!({ "node": "n2", "reason": "ArtifactNoSpace", "message": "cannot pull r: 9 bytes needed, 1 free" });
    assert_eq!(status["failures"], json!([failure]));
    assert_eq!(condition(&status, "Cached")["reason"], "PullFailing");
    assert_eq!(reasons, ["Warning PullFailing"]);
}

#[tokio::test]
async fn a_tag_that_is_not_there_makes_no_daemon_set() {
    let (registry, _) = registry().await;
    let object = object(spec_of(&registry.reference("models/llama", "v9")), None);
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    let (status, reasons) = told(&mut server, &object, 2).await;
    assert_eq!(step.end(server).await.unwrap(), Action::requeue(ASK_AGAIN[0]));
    assert_eq!(condition(&status, "Resolved")["reason"], "NotFound");
    assert_eq!(condition(&status, "Cached")["reason"], "NotResolved");
    assert_eq!(status["resolvedDigest"], Value::Null);
    assert_eq!(reasons, ["Warning NotFound", "Warning NotResolved"]);
}

#[tokio::test]
async fn nodes_keep_what_they_have_while_the_registry_does_not_answer() {
    let (registry, digest) = registry().await;
    let (mut object, wanted) = settled(&registry, &digest).await;
    object["spec"]["volumeAttributes"]["reference"] = json!(registry.reference("models/llama", "v9"));
    let set = set(&wanted, 1, 1);
    let (step, mut server) = Stepped::among(object.clone(), &[pod("1", "n1", &volume_of(&wanted), true)]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    let apply = server.answer(Method::PATCH, SET, 200, set).await;
    let (status, reasons) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    let attributes = &apply.body["spec"]["template"]["spec"]["volumes"][0]["csi"]["volumeAttributes"];
    assert_eq!(attributes["reference"], tagged(&registry, &digest));
    let resolved = condition(&status, "Resolved");
    assert_eq!((&resolved["status"], &resolved["reason"]), (&json!("False"), &json!("NotFound")));
    assert!(resolved["message"].as_str().unwrap().contains(&digest.to_string()), "{resolved}");
    assert_eq!(condition(&status, "Cached")["status"], "True");
    assert_eq!(reasons, ["Warning NotFound", "Normal Cached"]);
}

#[tokio::test]
async fn an_object_that_is_deleted_is_left_to_its_owner_references() {
    let mut object = object(spec_of("r.example/a:v1"), None);
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let (step, server) = Stepped::start(object, &[]);
    assert_eq!(step.end(server).await.unwrap(), Action::await_change());
}

#[tokio::test]
async fn an_api_server_that_fails_leaves_the_status_as_it_was() {
    let (registry, _) = registry().await;
    let object = object(spec_of(&registry.reference("models/llama", "v1")), None);
    let (step, mut server) = Stepped::start(object, &[]);
    server.refuse(Method::GET, SET, 500, "InternalError").await;
    let error = step.end(server).await.unwrap_err().to_string();
    assert!(error.contains("read the DaemonSet of team/llama"), "{error}");
}

#[tokio::test]
async fn a_change_of_the_object_does_not_move_a_tag_that_was_resolved_for_good() {
    let (registry, digest) = registry().await;
    let (mut object, wanted) = settled(&registry, &digest).await;
    let newer = artifacts::oras_files([("model.gguf", BlobData::generated(2, SIZE))]).build().unwrap();
    registry.push("models/llama", Some("v1"), &newer);
    object["metadata"]["generation"] = json!(3);
    object["spec"]["volumeAttributes"]["exclude"] = json!("*.md");
    let set = set(&wanted, 1, 1);
    for (online, size) in [(true, json!(SIZE)), (false, Value::Null)] {
        if !online {
            registry.go_offline().await;
        }
        // What is there is the old volume, of the same digest.
        let (step, mut server) = Stepped::among(object.clone(), &[pod("1", "n1", &volume_of(&wanted), true)]);
        server.answer(Method::GET, SET, 200, set.clone()).await;
        let applied = server.answer(Method::PATCH, SET, 200, set.clone()).await.body;
        assert_ne!(volume_of(&applied), volume_of(&wanted));
        let (status, reasons) = told(&mut server, &object, 1).await;
        step.end(server).await.unwrap();
        assert_eq!((&status["resolvedDigest"], &status["sizeBytes"]), (&json!(digest.to_string()), &size));
        assert_eq!(status["observedGeneration"], 3);
        for (kind, word) in [("Resolved", "True"), ("Cached", "False")] {
            let condition = condition(&status, kind);
            assert_eq!(
                (&condition["status"], &condition["observedGeneration"]),
                (&json!(word), &json!(3)),
                "{kind}"
            );
        }
        assert_eq!(reasons, ["Normal Pulling"]);
        assert_eq!(status["nodes"]["ready"], 0, "a node that holds the old volume does not count");
    }
}

#[tokio::test]
async fn a_tag_that_has_moved_is_followed_after_the_interval() {
    let (registry, digest) = registry().await;
    let (mut object, wanted) = settled(&registry, &digest).await;
    object["spec"]["resolveInterval"] = json!("1m");
    object["status"]["resolvedAt"] = json!("2026-01-01T00:00:00Z");
    let newer = artifacts::oras_files([("model.gguf", BlobData::generated(2, SIZE))]).build().unwrap();
    let moved = registry.push("models/llama", Some("v1"), &newer);
    let set = set(&wanted, 1, 1);
    let (step, mut server) = Stepped::among(object.clone(), &[pod("1", "n1", &volume_of(&wanted), true)]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    let apply = server.answer(Method::PATCH, SET, 200, set).await;
    let (status, reasons) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    let attributes = &apply.body["spec"]["template"]["spec"]["volumes"][0]["csi"]["volumeAttributes"];
    assert_eq!(attributes["reference"], tagged(&registry, &moved));
    assert_eq!(status["resolvedDigest"], moved.to_string());
    assert_eq!(status["nodes"]["ready"], 0, "the old digest does not count");
    assert_eq!(reasons, ["Normal Resolved", "Normal Pulling"]);
}
