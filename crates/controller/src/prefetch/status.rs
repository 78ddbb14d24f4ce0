//! Conditions: what a person is told, and since when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::crd::{CachedArtifactStatus, NodeNumbers};

/// The condition that the reference has a digest.
pub(crate) const RESOLVED: &str = "Resolved";
/// The condition that all nodes have it.
pub(crate) const CACHED: &str = "Cached";

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) holds: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Verdict {
    pub(crate) fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    pub(crate) fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }
}

/// Sets a condition; the time of its transition moves only with its status.
pub(crate) fn set(
    status: &mut CachedArtifactStatus,
    kind: &str,
    verdict: Verdict,
    generation: Option<i64>,
    now: Timestamp,
) {
    let word = if verdict.holds { "True" } else { "False" };
    let before = status.conditions.iter().find(|condition| condition.type_ == kind);
    let since = match before {
        Some(before) if before.status == word => before.last_transition_time.clone(),
        _ => Time(now),
    };
    let condition = Condition {
        type_: kind.to_owned(),
        status: word.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message,
        last_transition_time: since,
        observed_generation: generation,
    };
    status.conditions.retain(|condition| condition.type_ != kind);
    status.conditions.push(condition);
    status.conditions.sort_by(|one, other| other.type_.cmp(&one.type_));
}

/// Says of a condition that it is as true of this generation.
pub(crate) fn renew(status: &mut CachedArtifactStatus, kind: &str, generation: Option<i64>) {
    for condition in status.conditions.iter_mut().filter(|condition| condition.type_ == kind) {
        condition.observed_generation = generation;
    }
}

/// A condition by its name.
pub(crate) fn find<'a>(status: &'a CachedArtifactStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether a condition is true.
pub(crate) fn holds(status: &CachedArtifactStatus, kind: &str) -> bool {
    find(status, kind).is_some_and(|condition| condition.status == "True")
}

/// Whether all nodes have it, by their numbers. `observed` says whether these are of the current version.
pub(crate) fn cached(nodes: NodeNumbers, observed: bool) -> Verdict {
    let NodeNumbers { desired, ready, failed, .. } = nodes;
    if !observed {
        Verdict::no("Pending", "the DaemonSet was not looked at by its controller yet")
    } else if desired == 0 {
        Verdict::no("NoNodes", "no node has the labels of nodeSelector and only taints that are tolerated")
    } else if ready >= desired {
        Verdict::yes("Cached", format!("{ready} of {desired} nodes have it"))
    } else if failed > 0 {
        Verdict::no(
            "PullFailing",
            format!("{ready} of {desired} nodes have it, and {failed} cannot have it now"),
        )
    } else {
        Verdict::no("Pulling", format!("{ready} of {desired} nodes have it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut status = CachedArtifactStatus::default();
        set(&mut status, RESOLVED, Verdict::no("NotFound", "a"), Some(1), at(1));
        set(&mut status, CACHED, Verdict::no("Pulling", "b"), Some(1), at(1));
        set(&mut status, RESOLVED, Verdict::no("Unavailable", "c"), Some(2), at(2));
        let resolved = find(&status, RESOLVED).unwrap();
        assert_eq!(resolved.last_transition_time.0, at(1));
        assert_eq!(
            (&*resolved.reason, &*resolved.message, resolved.observed_generation),
            ("Unavailable", "c", Some(2))
        );
        set(&mut status, RESOLVED, Verdict::yes("Resolved", "d"), Some(2), at(3));
        assert_eq!(find(&status, RESOLVED).unwrap().last_transition_time.0, at(3));
        assert!(holds(&status, RESOLVED) && !holds(&status, CACHED));
        renew(&mut status, RESOLVED, Some(3));
        let renewed = find(&status, RESOLVED).unwrap();
        assert_eq!((renewed.observed_generation, renewed.last_transition_time.0), (Some(3), at(3)));
        assert_eq!(find(&status, CACHED).unwrap().observed_generation, Some(1));
        let kinds: Vec<&str> = status.conditions.iter().map(|condition| &*condition.type_).collect();
        assert_eq!(kinds, [RESOLVED, CACHED], "one of each, always in this order");
    }

    #[test]
    fn it_is_cached_when_every_node_that_is_meant_has_the_current_digest() {
        for (desired, ready, failed, observed, reason) in [
            (3, 3, 0, true, "Cached"),
            (3, 2, 0, true, "Pulling"),
            (3, 2, 1, true, "PullFailing"),
            (0, 0, 0, true, "NoNodes"),
            (3, 3, 0, false, "Pending"),
        ] {
            let verdict = cached(NodeNumbers { desired, updated: 3, ready, failed }, observed);
            assert_eq!((verdict.reason, verdict.holds), (reason, reason == "Cached"));
        }
    }
}
