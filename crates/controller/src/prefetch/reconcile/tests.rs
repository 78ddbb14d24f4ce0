//! Steps against an API server that is written down call by call, and a registry that answers.

use http::Method;
use serde_json::{Value, json};
use stowage_artifact::Digest;
use stowage_registry::{Backoff, PlainHttp, RegistryOptions};
use stowage_testkit::{BlobData, Registry, artifacts};

use super::*;
use crate::api_server::{ApiServer, pair};
use crate::names::digest_label;
use crate::resolve::{Policy, Resolver};

const SET: &str = "/apis/apps/v1/namespaces/team/daemonsets/stowage-prefetch-llama";
const PODS: &str = "/api/v1/namespaces/team/pods";
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

fn pod(uid: &str, node: &str, digest: &Digest, ready: bool) -> Value {
    json!({
        "metadata": { "name": uid, "uid": uid, "labels": { "stowage.dev/digest": digest_label(digest.as_str()) } },
        "spec": { "nodeName": node, "containers": [] },
        "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
    })
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": {}, "items": items })
}

/// Takes one step with a client that nobody else has.
struct Stepped(tokio::task::JoinHandle<Result<Action, ReconcileError>>);

impl Stepped {
    fn start(object: Value, secret_namespaces: &[&str]) -> (Self, ApiServer) {
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
        let context = Arc::new(Context { options, metrics: ControllerMetrics::new() });
        let artifact = Arc::new(serde_json::from_value(object).unwrap());
        (Self(tokio::spawn(async move { reconcile(artifact, context).await })), server)
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
    let pods = server.answer(Method::GET, PODS, 200, list("PodList", &[])).await;
    assert!(pods.query.contains("stowage.dev/cached-artifact=llama"), "{}", pods.query);
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
    assert_eq!(pod["nodeSelector"], json!({ "gpu": "yes" }));
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
    assert_eq!(csi["volumeAttributes"]["reference"], registry.pinned("models/llama", &digest));
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
    server.answer(Method::GET, PODS, 200, list("PodList", &[])).await;
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
    let pods = list("PodList", &[pod("1", "n1", &digest, true), pod("2", "n2", &digest, true)]);
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set.clone()).await;
    server.answer(Method::GET, PODS, 200, pods.clone()).await;
    let (status, reasons) = told(&mut server, &object, 1).await;
    step.end(server).await.unwrap();
    assert_eq!(status["nodes"], json!({ "desired": 2, "updated": 2, "ready": 2, "failed": 0 }));
    assert_eq!(condition(&status, "Cached")["status"], "True");
    assert_eq!(reasons, ["Normal Cached"]);

    let mut object = object;
    object["status"] = status;
    let (step, mut server) = Stepped::start(object, &[]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set).await;
    server.answer(Method::GET, PODS, 200, pods).await;
    let action = step.end(server).await.unwrap();
    assert_eq!(action, Action::requeue(SELDOM));
    assert_eq!(registry.traffic().requests().len(), 0, "the registry was asked again");
}

#[tokio::test]
async fn why_nodes_do_not_have_it_comes_from_the_events_of_their_pods() {
    let (registry, digest) = registry().await;
    let (object, wanted) = settled(&registry, &digest).await;
    let set = set(&wanted, 3, 1);
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set).await;
    let pods =
        [pod("1", "n1", &digest, true), pod("2", "n2", &digest, false), pod("3", "n3", &digest, false)];
    server.answer(Method::GET, PODS, 200, list("PodList", &pods)).await;
    let event = json!({
        "metadata": { "name": "e" }, "involvedObject": { "kind": "Pod", "uid": "2" }, "type": "Warning",
        "reason": "ArtifactNoSpace", "message": "cannot pull r: 9 bytes needed, 1 free",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    let events = server.answer(Method::GET, EVENTS, 200, list("EventList", &[event])).await;
    assert!(events.query.contains("involvedObject.kind=Pod,type=Warning"), "{}", events.query);
    let (status, reasons) = told(&mut server, &object, 1).await;
    assert_eq!(step.end(server).await.unwrap(), Action::requeue(LOOK_AGAIN));
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
    assert_eq!(step.end(server).await.unwrap(), Action::requeue(ASK_AGAIN));
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
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    let apply = server.answer(Method::PATCH, SET, 200, set).await;
    server.answer(Method::GET, PODS, 200, list("PodList", &[pod("1", "n1", &digest, true)])).await;
    let (status, reasons) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    let attributes = &apply.body["spec"]["template"]["spec"]["volumes"][0]["csi"]["volumeAttributes"];
    assert_eq!(attributes["reference"], registry.pinned("models/llama", &digest));
    let resolved = condition(&status, "Resolved");
    assert_eq!((&resolved["status"], &resolved["reason"]), (&json!("False"), &json!("NotFound")));
    assert!(resolved["message"].as_str().unwrap().contains(&digest.to_string()), "{resolved}");
    assert_eq!(condition(&status, "Cached")["status"], "True");
    assert_eq!(reasons, ["Warning NotFound", "Normal Cached"]);
}

/// A registry that lets nobody in without the password.
async fn private() -> (Registry, Digest) {
    fill(Registry::builder().basic("robot", "hunter2").start().await.unwrap())
}

fn with_secret(reference: &str) -> Value {
    json!({ "volumeAttributes": { "reference": reference }, "pullSecretRef": { "name": "pull" } })
}

#[tokio::test]
async fn a_private_tag_wants_a_secret_that_the_controller_may_read() {
    let (registry, digest) = private().await;
    let spec = with_secret(&registry.reference("models/llama", "v1"));
    let object = object(spec, None);
    let (step, mut server) = Stepped::start(object.clone(), &["other"]);
    let (status, reasons) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    assert_eq!(condition(&status, "Resolved")["reason"], "SecretAccessDenied");
    assert_eq!(reasons[0], "Warning SecretAccessDenied");

    let config = json!({ "auths": { registry.host(): { "username": "robot", "password": "hunter2" } } });
    let secret = json!({
        "metadata": { "name": "pull" },
        "data": { ".dockerconfigjson": base64_of(&config.to_string()) },
    });
    let (step, mut server) = Stepped::start(object.clone(), &["team"]);
    server.answer(Method::GET, SECRET, 200, secret).await;
    server.absent(Method::GET, SET).await;
    server.answer(Method::PATCH, SET, 200, json!({ "metadata": { "generation": 1 } })).await;
    server.answer(Method::GET, PODS, 200, list("PodList", &[])).await;
    let (status, _) = told(&mut server, &object, 1).await;
    step.end(server).await.unwrap();
    assert_eq!(status["resolvedDigest"], digest.to_string());
    assert!(!status.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_private_digest_goes_on_without_the_secret() {
    let (registry, digest) = private().await;
    let pinned = registry.pinned("models/llama", &digest);
    let object = object(with_secret(&pinned), None);
    // Listed, and the RoleBinding is missing.
    let (step, mut server) = Stepped::start(object.clone(), &["team"]);
    server.refuse(Method::GET, SECRET, 403, "Forbidden").await;
    server.absent(Method::GET, SET).await;
    let apply = server.answer(Method::PATCH, SET, 200, json!({ "metadata": { "generation": 1 } })).await;
    server.answer(Method::GET, PODS, 200, list("PodList", &[])).await;
    let (status, _) = told(&mut server, &object, 1).await;
    step.end(server).await.unwrap();
    assert_eq!(condition(&status, "Resolved")["reason"], "DigestGiven");
    assert_eq!((&status["resolvedReference"], &status["sizeBytes"]), (&json!(pinned), &Value::Null));
    let csi = &apply.body["spec"]["template"]["spec"]["volumes"][0]["csi"];
    assert_eq!(csi["nodePublishSecretRef"]["name"], "pull");
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named() {
    let (registry, _) = registry().await;
    let object = object(with_secret(&registry.reference("models/llama", "v1")), None);
    let (step, mut server) = Stepped::start(object.clone(), &["team"]);
    server.absent(Method::GET, SECRET).await;
    let (status, _) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    let resolved = condition(&status, "Resolved");
    assert_eq!(resolved["reason"], "SecretNotFound");
    assert!(resolved["message"].as_str().unwrap().contains("secret pull"), "{resolved}");
}

#[tokio::test]
async fn a_daemon_set_of_somebody_else_is_left_alone() {
    let (registry, _) = registry().await;
    let object = object(spec_of(&registry.reference("models/llama", "v1")), None);
    let foreign = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "v1", "kind": "X", "name": "x", "uid": "another" },
    ] } });
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    server.answer(Method::GET, SET, 200, foreign).await;
    let (status, reasons) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    assert_eq!(condition(&status, "Cached")["reason"], "NameTaken");
    assert_eq!(reasons, ["Normal Resolved", "Warning NameTaken"]);
}

#[tokio::test]
async fn a_spec_that_is_none_is_told_and_not_tried_again() {
    let object = object(json!({ "volumeAttributes": { "refrence": "x" } }), None);
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    let (status, _) = told(&mut server, &object, 1).await;
    assert_eq!(step.end(server).await.unwrap(), Action::await_change());
    let resolved = condition(&status, "Resolved");
    assert_eq!(resolved["reason"], "InvalidSpec");
    assert!(resolved["message"].as_str().unwrap().contains("refrence"), "{resolved}");
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
    let ready = list("PodList", &[pod("1", "n1", &digest, true)]);
    for (online, size) in [(true, json!(SIZE)), (false, Value::Null)] {
        if !online {
            registry.go_offline().await;
        }
        let (step, mut server) = Stepped::start(object.clone(), &[]);
        server.answer(Method::GET, SET, 200, set.clone()).await;
        server.answer(Method::PATCH, SET, 200, set.clone()).await;
        server.answer(Method::GET, PODS, 200, ready.clone()).await;
        let (status, reasons) = told(&mut server, &object, 1).await;
        step.end(server).await.unwrap();
        assert_eq!((&status["resolvedDigest"], &status["sizeBytes"]), (&json!(digest.to_string()), &size));
        assert_eq!(
            (&status["observedGeneration"], &condition(&status, "Resolved")["status"]),
            (&json!(3), &json!("True"))
        );
        assert_eq!(reasons, ["Normal Cached"]);
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
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    let apply = server.answer(Method::PATCH, SET, 200, set).await;
    server.answer(Method::GET, PODS, 200, list("PodList", &[pod("1", "n1", &digest, true)])).await;
    let (status, reasons) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    let attributes = &apply.body["spec"]["template"]["spec"]["volumes"][0]["csi"]["volumeAttributes"];
    assert_eq!(attributes["reference"], registry.pinned("models/llama", &moved));
    assert_eq!(status["resolvedDigest"], moved.to_string());
    assert_eq!(status["nodes"]["ready"], 0, "the old digest does not count");
    assert_eq!(reasons, ["Normal Resolved", "Normal Pulling"]);
}

fn base64_of(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec()))
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}
