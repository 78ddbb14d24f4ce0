//! What a pod's status says.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{ContainerState, Pod};

use crate::wait::Look;

/// Whether the pod runs and is ready.
pub(crate) fn ready(pod: &Pod) -> Look<()> {
    match phase(pod) {
        "Failed" | "Succeeded" => Look::Never(state(pod)),
        _ if is_ready(pod) => Look::Found(()),
        _ => Look::NotYet(state(pod)),
    }
}

/// Whether all containers have ended well.
pub(crate) fn succeeded(pod: &Pod) -> Look<()> {
    match phase(pod) {
        "Succeeded" => Look::Found(()),
        "Failed" => Look::Never(state(pod)),
        _ => Look::NotYet(state(pod)),
    }
}

/// Whether the condition `Ready` is true, and the pod is not about to go.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Whether no container of the pod has started yet.
pub(crate) fn is_pending(pod: &Pod) -> bool {
    phase(pod) == "Pending"
}

/// Whether the pod has ended badly and will do nothing more.
pub(crate) fn has_failed(pod: &Pod) -> bool {
    phase(pod) == "Failed"
}

/// What stays the same for as long as a pod and its containers live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    uid: String,
    containers: Vec<String>,
}

impl Life {
    /// The life of a pod that runs.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        if phase(pod) != "Running" {
            return None;
        }
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let containers = statuses.iter().map(|container| container.container_id.clone());
        Some(Self { uid: pod.metadata.uid.clone()?, containers: containers.collect::<Option<_>>()? })
    }
}

/// The node that the pod is on.
pub(crate) fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// How often containers of the pod were restarted.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    containers.into_iter().flatten().map(|container| container.restart_count).sum()
}

/// The state in words: phase, what the containers do, what the scheduler says.
pub(crate) fn state(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or("?");
    let going = if pod.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
    let mut text = format!("pod {name} is {}{going}", phase(pod));
    let Some(status) = &pod.status else { return text };
    let conditions = status.conditions.iter().flatten();
    for condition in
        conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status != "True")
    {
        let why = condition.message.as_deref().unwrap_or("no reason given");
        let _ = write!(text, "; not scheduled: {why}");
    }
    for container in status.container_statuses.iter().flatten() {
        if let Some(doing) = container.state.as_ref().and_then(doing) {
            let _ = write!(text, "; {} {doing}", container.name);
        }
    }
    text
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("without a phase")
}

fn doing(state: &ContainerState) -> Option<String> {
    let words = |reason: &Option<String>, message: &Option<String>| {
        let parts: Vec<&str> = [reason, message].into_iter().flatten().map(String::as_str).collect();
        parts.join(": ")
    };
    if let Some(waiting) = &state.waiting {
        return Some(format!("waits ({})", words(&waiting.reason, &waiting.message)));
    }
    let ended = state.terminated.as_ref()?;
    Some(format!("ended with {} ({})", ended.exit_code, words(&ended.reason, &ended.message)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": status })).unwrap()
    }

    fn container(state: &Value) -> Value {
        json!([{ "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 2, "state": state }])
    }

    #[test]
    fn a_pod_that_failed_is_not_waited_for() {
        let state = json!({ "terminated": { "exitCode": 1, "reason": "Error", "message": "other bytes" } });
        let failed = pod(&json!({ "phase": "Failed", "containerStatuses": container(&state) }));
        for look in [ready(&failed), succeeded(&failed)] {
            let Look::Never(why) = look else { panic!("{look:?}") };
            assert_eq!(why, "pod p is Failed; c ended with 1 (Error: other bytes)");
        }
        assert_eq!(restarts(&failed), 2);
    }

    #[test]
    fn another_container_is_another_life_and_a_pod_that_does_not_run_has_none() {
        let life = |uid: &str, phase: &str, container: &str| {
            let mut pod = pod(&json!({ "phase": phase, "containerStatuses": [{
                "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "containerID": container,
            }]}));
            pod.metadata.uid = Some(uid.into());
            Life::of(&pod)
        };
        let first = life("u", "Running", "containerd://1");
        assert!(first.is_some());
        assert_eq!(first, life("u", "Running", "containerd://1"));
        assert_ne!(first, life("u", "Running", "containerd://2"));
        assert_ne!(first, life("v", "Running", "containerd://1"));
        assert_eq!(life("u", "Failed", "containerd://1"), None);
    }

    #[test]
    fn a_pod_that_waits_says_for_what() {
        let state = json!({ "waiting": { "reason": "ContainerCreating" } });
        let waiting = pod(&json!({ "phase": "Pending", "containerStatuses": container(&state) }));
        let Look::NotYet(seen) = succeeded(&waiting) else { panic!() };
        assert_eq!(seen, "pod p is Pending; c waits (ContainerCreating)");
        let condition = json!([{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes" }]);
        let homeless = pod(&json!({ "phase": "Pending", "conditions": condition }));
        assert!(state_ends(&homeless, "not scheduled: 0/1 nodes"));
    }

    fn state_ends(pod: &Pod, end: &str) -> bool {
        state(pod).ends_with(end)
    }

    #[test]
    fn a_ready_pod_that_is_about_to_go_does_not_count() {
        let conditions = json!([{ "type": "Ready", "status": "True" }]);
        let mut here = pod(&json!({ "phase": "Running", "conditions": conditions }));
        assert!(matches!(ready(&here), Look::Found(())));
        here.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert!(matches!(ready(&here), Look::NotYet(_)));
        assert!(matches!(succeeded(&pod(&json!({ "phase": "Succeeded" }))), Look::Found(())));
    }
}
