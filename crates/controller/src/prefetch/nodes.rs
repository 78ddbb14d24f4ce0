//! What became of the pods: which nodes have the artifact, and why the others do not.

mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Pod};

use self::trouble::Told;
use crate::crd::{Failure, NodeNumbers};
use crate::names::VOLUME_LABEL;

/// Failures that the status tells.
const MOST_FAILURES: usize = 10;
/// The longest message of one, in characters.
const LONGEST_MESSAGE: usize = 512;

/// The pods that hold the wanted volume and are not ready.
pub(crate) fn waiting<'a>(pods: &'a [Arc<Pod>], volume: &str) -> Vec<&'a Pod> {
    current(pods, volume).filter(|pod| !is_ready(pod)).collect()
}

/// The waiting pods of which the node plugin has said nothing.
pub(crate) fn silent<'a>(waiting: &[&'a Pod], ours: &[Event]) -> Vec<&'a Pod> {
    waiting.iter().copied().filter(|pod| matches!(trouble::by_plugin(pod, ours), Told::Nothing)).collect()
}

/// Why nodes do not have it, one failure for each: by their pods, by our events, else by kubelet's.
pub(crate) fn failures(waiting: &[&Pod], ours: &[Event], kubelets: &[Event]) -> Vec<Failure> {
    let mut failures = BTreeMap::new();
    for pod in waiting {
        let Some(node) = node(pod) else { continue };
        let told = trouble::by_pod(pod).or_else(|| match trouble::by_plugin(pod, ours) {
            Told::Failure(said) => Some(said),
            Told::NoFailure => None,
            Told::Nothing => trouble::by_kubelet(pod, kubelets),
        });
        if let Some((reason, message)) = told {
            let message = message.chars().take(LONGEST_MESSAGE).collect();
            failures.entry(node).or_insert_with(|| Failure { node: node.to_owned(), reason, message });
        }
    }
    failures.into_values().collect()
}

/// The failure of nodes for which no pod could be made; their names are not known then.
pub(crate) fn unmade(events: &[Event]) -> Option<Failure> {
    let newest = events.iter().max_by_key(|event| trouble::last_seen(event))?;
    let message = newest.message.as_deref().unwrap_or_default();
    Some(Failure {
        node: String::new(),
        reason: newest.reason.clone().unwrap_or_default(),
        message: message.chars().take(LONGEST_MESSAGE).collect(),
    })
}

/// The failures that the status has room for.
pub(crate) fn told(mut failures: Vec<Failure>) -> Vec<Failure> {
    failures.truncate(MOST_FAILURES);
    failures
}

/// Nodes by what they have.
pub(crate) fn numbers(set: &DaemonSet, pods: &[Arc<Pod>], volume: &str, failed: usize) -> NodeNumbers {
    let ready: BTreeSet<&str> = current(pods, volume).filter(|pod| is_ready(pod)).filter_map(node).collect();
    let status = set.status.clone().unwrap_or_default();
    // What the DaemonSet's controller says of an older version is no news of this one.
    let updated = if is_observed(set) { status.updated_number_scheduled.unwrap_or_default() } else { 0 };
    NodeNumbers {
        desired: status.desired_number_scheduled,
        updated,
        ready: number(ready.len()),
        failed: number(failed),
    }
}

/// Nodes that are to have a pod and have none.
pub(crate) fn missing(set: &DaemonSet, pods: &[Arc<Pod>]) -> usize {
    let desired = set.status.as_ref().map_or(0, |status| status.desired_number_scheduled);
    let there: BTreeSet<&str> = live(pods).filter_map(node).collect();
    usize::try_from(desired).unwrap_or_default().saturating_sub(there.len())
}

/// Whether the DaemonSet's controller has seen ready pods that our watch has not.
pub(crate) fn is_behind(set: &DaemonSet, pods: &[Arc<Pod>]) -> bool {
    let ready: BTreeSet<&str> = live(pods).filter(|pod| is_ready(pod)).filter_map(node).collect();
    set.status.as_ref().is_some_and(|status| status.number_ready > number(ready.len()))
}

/// Whether the DaemonSet's controller has seen the last change.
pub(crate) fn is_observed(set: &DaemonSet) -> bool {
    let seen = set.status.as_ref().and_then(|status| status.observed_generation);
    seen.is_some() && seen >= set.metadata.generation
}

fn number(many: usize) -> i32 {
    i32::try_from(many).unwrap_or(i32::MAX)
}

fn live(pods: &[Arc<Pod>]) -> impl Iterator<Item = &Pod> {
    pods.iter().map(AsRef::as_ref).filter(|pod| pod.metadata.deletion_timestamp.is_none())
}

fn current<'a>(pods: &'a [Arc<Pod>], volume: &str) -> impl Iterator<Item = &'a Pod> {
    live(pods).filter(move |pod| {
        let labelled = pod.metadata.labels.as_ref().and_then(|labels| labels.get(VOLUME_LABEL));
        labelled.is_some_and(|labelled| labelled == volume)
    })
}

/// The pod's node; before it is scheduled, the one that the DaemonSet's controller means it for.
fn node(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    let meant = || {
        let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
        let fields =
            required.node_selector_terms.iter().filter_map(|term| term.match_fields.as_ref()).flatten();
        let name = fields.into_iter().find(|field| field.key == "metadata.name")?;
        name.values.as_ref()?.first().map(String::as_str)
    };
    spec.node_name.as_deref().or_else(meant)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

#[cfg(test)]
mod tests;
