use serde_json::{Value, json};

use super::*;

fn pod(uid: &str, node: &str, label: &str, ready: &str) -> Value {
    json!({
        "metadata": { "uid": uid, "labels": { VOLUME_LABEL: label } },
        "spec": { "nodeName": node, "containers": [] },
        "status": { "conditions": [{ "type": "Ready", "status": ready }] },
    })
}

fn read(pod: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn event(uid: &str, reason: &str, message: &str, second: u32) -> Event {
    serde_json::from_value(json!({
        "metadata": {},
        "involvedObject": { "kind": "Pod", "uid": uid },
        "reason": reason,
        "message": message,
        "lastTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
    }))
    .unwrap()
}

fn set(status: &Value) -> DaemonSet {
    serde_json::from_value(json!({ "metadata": { "generation": 2 }, "status": status })).unwrap()
}

/// Node, reason and message of each failure of these pods, which all wait.
fn failures_of(pods: &[Arc<Pod>], ours: &[Event], kubelets: &[Event]) -> Vec<(String, String, String)> {
    let waiting: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
    let failures = failures(&waiting, ours, kubelets).into_iter();
    failures.map(|failure| (failure.node, failure.reason, failure.message)).collect()
}

fn owned(words: (&str, &str, &str)) -> (String, String, String) {
    (words.0.to_owned(), words.1.to_owned(), words.2.to_owned())
}

#[test]
fn only_ready_pods_of_the_wanted_volume_count_and_each_node_once() {
    let mut leaving = pod("6", "n6", "own", "True");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let pods = [
        pod("1", "n1", "own", "True"),
        pod("2", "n1", "own", "True"),
        pod("3", "n2", "own", "False"),
        pod("4", "n3", "older", "True"),
        pod("5", "n4", "own", "Unknown"),
        leaving,
    ]
    .map(read);
    let status = json!({
        "observedGeneration": 2, "desiredNumberScheduled": 6, "updatedNumberScheduled": 3,
        "currentNumberScheduled": 4, "numberMisscheduled": 0, "numberReady": 2,
    });
    let mut set = set(&status);
    assert_eq!(numbers(&set, &pods, "own", 1), NodeNumbers { desired: 6, updated: 3, ready: 1, failed: 1 });
    let uids: Vec<&str> =
        waiting(&pods, "own").iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
    assert_eq!(uids, ["3", "5"]);
    assert_eq!(missing(&set, &pods), 2);
    assert!(!is_behind(&set, &pods), "n1 and n3 are ready, with whatever volume");
    set.status.as_mut().unwrap().number_ready = 3;
    assert!(is_behind(&set, &pods));
}

#[test]
fn an_older_state_of_the_daemon_set_says_nothing_of_the_update() {
    let status = json!({
        "observedGeneration": 1, "desiredNumberScheduled": 4, "updatedNumberScheduled": 4,
        "currentNumberScheduled": 4, "numberMisscheduled": 0, "numberReady": 4,
    });
    let set = set(&status);
    assert!(!is_observed(&set));
    assert_eq!(numbers(&set, &[], "own", 0).updated, 0);
}

#[test]
fn what_the_plugin_said_last_decides() {
    let pods = [read(pod("1", "n1", "own", "False"))];
    let failed = |second| event("1", "ArtifactPullFailed", "the registry says 503", second);
    let expected = vec![owned(("n1", "ArtifactPullFailed", "the registry says 503"))];
    for (ours, failures) in [
        (vec![failed(5)], expected.clone()),
        (vec![failed(5), event("1", "ArtifactPulling", "x", 4)], expected.clone()),
        (vec![failed(5), event("1", "ArtifactProgress", "x", 5)], expected.clone()),
        (vec![event("1", "ArtifactProgress", "x", 6), failed(5)], vec![]),
        (vec![failed(5), event("1", "ArtifactPulling", "x", 6)], vec![]),
        (vec![event("2", "ArtifactPulling", "another pod", 6), failed(5)], expected.clone()),
        (vec![], vec![]),
    ] {
        assert_eq!(failures_of(&pods, &ours, &[]), failures, "{ours:?}");
    }
}

#[test]
fn kubelet_is_believed_only_of_pods_of_which_the_plugin_says_nothing() {
    let pods = [read(pod("1", "n1", "own", "False"))];
    let mount = |message: &str| event("1", "FailedMount", message, 9);
    let denied = "rpc error: code = PermissionDenied desc = no";
    assert_eq!(failures_of(&pods, &[], &[mount(denied)]), [owned(("n1", "FailedMount", denied))]);
    for waited in [
        "MountVolume.SetUp failed for volume \"artifact\" : rpc error: code = DeadlineExceeded desc = 3 of 9 GiB",
        "rpc error: context deadline exceeded",
        "Unable to attach or mount volumes: timed out waiting for the condition",
    ] {
        assert_eq!(failures_of(&pods, &[], &[mount(waited)]), [], "{waited}");
    }
    let pulling = [event("1", "ArtifactPulling", "x", 1)];
    assert_eq!(failures_of(&pods, &pulling, &[mount(denied)]), []);
    let waiting: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
    assert_eq!((silent(&waiting, &pulling).len(), silent(&waiting, &[]).len()), (0, 1));
}

#[test]
fn a_pod_that_cannot_even_start_says_so_itself() {
    let image = |reason: &str| {
        let mut pod = pod("1", "n1", "own", "False");
        pod["status"]["containerStatuses"] = json!([{
            "name": "pause", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": "no such image" } },
        }]);
        read(pod)
    };
    let pulling = [event("1", "ArtifactPulling", "x", 1)];
    for reason in ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"] {
        assert_eq!(
            failures_of(&[image(reason)], &pulling, &[]),
            [owned(("n1", reason, "no such image"))],
            "{reason}"
        );
    }
    assert_eq!(failures_of(&[image("ContainerCreating")], &pulling, &[]), []);

    let unscheduled: Value = json!({
        "metadata": { "uid": "1" },
        "spec": { "containers": [], "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n7"] }] },
            ] },
        } } },
        "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Too many pods" },
        ] },
    });
    assert_eq!(
        failures_of(&[read(unscheduled)], &[], &[]),
        [owned(("n7", "Unschedulable", "Too many pods"))]
    );
}

#[test]
fn pods_that_cannot_be_made_are_a_failure_of_nodes_without_a_name() {
    assert_eq!(unmade(&[]), None);
    let events = [event("d", "FailedCreate", "newer", 9), event("d", "FailedCreate", "older", 1)];
    let failure = unmade(&events).unwrap();
    assert_eq!((&*failure.node, &*failure.reason, &*failure.message), ("", "FailedCreate", "newer"));
}

#[test]
fn at_most_ten_failures_are_told_and_all_are_counted() {
    let pods: Vec<Arc<Pod>> = (0..30)
        .map(|number| read(pod(&number.to_string(), &format!("n{number:02}"), "own", "False")))
        .collect();
    let long = "x".repeat(2000);
    let events: Vec<Event> =
        (0..30).map(|number| event(&number.to_string(), "ArtifactNoSpace", &long, 1)).collect();
    let waiting: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
    let failures = failures(&waiting, &events, &[]);
    assert_eq!(failures.len(), 30);
    let told = told(failures);
    assert_eq!((told.len(), &*told[0].node, told[0].message.len()), (10, "n00", LONGEST_MESSAGE));
}
