//! What became of the pods: which nodes have the artifact, and why the others do not.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Pod};

use crate::crd::{Failure, NodeNumbers};
use crate::names::{DIGEST_LABEL, digest_label};

/// Failures that the status tells.
const MOST_FAILURES: usize = 10;
/// The longest message of one.
const LONGEST_MESSAGE: usize = 512;

/// Reasons of the node plugin's own events (`csi.md`, "Events").
const OWN_REASONS: [&str; 5] =
    ["ArtifactPullFailed", "ArtifactAccessDenied", "ArtifactNotFound", "ArtifactRejected", "ArtifactNoSpace"];
/// Kubelet's, which has the same sentence in other words: for nodes on which our events are switched off.
const KUBELET_REASON: &str = "FailedMount";

/// The pods of the current digest that are not ready, by uid, with their nodes.
pub(crate) fn waiting(pods: &[Pod], digest: &str) -> BTreeMap<String, String> {
    current(pods, digest)
        .filter(|pod| !is_ready(pod))
        .filter_map(|pod| Some((pod.metadata.uid.clone()?, node(pod)?.to_owned())))
        .collect()
}

/// Why the waiting pods wait: their latest failure each.
pub(crate) fn failures(waiting: &BTreeMap<String, String>, events: &[Event]) -> (i32, Vec<Failure>) {
    let mut latest: BTreeMap<&str, &Event> = BTreeMap::new();
    for event in events {
        let Some(uid) = event.involved_object.uid.as_deref().filter(|uid| waiting.contains_key(*uid)) else {
            continue;
        };
        let Some(rank) = rank(event) else { continue };
        let better = latest.get(uid).is_none_or(|other| {
            (rank, last_seen(event)) > (self::rank(other).unwrap_or_default(), last_seen(other))
        });
        if better {
            latest.insert(uid, event);
        }
    }
    let mut failures: Vec<Failure> = latest
        .iter()
        .filter_map(|(uid, event)| {
            Some(Failure {
                node: waiting.get(*uid)?.clone(),
                reason: event.reason.clone()?,
                message: event.message.as_deref().unwrap_or_default().chars().take(LONGEST_MESSAGE).collect(),
            })
        })
        .collect();
    failures.sort_unstable();
    failures.dedup_by(|one, other| one.node == other.node);
    let failed = i32::try_from(failures.len()).unwrap_or(i32::MAX);
    failures.truncate(MOST_FAILURES);
    (failed, failures)
}

/// Nodes by what they have.
pub(crate) fn numbers(set: &DaemonSet, pods: &[Pod], digest: &str, failed: i32) -> NodeNumbers {
    let ready: BTreeSet<&str> = current(pods, digest).filter(|pod| is_ready(pod)).filter_map(node).collect();
    let status = set.status.clone().unwrap_or_default();
    // What the DaemonSet's controller says of an older version is no news of this one.
    let updated = if is_observed(set) { status.updated_number_scheduled.unwrap_or_default() } else { 0 };
    NodeNumbers {
        desired: status.desired_number_scheduled,
        updated,
        ready: i32::try_from(ready.len()).unwrap_or(i32::MAX),
        failed,
    }
}

/// Whether the DaemonSet's controller has seen the last change.
pub(crate) fn is_observed(set: &DaemonSet) -> bool {
    let seen = set.status.as_ref().and_then(|status| status.observed_generation);
    seen.is_some() && seen >= set.metadata.generation
}

fn current<'a>(pods: &'a [Pod], digest: &str) -> impl Iterator<Item = &'a Pod> {
    let label = digest_label(digest);
    pods.iter().filter(move |pod| {
        let labelled = pod.metadata.labels.as_ref().and_then(|labels| labels.get(DIGEST_LABEL));
        pod.metadata.deletion_timestamp.is_none() && labelled == Some(&label)
    })
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// Our own words before kubelet's; nothing for events of another kind.
fn rank(event: &Event) -> Option<u8> {
    match event.reason.as_deref() {
        Some(reason) if OWN_REASONS.contains(&reason) => Some(1),
        Some(KUBELET_REASON) => Some(0),
        _ => None,
    }
}

fn last_seen(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn pod(uid: &str, node: &str, label: &str, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "uid": uid, "labels": { DIGEST_LABEL: label } },
            "spec": { "nodeName": node, "containers": [] },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        }))
        .unwrap()
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

    #[test]
    fn only_ready_pods_of_the_current_digest_count_and_each_node_once() {
        let own = digest_label(DIGEST);
        let mut leaving = pod("6", "n6", &own, "True");
        leaving.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        let pods = [
            pod("1", "n1", &own, "True"),
            pod("2", "n1", &own, "True"),
            pod("3", "n2", &own, "False"),
            pod("4", "n3", "older", "True"),
            pod("5", "n4", &own, "Unknown"),
            leaving,
        ];
        let status = json!({
            "observedGeneration": 2, "desiredNumberScheduled": 4, "updatedNumberScheduled": 3,
            "currentNumberScheduled": 4, "numberMisscheduled": 0, "numberReady": 2,
        });
        let numbers = numbers(&set(&status), &pods, DIGEST, 1);
        assert_eq!(numbers, NodeNumbers { desired: 4, updated: 3, ready: 1, failed: 1 });
        let waiting = waiting(&pods, DIGEST);
        assert_eq!(waiting, [("3", "n2"), ("5", "n4")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn an_older_state_of_the_daemon_set_says_nothing_of_the_update() {
        let status = json!({
            "observedGeneration": 1, "desiredNumberScheduled": 4, "updatedNumberScheduled": 4,
            "currentNumberScheduled": 4, "numberMisscheduled": 0, "numberReady": 4,
        });
        let set = set(&status);
        assert!(!is_observed(&set));
        assert_eq!(numbers(&set, &[], DIGEST, 0).updated, 0);
    }

    #[test]
    fn a_failure_is_the_latest_of_our_own_and_kubelets_only_where_there_is_none() {
        let waiting: BTreeMap<String, String> =
            [("1", "n1"), ("2", "n2"), ("3", "n3")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let events = [
            event("1", "ArtifactPullFailed", "old", 1),
            event("1", "ArtifactAccessDenied", "new", 2),
            event("1", "FailedMount", "kubelet's", 3),
            event("2", "FailedMount", "kubelet's", 1),
            event("3", "BackOff", "of something else", 1),
            event("9", "ArtifactPullFailed", "of a pod that is ready", 1),
        ];
        let (failed, failures) = failures(&waiting, &events);
        assert_eq!(failed, 2);
        let told: Vec<(&str, &str, &str)> =
            failures.iter().map(|failure| (&*failure.node, &*failure.reason, &*failure.message)).collect();
        assert_eq!(told, [("n1", "ArtifactAccessDenied", "new"), ("n2", "FailedMount", "kubelet's")]);
    }

    #[test]
    fn at_most_ten_failures_are_told_and_all_are_counted() {
        let waiting: BTreeMap<String, String> =
            (0..30).map(|number| (number.to_string(), format!("n{number:02}"))).collect();
        let long = "x".repeat(2000);
        let events: Vec<Event> =
            (0..30).map(|number| event(&number.to_string(), "ArtifactNoSpace", &long, 1)).collect();
        let (failed, failures) = failures(&waiting, &events);
        assert_eq!((failed, failures.len(), &*failures[0].node), (30, 10, "n00"));
        assert_eq!(failures[0].message.len(), LONGEST_MESSAGE);
    }
}
