//! Why one pod is not ready: its own status first, then the node plugin's events, then kubelet's.

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;

/// Reason and message.
type Said = (String, String);

/// Reasons of the node plugin's events that are failures (`events.md`); its others say that the pull goes on.
const FAILURES: [&str; 5] =
    ["ArtifactPullFailed", "ArtifactAccessDenied", "ArtifactNotFound", "ArtifactRejected", "ArtifactNoSpace"];
/// What kubelet's event says where only its own patience is over: the download goes on.
const WAITED: [&str; 3] = ["DeadlineExceeded", "deadline exceeded", "timed out waiting"];
/// Reasons for which a container waits on its way up.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What the pod says itself: not scheduled, its image not pulled, or over.
pub(super) fn by_pod(pod: &Pod) -> Option<Said> {
    let status = pod.status.as_ref()?;
    let scheduling = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    if let Some(condition) = scheduling.filter(|condition| condition.status == "False") {
        return Some(said(condition.reason.as_ref()?, condition.message.as_ref()));
    }
    if status.phase.as_deref() == Some("Failed") {
        return Some(said(status.reason.as_ref()?, status.message.as_ref()));
    }
    let states = status.container_statuses.iter().flatten();
    let waiting = states.filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    waiting
        .filter_map(|waiting| Some(said(waiting.reason.as_ref()?, waiting.message.as_ref())))
        .find(|(reason, _)| !STARTING.contains(&reason.as_str()))
}

/// What the node plugin says of a pod.
pub(super) enum Told {
    Nothing,
    /// The pull goes on, or is over.
    NoFailure,
    Failure(Said),
}

/// What the node plugin said last.
pub(super) fn by_plugin(pod: &Pod, events: &[Event]) -> Told {
    let is_failure = |event: &Event| event.reason.as_deref().is_some_and(|reason| FAILURES.contains(&reason));
    // Events have whole seconds: of two in the same one the failure counts.
    match of(pod, events).max_by_key(|event| (last_seen(event), is_failure(event))) {
        None => Told::Nothing,
        Some(newest) if is_failure(newest) => Told::Failure(words(newest)),
        Some(_) => Told::NoFailure,
    }
}

/// What kubelet said last, for nodes on which our events are switched off.
pub(super) fn by_kubelet(pod: &Pod, events: &[Event]) -> Option<Said> {
    let newest = of(pod, events).max_by_key(|event| last_seen(event)).map(words)?;
    Some(newest).filter(|(_, message)| !WAITED.iter().any(|part| message.contains(part)))
}

pub(super) fn last_seen(event: &Event) -> Option<Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

fn of<'a>(pod: &Pod, events: &'a [Event]) -> impl Iterator<Item = &'a Event> {
    let uid = pod.metadata.uid.as_deref();
    events.iter().filter(move |event| uid.is_some() && event.involved_object.uid.as_deref() == uid)
}

fn words(event: &Event) -> Said {
    (event.reason.clone().unwrap_or_default(), event.message.clone().unwrap_or_default())
}

fn said(reason: &str, message: Option<&String>) -> Said {
    (reason.to_owned(), message.cloned().unwrap_or_default())
}
