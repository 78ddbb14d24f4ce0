//! Events on the objects: one for each change that a person would want to see.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Resource as _};

use super::MANAGER;
use crate::crd::{CachedArtifact, CachedArtifactStatus};

/// The longest message that an API server takes, in bytes.
const LONGEST_MESSAGE: usize = 1024;

/// The conditions of which the change from `before` to `after` is worth an event. Progress within one reason is none.
pub(crate) fn changes<'a>(
    before: &CachedArtifactStatus,
    after: &'a CachedArtifactStatus,
) -> Vec<&'a Condition> {
    let moved = before.resolved_digest != after.resolved_digest;
    let told = |condition: &&Condition| {
        let old = before.conditions.iter().find(|old| old.type_ == condition.type_);
        let same = old.is_some_and(|old| old.status == condition.status && old.reason == condition.reason);
        // `Pending` is over in a moment, and says nothing.
        condition.reason != "Pending" && (!same || (moved && condition.type_ == super::status::RESOLVED))
    };
    after.conditions.iter().filter(told).collect()
}

/// Writes the event of a condition. What fails is logged: no reconciliation fails for it.
pub(crate) async fn write(client: &Client, artifact: &CachedArtifact, condition: &Condition, now: Timestamp) {
    let namespace = artifact.metadata.namespace.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let event = event(artifact, condition, now);
    if let Err(error) = events.create(&PostParams::default(), &event).await {
        tracing::warn!(%error, reason = condition.reason, "cannot write an event");
    }
}

fn event(artifact: &CachedArtifact, condition: &Condition, now: Timestamp) -> Event {
    let name = artifact.metadata.name.as_deref().unwrap_or_default();
    let normal = condition.status == "True" || matches!(&*condition.reason, "Pulling" | "NoNodes");
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}.", crate::names::short(name, 200))),
            namespace: artifact.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(CachedArtifact::api_version(&()).into_owned()),
            kind: Some(CachedArtifact::kind(&()).into_owned()),
            name: artifact.metadata.name.clone(),
            namespace: artifact.metadata.namespace.clone(),
            uid: artifact.metadata.uid.clone(),
            resource_version: artifact.metadata.resource_version.clone(),
            field_path: None,
        },
        reason: Some(condition.reason.clone()),
        message: Some(beginning(&condition.message).to_owned()),
        type_: Some(if normal { "Normal" } else { "Warning" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        event_time: Some(MicroTime(now)),
        action: Some(condition.type_.clone()),
        source: Some(EventSource { component: Some(MANAGER.to_owned()), host: None }),
        reporting_component: Some(MANAGER.to_owned()),
        reporting_instance: Some(MANAGER.to_owned()),
        ..Event::default()
    }
}

/// As much of a message as an event may have.
fn beginning(message: &str) -> &str {
    let mut end = message.len().min(LONGEST_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

#[cfg(test)]
mod tests {
    use super::super::status::{CACHED, RESOLVED, Verdict, set};
    use super::*;

    fn status(resolved: Verdict, cached: Verdict, digest: &str) -> CachedArtifactStatus {
        let mut status = CachedArtifactStatus {
            resolved_digest: Some(digest.to_owned()),
            ..CachedArtifactStatus::default()
        };
        set(&mut status, RESOLVED, resolved, None, Timestamp::UNIX_EPOCH);
        set(&mut status, CACHED, cached, None, Timestamp::UNIX_EPOCH);
        status
    }

    #[test]
    fn a_message_is_cut_by_bytes_and_between_characters() {
        for (message, bytes) in [("short".to_owned(), 5), ("…".repeat(500), 1023), ("x".repeat(2000), 1024)]
        {
            assert_eq!(beginning(&message).len(), bytes);
        }
    }

    #[test]
    fn progress_makes_no_event_and_a_new_digest_does() {
        let yes = || Verdict::yes("Resolved", "x");
        let one = status(yes(), Verdict::no("Pulling", "1 of 9"), "sha256:a");
        let reasons = |before: &CachedArtifactStatus, after: &CachedArtifactStatus| {
            changes(before, after).into_iter().map(|condition| condition.reason.clone()).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&CachedArtifactStatus::default(), &one), ["Resolved", "Pulling"]);
        let further = status(yes(), Verdict::no("Pulling", "2 of 9"), "sha256:a");
        assert!(reasons(&one, &further).is_empty());
        let cached = status(yes(), Verdict::yes("Cached", "9 of 9"), "sha256:a");
        assert_eq!(reasons(&further, &cached), ["Cached"]);
        let moved = status(yes(), Verdict::yes("Cached", "9 of 9"), "sha256:b");
        assert_eq!(reasons(&cached, &moved), ["Resolved"]);
        let pending = status(yes(), Verdict::no("Pending", "x"), "sha256:b");
        assert!(reasons(&moved, &pending).is_empty());
    }
}
