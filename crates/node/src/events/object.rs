//! Our entries as objects of the API: `Event` of core/v1.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use stowage_artifact::{Algorithm, Digest};

use super::ledger::Writing;
use super::{Reason, Subject};

/// Who reports.
pub(super) const COMPONENT: &str = "stowage";
/// Letters of the pod's name in an event's name, which has at most 253.
const MOST_NAME: usize = 220;
/// Letters of the hash.
const HASH: usize = 16;

/// The event's name. It follows from the pod's uid, the volume and the reason, so that a restarted plugin finds it.
pub(super) fn name(subject: &Subject, reason: Reason) -> String {
    let place = &subject.place;
    // No part can have a slash.
    let whole = format!("{}/{}/{}", place.pod_uid, place.volume, reason.as_str());
    let hash = Digest::of(Algorithm::Sha256, whole.as_bytes());
    let pod = &subject.pod[..subject.pod.floor_char_boundary(MOST_NAME)];
    format!("{}.{}", pod.trim_end_matches(['-', '.']), &hash.hex()[..HASH])
}

/// The whole object, with `count` occurrences.
pub(super) fn whole(writing: &Writing, node: &str) -> Event {
    let subject = &writing.subject;
    // The cluster's name of a persistent volume is not the pod's own.
    let field_path = subject.inline.then(|| format!("spec.volumes{{{}}}", subject.place.volume));
    let related = (!subject.inline).then(|| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolume".to_owned()),
        name: Some(subject.place.volume.clone()),
        ..ObjectReference::default()
    });
    Event {
        metadata: ObjectMeta {
            name: Some(name(subject, writing.reason)),
            namespace: Some(subject.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(subject.namespace.clone()),
            name: Some(subject.pod.clone()),
            uid: Some(subject.place.pod_uid.clone()),
            field_path,
            ..ObjectReference::default()
        },
        related,
        reason: Some(writing.reason.as_str().to_owned()),
        message: Some(writing.message.clone()),
        type_: Some(writing.reason.kind().to_owned()),
        count: Some(writing.count),
        first_timestamp: Some(Time(writing.first)),
        last_timestamp: Some(Time(writing.last)),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}

/// What changes with an occurrence, as a merge patch.
pub(super) fn patch(writing: &Writing, count: i32) -> Value {
    json!({ "count": count, "lastTimestamp": Time(writing.last), "message": writing.message })
}

/// Whether the object that was found is of this writing: made by a call of which no answer came. An earlier life of the
/// plugin knew another first occurrence. The server keeps seconds.
pub(super) fn is_of(found: &Event, writing: &Writing) -> bool {
    found.first_timestamp.as_ref().is_some_and(|Time(first)| first.as_second() == writing.first.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::tests::notice;

    #[test]
    fn names_are_stable_valid_and_different_for_each_pod_volume_and_reason() {
        let subject = notice("u-1", Reason::Pulling, "x").subject;
        let first = name(&subject, Reason::Pulling);
        assert_eq!(first, name(&subject, Reason::Pulling));
        assert_ne!(first, name(&subject, Reason::Pulled));
        assert_ne!(first, name(&notice("u-2", Reason::Pulling, "x").subject, Reason::Pulling));
        let mut other = subject.clone();
        other.place.volume = "other".to_owned();
        assert_ne!(first, name(&other, Reason::Pulling));
        other.pod = format!("{}.{}", "a".repeat(MOST_NAME - 1), "b".repeat(30));
        let long = name(&other, Reason::Pulling);
        assert!(long.len() <= 253 && !long.contains(".."), "{long}");
    }
}
