//! What a pod's owner sees of a volume in `kubectl describe pod`, and what the node does for itself in a cluster.

use std::time::{Duration, Instant};

use serde_json::Value;
use stowage_testkit::ApiServer;
use stowage_testkit::kubelet::{Pod, PublishRequest};
use stowage_testkit::registry::Registry;
use tonic::Code;

use super::{Model, code, publication, publish};
use crate::harness::{Node, scene, until};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 12 * MIB;
/// Bytes a second at which a pull takes longer than the first figures.
const SLOW: u64 = SIZE / 30;

/// The attributes of a volume.
type Attributes<'a> = &'a [(&'a str, &'a str)];

/// The event of a pod for a reason, once it is there.
async fn event(api: &ApiServer, pod: &Pod, reason: &str) -> Value {
    let find = || api.events_of(&pod.uid).into_iter().find(|event| event["reason"] == reason);
    until(&format!("{reason} for {}: {:#?}", pod.name, api.calls()), || find().is_some()).await;
    find().unwrap()
}

fn message(event: &Value) -> &str {
    event["message"].as_str().unwrap()
}

fn reasons(api: &ApiServer, pod: &Pod) -> Vec<String> {
    let events = api.events_of(&pod.uid);
    let mut reasons: Vec<_> =
        events.iter().map(|event| event["reason"].as_str().unwrap().to_owned()).collect();
    reasons.sort();
    reasons
}

#[test]
fn a_slow_pull_is_told_from_its_first_byte_to_the_mount_though_no_call_lasts_that_long() {
    scene(async |scene| {
        let (registry, api) = (scene.registry().await, ApiServer::start().await.unwrap());
        let model = Model::push(&registry, "team/model", "v1", 1, SIZE);
        let builder = scene.node().registry(&registry).kubernetes(&api);
        let node = builder.publish_wait(1).one_connection().start().await;
        let pod = Pod::new("team", "web-0");
        let request = node.plugin().inline(&pod, "model", &model.attributes());
        registry.set_rate(Some(SLOW));

        assert_eq!(code(node.plugin().publish(&request).await), Code::DeadlineExceeded);
        let pulling = event(&api, &pod, "ArtifactPulling").await;
        assert_eq!(message(&pulling), format!("pulling {}: 12.0 MiB of 12.0 MiB", model.reference));
        let about = &pulling["involvedObject"];
        assert_eq!((&about["kind"], &about["name"]), (&Value::from("Pod"), &Value::from("web-0")));
        assert_eq!(about["fieldPath"], "spec.volumes{model}");
        assert_eq!((&pulling["type"], &pulling["count"]), (&Value::from("Normal"), &Value::from(1)));
        assert_eq!(pulling["source"]["host"], "node-1");

        // No call is waiting any more.
        let progress = event(&api, &pod, "ArtifactProgress").await;
        let line = message(&progress);
        for part in [&model.reference, "MiB of 12.0 MiB (", " %), ", "/s, about ", " s left"] {
            assert!(line.contains(part), "no {part} in: {line}");
        }
        registry.set_rate(None);
        publish(&node, &request).await;
        let pulled = event(&api, &pod, "ArtifactPulled").await;
        let line = message(&pulled);
        assert!(line.starts_with(&format!("pulled 12.0 MiB of {} in ", model.reference)), "{line}");
        assert!(line.ends_with("/s)"), "{line}");
        let mounted = event(&api, &pod, "ArtifactMounted").await;
        let digest = registry.resolve("team/model", "v1").unwrap();
        assert_eq!(message(&mounted), format!("mounted {}, digest {digest}", model.reference));

        // Kubelet asks again after its restart: nothing has happened, so nothing is told. Another pod's events, which are
        // written in their order, show that nothing more will come.
        publish(&node, &request).await;
        let other = Pod::new("team", "web-1");
        let cached = node.plugin().inline(&other, "model", &model.attributes());
        publish(&node, &cached).await;
        event(&api, &other, "ArtifactMounted").await;
        let pulled = event(&api, &other, "ArtifactPulled").await;
        let already = format!("{} is on the node already (12.0 MiB), nothing was fetched", model.reference);
        assert_eq!(message(&pulled), already);
        assert_eq!(reasons(&api, &other), ["ArtifactMounted", "ArtifactPulled"]);
        assert!(api.events_of(&pod.uid).iter().all(|event| event["count"] == 1));
        assert!(node.count("stowage_events_total{result=\"written\"}").await >= 6);
    });
}

/// Publishes once, in vain; the event is for this pod and says what the call was answered.
async fn refused(node: &Node, api: &ApiServer, pod: &Pod, request: &PublishRequest, reason: &str) {
    let status = node.plugin().publish(request).await.unwrap_err();
    let event = event(api, pod, reason).await;
    assert_eq!(message(&event), status.message());
    assert_eq!(event["type"], "Warning");
    assert_eq!(reasons(api, pod), [reason], "{status}");
    node.plugin().unpublish(&publication(request)).await.unwrap();
}

#[test]
fn a_volume_that_cannot_be_has_an_event_with_the_sentence_of_the_answer() {
    scene(async |scene| {
        let registry = Registry::builder().basic("ada", "right").start().await.unwrap();
        let api = ApiServer::start().await.unwrap();
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let large = Model::push(&registry, "team/large", "v1", 2, 8 * MIB);
        let builder = scene.node().registry(&registry).kubernetes(&api);
        let node = builder.arg("--max-bytes", (4 * MIB).to_string()).start().await;
        let missing = registry.reference("team/model", "v2");
        let bad = [("reference", model.reference.as_str()), ("refrence", "x")];
        let cases: [(&str, &str, Attributes<'_>); 4] = [
            ("ArtifactAccessDenied", "wrong", &model.attributes()),
            ("ArtifactNotFound", "right", &[("reference", missing.as_str())]),
            ("ArtifactNoSpace", "right", &large.attributes()),
            ("ArtifactRejected", "right", &bad),
        ];
        for (reason, password, attributes) in cases {
            let pod = Pod::new("team", &reason.to_lowercase());
            let mut request = node.plugin().inline(&pod, "model", attributes);
            let secret =
                [("registry", registry.host().as_str()), ("username", "ada"), ("password", password)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()));
            request.secrets.extend(secret);
            refused(&node, &api, &pod, &request, reason).await;
        }
        registry.go_offline().await;
        let pod = Pod::new("team", "offline");
        let request = node.plugin().inline(&pod, "model", &model.attributes());
        refused(&node, &api, &pod, &request, "ArtifactPullFailed").await;
    });
}

#[test]
fn a_pull_that_goes_on_tells_what_it_fetched_itself_and_what_was_there() {
    scene(async |scene| {
        let (registry, api) = (scene.registry().await, ApiServer::start().await.unwrap());
        let model = Model::push(&registry, "team/model", "v1", 1, SIZE);
        let builder = scene.node().registry(&registry).kubernetes(&api);
        let mut node = builder.publish_wait(1).one_connection().start().await;
        let pod = Pod::new("team", "web-0");
        let request = node.plugin().inline(&pod, "model", &model.attributes());
        registry.set_rate(Some(SIZE / 6));
        assert_eq!(code(node.plugin().publish(&request).await), Code::DeadlineExceeded);
        node.fetched(SIZE / 2).await;
        node.kill9();
        registry.set_rate(None);
        node.start().await;
        publish(&node, &request).await;
        let pulled = event(&api, &pod, "ArtifactPulled").await;
        let line = message(&pulled);
        // In tenths of a MiB, each rounded by itself.
        let tenths = |text: &str| text.replace('.', "").parse::<u64>().unwrap();
        let fetched = line.strip_prefix("pulled ").and_then(|rest| rest.split_once(" MiB of ")).unwrap().0;
        let here = line.rsplit_once("; ").unwrap().1.strip_suffix(" MiB were on the node already").unwrap();
        assert!((119..=121).contains(&(tenths(fetched) + tenths(here))), "{line}");
        assert!(tenths(here) >= 40, "{line}");
    });
}

#[test]
fn a_persistent_volume_has_events_of_its_pod_without_a_name_that_the_pod_does_not_know() {
    scene(async |scene| {
        let (registry, api) = (scene.registry().await, ApiServer::start().await.unwrap());
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let node = scene.node().registry(&registry).kubernetes(&api).start().await;
        let pod = Pod::new("team", "web-0");
        let request = node.plugin().persistent(&pod, "pv-1", "handle-1", &model.attributes());
        publish(&node, &request).await;
        let mounted = event(&api, &pod, "ArtifactMounted").await;
        assert_eq!(mounted["involvedObject"].get("fieldPath"), None);
        assert_eq!(mounted["related"]["name"], "pv-1");

        // Where the driver object does not ask for pod information there is nobody to tell, and the volume is mounted.
        let mut anonymous =
            node.plugin().persistent(&Pod::new("team", "web-1"), "pv-1", "handle-1", &model.attributes());
        anonymous.volume_context.retain(|key, _| !key.starts_with("csi.storage.k8s.io/"));
        publish(&node, &anonymous).await;
        // Events are written in their order: with the third pod's, the second's would be there.
        let third = Pod::new("team", "web-2");
        publish(&node, &node.plugin().persistent(&third, "pv-1", "handle-1", &model.attributes())).await;
        event(&api, &third, "ArtifactMounted").await;
        let created = api.calls().iter().filter(|call| call.starts_with("POST")).count();
        let told = reasons(&api, &pod).len() + reasons(&api, &third).len();
        assert_eq!((created, told), (5, 5), "{:#?}", api.calls());
    });
}

#[test]
fn volumes_are_mounted_whatever_the_api_server_does() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let mut api = Some(ApiServer::start().await.unwrap());
        let mut node = scene.node().registry(&registry).kubernetes(api.as_ref().unwrap()).build();
        // It takes every call and answers none, then there is nobody; at last there is no word of how to find one.
        for state in ["silent", "gone", "unknown"] {
            match state {
                "silent" => api.as_ref().unwrap().set_silent(true),
                "gone" => drop(api.take()),
                _ => std::fs::write(scene.root().join("kubeconfig"), "{}").unwrap(),
            }
            node.start().await;
            let request = node.plugin().inline(&Pod::new("team", state), "model", &model.attributes());
            let started = Instant::now();
            let volume = node.plugin().publish(&request).await.unwrap();
            assert!(started.elapsed() < Duration::from_secs(8), "{state}: {:?}", started.elapsed());
            node.plugin().unpublish(&volume).await.unwrap();
            match state {
                "silent" => {
                    until("an event was sent", || !api.as_ref().unwrap().calls().is_empty()).await;
                }
                "gone" => {
                    node.until_count("stowage_events_total{result=\"failed\"}", |count| count >= 3).await;
                    let log = node.log();
                    let warned = log.lines().filter(|line| line.contains("\"level\":\"WARN\""));
                    let about_events: Vec<_> =
                        warned.filter(|line| line.contains("cannot write a pod event")).collect();
                    assert_eq!(about_events.len(), 1, "{log}");
                }
                _ => assert!(node.log().contains("no pod events"), "{}", node.log()),
            }
            node.stop().await;
            node.nothing_left().await;
        }
    });
}

#[test]
fn the_nodes_taint_is_removed_when_kubelet_has_registered_the_plugin() {
    scene(async |scene| {
        let api = ApiServer::start().await.unwrap();
        api.put_node("node-1", &["dedicated", "stowage.dev/not-ready"]);
        api.put_node("node-2", &["stowage.dev/not-ready"]);
        let mut node = scene.node().kubernetes(&api).build();
        node.spawn();
        let started = Instant::now();
        // The store is open, and kubelet knows nothing yet.
        loop {
            let (_, readiness) = node.http("/readyz").await;
            if readiness.starts_with("registration:") {
                break;
            }
            assert!(started.elapsed() < crate::harness::LIMIT, "{readiness}\n{}", node.log());
        }
        assert_eq!(api.taints("node-1"), ["dedicated", "stowage.dev/not-ready"]);
        assert!(node.registered().await, "{}", node.log());
        until("the taint is gone", || api.taints("node-1") == ["dedicated"]).await;
        assert_eq!(api.taints("node-2"), ["stowage.dev/not-ready"], "another node's is not ours");
        assert_eq!(api.calls(), ["GET /api/v1/nodes/node-1", "PATCH /api/v1/nodes/node-1"]);
        node.stop().await;
    });
}
