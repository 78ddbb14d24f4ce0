//! Events that Stowage writes about a pod.

use k8s_openapi::api::core::v1::Event;

/// The component in the source of our events.
const COMPONENT: &str = "stowage";

/// The reasons, which are part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Pulling,
    Progress,
    Mounted,
    AccessDenied,
    NotFound,
    Rejected,
    NoSpace,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pulling => "ArtifactPulling",
            Self::Progress => "ArtifactProgress",
            Self::Mounted => "ArtifactMounted",
            Self::AccessDenied => "ArtifactAccessDenied",
            Self::NotFound => "ArtifactNotFound",
            Self::Rejected => "ArtifactRejected",
            Self::NoSpace => "ArtifactNoSpace",
        }
    }
}

/// The event of this reason whose message has all the words.
pub(crate) fn matching<'a>(events: &'a [Event], reason: Reason, words: &[&str]) -> Option<&'a Event> {
    events.iter().find(|event| {
        let message = event.message.as_deref().unwrap_or_default();
        is_ours(event)
            && event.reason.as_deref() == Some(reason.as_str())
            && words.iter().all(|word| message.contains(word))
    })
}

/// What an event of ours says that no waiting mends, unless it is the one that is waited for.
pub(crate) fn fatal(events: &[Event], awaited: Option<Reason>) -> Option<String> {
    let reasons = [Reason::NoSpace, Reason::Rejected];
    let mut unwanted = reasons.into_iter().filter(|&reason| Some(reason) != awaited);
    let event = unwanted.find_map(|reason| matching(events, reason, &[]))?;
    Some(format!(
        "{}: {}",
        event.reason.as_deref().unwrap_or_default(),
        event.message.as_deref().unwrap_or_default()
    ))
}

/// The event of kubelet with this reason whose message has one of the words.
pub(crate) fn of_kubelet<'a>(events: &'a [Event], reason: &str, words: &[&str]) -> Option<&'a Event> {
    events.iter().find(|event| {
        let message = event.message.as_deref().unwrap_or_default();
        !is_ours(event)
            && event.reason.as_deref() == Some(reason)
            && words.iter().any(|word| message.contains(word))
    })
}

/// The first warning, by time.
pub(crate) fn first_warning(events: &[Event]) -> Option<String> {
    let warnings = events.iter().filter(|event| event.type_.as_deref() == Some("Warning"));
    let first = warnings.min_by_key(|event| event.first_timestamp.as_ref().map(|time| time.0))?;
    Some(first.message.clone().unwrap_or_default())
}

fn is_ours(event: &Event) -> bool {
    let source = event.source.as_ref().and_then(|source| source.component.as_deref());
    source == Some(COMPONENT) || event.reporting_component.as_deref() == Some(COMPONENT)
}

/// A line for each event: count, type, reason, object, message.
pub(crate) fn lines(events: &[Event]) -> String {
    let mut sorted: Vec<&Event> = events.iter().collect();
    sorted.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    let line = |event: &&Event| {
        format!(
            "{:>3}x {:7} {:22} {}/{}: {}",
            event.count.unwrap_or(1),
            event.type_.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            event.involved_object.kind.as_deref().unwrap_or_default(),
            event.involved_object.name.as_deref().unwrap_or_default(),
            event.message.as_deref().unwrap_or_default(),
        )
    };
    sorted.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What is there in place of the event that is waited for.
pub(crate) fn seen(events: &[Event]) -> String {
    let ours: Vec<Event> = events.iter().filter(|event| is_ours(event)).cloned().collect();
    if ours.is_empty() { format!("none of ours among {} events", events.len()) } else { lines(&ours) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(component: &str, reason: &str, message: &str, at: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": { "name": "e" }, "involvedObject": { "kind": "Pod", "name": "p" },
            "source": { "component": component }, "reason": reason, "message": message,
            "type": "Warning", "count": 2, "lastTimestamp": at,
        }))
        .unwrap()
    }

    #[test]
    fn an_event_counts_by_component_reason_and_every_word() {
        let events = [
            event("kubelet", "ArtifactNotFound", "a.io/b:v9", "2026-01-01T00:00:00Z"),
            event("stowage", "ArtifactNotFound", "a.io/b:v9 does not exist", "2026-01-01T00:00:00Z"),
        ];
        let found = matching(&events, Reason::NotFound, &["a.io/b:v9", "exist"]).unwrap();
        assert_eq!(found.source.as_ref().unwrap().component.as_deref(), Some("stowage"));
        assert!(matching(&events, Reason::NotFound, &["a.io/c"]).is_none());
        assert!(matching(&events, Reason::AccessDenied, &[]).is_none());
        assert!(matching(&events[..1], Reason::NotFound, &[]).is_none(), "kubelet's is not ours");
    }

    #[test]
    fn what_no_waiting_mends_is_told_unless_it_is_what_is_waited_for() {
        let at = "2026-01-01T00:00:00Z";
        let events = [
            event("stowage", "ArtifactPulling", "on its way", at),
            event("stowage", "ArtifactNoSpace", "2 GiB are needed", at),
        ];
        assert_eq!(fatal(&events, None).as_deref(), Some("ArtifactNoSpace: 2 GiB are needed"));
        assert_eq!(fatal(&events, Some(Reason::NoSpace)), None);
        assert_eq!(fatal(&events[..1], None), None);
        assert_eq!(fatal(&[event("kubelet", "ArtifactNoSpace", "x", at)], None), None);
    }

    #[test]
    fn the_first_warning_is_the_oldest() {
        let warning = |message: &str, at: &str| {
            let mut event = event("kubelet", "FailedMount", message, at);
            event.first_timestamp = event.last_timestamp.clone();
            event
        };
        let events = [warning("later", "2026-01-01T00:00:09Z"), warning("sooner", "2026-01-01T00:00:01Z")];
        assert_eq!(first_warning(&events).as_deref(), Some("sooner"));
        assert_eq!(first_warning(&[]), None);
    }

    #[test]
    fn an_event_of_kubelet_counts_by_reason_and_any_word() {
        let at = "2026-01-01T00:00:00Z";
        let message = "rpc error: code = DeadlineExceeded desc = a:v1 is still being pulled";
        let events = [event("kubelet", "FailedMount", message, at)];
        assert!(of_kubelet(&events, "FailedMount", &["DeadlineExceeded", "other"]).is_some());
        assert!(of_kubelet(&events, "FailedMount", &["other"]).is_none());
        assert!(of_kubelet(&events, "Failed", &["DeadlineExceeded"]).is_none());
        assert!(
            of_kubelet(&[event("stowage", "FailedMount", message, at)], "FailedMount", &["rpc"]).is_none()
        );
    }

    #[test]
    fn events_are_shown_in_the_order_of_their_time() {
        let events = [
            event("stowage", "ArtifactPulled", "later", "2026-01-01T00:00:09Z"),
            event("stowage", "ArtifactPulling", "sooner", "2026-01-01T00:00:01Z"),
        ];
        let text = lines(&events);
        assert!(text.find("sooner") < text.find("later"), "{text}");
        assert!(text.starts_with("  2x Warning ArtifactPulling"), "{text}");
        assert_eq!(
            seen(&[event("kubelet", "Pulled", "x", "2026-01-01T00:00:00Z")]),
            "none of ours among 1 events"
        );
    }
}
