//! The writer against an API server that expects every call, on a clock that stands still unless somebody waits.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::events::tests::{place, subject};
use crate::events::{Events, QUEUE, Queue, Reason, ledger};
use crate::kubernetes::mock::{ApiServer, status};

const EVENTS: &str = "/api/v1/namespaces/team/events";

struct Stage {
    events: Events,
    server: ApiServer,
    metrics: Metrics,
}

impl Stage {
    fn new() -> Self {
        let (client, server) = ApiServer::new();
        let metrics = Metrics::new();
        let events = Events::start(client, "node-1", metrics.clone(), CancellationToken::new());
        Self { events, server, metrics }
    }

    fn report(&self, pod_uid: &str, reason: Reason, message: &str) {
        self.events.report(&subject(pod_uid), reason, message.to_owned());
    }

    /// The next call creates an event, which works; returns it.
    async fn created(&mut self) -> Value {
        let call = self.server.expect("POST", EVENTS).await;
        let body = call.body().clone();
        call.answer(201, &body);
        body
    }

    /// The next call patches an event, which works; returns the patch.
    async fn patched(&mut self, reason: Reason) -> Value {
        let call = self.server.expect("PATCH", &path(reason)).await;
        assert_eq!(call.content_type(), "application/merge-patch+json");
        let body = call.body().clone();
        call.answer(200, &json!({ "metadata": {}, "involvedObject": {} }));
        body
    }

    fn counted(&self, result: &str) -> u64 {
        let series = format!("stowage_events_total{{result=\"{result}\"}} ");
        let text = self.metrics.render().unwrap();
        text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
    }
}

fn path(reason: Reason) -> String {
    format!("{EVENTS}/{}", object::name(&subject("u-1"), reason))
}

fn exists() -> Value {
    status(409, "AlreadyExists", "events \"x\" already exists")
}

#[tokio::test(start_paused = true)]
async fn the_first_occurrence_is_a_whole_event_of_the_pods_volume() {
    let mut stage = Stage::new();
    stage.report("u-1", Reason::PullFailed, "the registry says no");
    let event = stage.created().await;
    let written: Timestamp = event["lastTimestamp"].as_str().unwrap().parse().unwrap();
    assert!(Timestamp::now().duration_since(written).abs() < jiff_minute(), "{written}");
    assert_eq!(event["firstTimestamp"], event["lastTimestamp"]);
    let mut expected = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "name": object::name(&subject("u-1"), Reason::PullFailed), "namespace": "team" },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": "team", "name": "web-0", "uid": "u-1",
            "fieldPath": "spec.volumes{model}",
        },
        "reason": "ArtifactPullFailed", "type": "Warning", "message": "the registry says no", "count": 1,
        "source": { "component": "stowage", "host": "node-1" },
        "reportingComponent": "stowage", "reportingInstance": "node-1",
    });
    for time in ["firstTimestamp", "lastTimestamp"] {
        expected[time] = event[time].clone();
    }
    assert_eq!(event, expected);
    stage.server.nothing_more().await;
    assert_eq!((stage.counted("written"), stage.counted("dropped"), stage.counted("failed")), (1, 0, 0));
}

fn jiff_minute() -> k8s_openapi::jiff::SignedDuration {
    k8s_openapi::jiff::SignedDuration::from_mins(1)
}

#[tokio::test(start_paused = true)]
async fn a_persistent_volume_is_named_as_such_and_not_as_one_of_the_pods() {
    let mut stage = Stage::new();
    let mut persistent = subject("u-1");
    persistent.inline = false;
    stage.events.report(&persistent, Reason::Mounted, "x".to_owned());
    let event = stage.created().await;
    assert_eq!(event["involvedObject"].get("fieldPath"), None);
    assert_eq!(event["related"], json!({ "apiVersion": "v1", "kind": "PersistentVolume", "name": "model" }));
    assert_eq!(event["type"], "Normal");
}

#[tokio::test(start_paused = true)]
async fn repeats_are_one_patch_after_thirty_seconds_with_the_count_and_the_newest_message() {
    let mut stage = Stage::new();
    stage.report("u-1", Reason::PullFailed, "first");
    stage.created().await;
    let written = Instant::now();
    for message in ["second", "third", "fourth"] {
        stage.report("u-1", Reason::PullFailed, message);
        stage.server.silent_for(Duration::from_secs(5)).await;
    }
    let patch = stage.patched(Reason::PullFailed).await;
    assert_eq!(written.elapsed().as_secs(), ledger::PATCH_EVERY.as_secs());
    assert_eq!((patch["count"].clone(), patch["message"].clone()), (json!(4), json!("fourth")));
    assert_eq!(patch.as_object().unwrap().len(), 3, "{patch}");

    // And again not before thirty more.
    let written = Instant::now();
    stage.report("u-1", Reason::PullFailed, "fifth");
    stage.server.silent_for(Duration::from_secs(29)).await;
    assert_eq!(stage.patched(Reason::PullFailed).await["count"], 5);
    assert_eq!(written.elapsed().as_secs(), ledger::PATCH_EVERY.as_secs());
    stage.server.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn each_reason_has_an_event_of_its_own_at_once() {
    let mut stage = Stage::new();
    let started = Instant::now();
    let reasons = [Reason::Pulling, Reason::Progress, Reason::Mounted];
    for reason in reasons {
        stage.report("u-1", reason, "x");
        assert_eq!(stage.created().await["reason"], reason.as_str());
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    stage.server.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_of_an_earlier_life_is_found_and_counted_on() {
    let mut stage = Stage::new();
    stage.report("u-1", Reason::Pulling, "again");
    stage.server.expect("POST", EVENTS).await.answer(409, &exists());
    let look = stage.server.expect("PATCH", &path(Reason::Pulling)).await;
    assert_eq!(*look.body(), json!({}));
    look.answer(200, &json!({ "metadata": {}, "involvedObject": {}, "count": 7 }));
    let patch = stage.patched(Reason::Pulling).await;
    assert_eq!((patch["count"].clone(), patch["message"].clone()), (json!(8), json!("again")));

    stage.report("u-1", Reason::Pulling, "once more");
    assert_eq!(stage.patched(Reason::Pulling).await["count"], 9);
    stage.server.nothing_more().await;
}

/// The server has done what it was asked, and the answer was lost: each in its turn.
#[tokio::test(start_paused = true)]
async fn what_was_written_by_a_call_without_an_answer_is_not_counted_twice() {
    let mut stage = Stage::new();
    stage.report("u-1", Reason::Pulling, "first");
    let unanswered = stage.server.expect("POST", EVENTS).await;
    let mut stored = unanswered.body().clone();
    drop(unanswered);
    stage.report("u-1", Reason::Pulling, "second");
    stage.server.expect("POST", EVENTS).await.answer(409, &exists());
    stage.server.expect("PATCH", &path(Reason::Pulling)).await.answer(200, &stored);
    assert_eq!(stage.patched(Reason::Pulling).await["count"], 2);

    // One of an earlier life, whose patch is lost.
    let mut stage = Stage::new();
    stage.report("u-1", Reason::Pulling, "again");
    stage.server.expect("POST", EVENTS).await.answer(409, &exists());
    (stored["count"], stored["firstTimestamp"]) = (json!(7), json!("2020-01-01T00:00:00Z"));
    stage.server.expect("PATCH", &path(Reason::Pulling)).await.answer(200, &stored);
    for _ in 0..3 {
        let patch = stage.server.expect("PATCH", &path(Reason::Pulling)).await;
        assert_eq!(patch.body()["count"], 8);
    }
    assert_eq!(stage.patched(Reason::Pulling).await["count"], 8);
    stage.server.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn one_namespaces_trouble_leaves_another_ones_events_their_turns() {
    let mut stage = Stage::new();
    for pod in 0..500 {
        stage.report(&format!("u-{pod}"), Reason::PullFailed, "x");
    }
    let mut other = subject("u-other");
    other.namespace = "other".to_owned();
    stage.events.report(&other, Reason::PullFailed, "y".to_owned());
    let mut before = 0;
    loop {
        let call = stage.server.next().await;
        let body = call.body().clone();
        call.answer(201, &body);
        if body["message"] == "y" {
            break;
        }
        before += 1;
    }
    assert!(before <= 2, "{before} of another namespace came first");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_has_expired_is_made_again() {
    let mut stage = Stage::new();
    stage.report("u-1", Reason::PullFailed, "first");
    stage.created().await;
    stage.report("u-1", Reason::PullFailed, "second");
    let patch = stage.server.expect("PATCH", &path(Reason::PullFailed)).await;
    patch.answer(404, &status(404, "NotFound", "events \"x\" not found"));
    let event = stage.created().await;
    assert_eq!((event["count"].clone(), event["message"].clone()), (json!(2), json!("second")));
    stage.server.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_the_newest_is_kept_and_told_later() {
    let mut stage = Stage::new();
    let started = Instant::now();
    stage.report("u-1", Reason::PullFailed, "first");
    let unavailable = status(503, "ServiceUnavailable", "starting");
    stage.server.expect("POST", EVENTS).await.answer(503, &unavailable);
    // One that hangs, and one that breaks.
    let hanging = stage.server.expect("POST", EVENTS).await;
    stage.report("u-1", Reason::PullFailed, "second");
    let broken = stage.server.expect("POST", EVENTS).await;
    assert!(started.elapsed() >= call_limit(), "{:?}", started.elapsed());
    drop((hanging, broken));
    let event = stage.created().await;
    assert_eq!((event["count"].clone(), event["message"].clone()), (json!(2), json!("second")));
    stage.server.nothing_more().await;
    assert_eq!((stage.counted("written"), stage.counted("failed"), stage.counted("dropped")), (1, 3, 0));
}

fn call_limit() -> Duration {
    Duration::from_secs(10)
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_told_for_ten_minutes_is_dropped() {
    let mut stage = Stage::new();
    stage.report("u-1", Reason::PullFailed, "x");
    let started = Instant::now();
    // One try follows the other within half a minute, until there is none any more.
    while let Ok(call) = tokio::time::timeout(Duration::from_secs(31), stage.server.next()).await {
        call.answer(503, &status(503, "ServiceUnavailable", "away"));
    }
    assert!(started.elapsed() > ledger::STALE, "{:?}", started.elapsed());
    stage.server.nothing_more().await;
    assert_eq!(stage.counted("dropped"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_forbids_is_left_out_and_the_others_are_told() {
    let mut stage = Stage::new();
    stage.report("u-1", Reason::Pulling, "x");
    stage.report("u-2", Reason::Pulling, "y");
    let forbidden = status(403, "Forbidden", "cannot create resource \"events\"");
    stage.server.expect("POST", EVENTS).await.answer(403, &forbidden);
    assert_eq!(stage.created().await["message"], "y");
    stage.server.nothing_more().await;
    assert_eq!((stage.counted("failed"), stage.counted("written")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_node_full_of_pods_tells_a_burst_and_then_five_a_second() {
    let mut stage = Stage::new();
    let started = Instant::now();
    for pod in 0..75 {
        stage.report(&format!("u-{pod}"), Reason::Mounted, "x");
    }
    for _ in 0..25 {
        stage.created().await;
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    for _ in 25..75 {
        stage.created().await;
    }
    assert_eq!(started.elapsed().as_secs(), 10);
    stage.server.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn reporting_never_waits_and_what_finds_the_queue_full_is_counted() {
    let mut stage = Stage::new();
    stage.report("u-first", Reason::Mounted, "x");
    let hanging = stage.server.expect("POST", EVENTS).await;
    // The writer waits for its answer and takes nothing from the queue.
    for pod in 0..QUEUE + 3 {
        stage.report(&format!("u-{pod}"), Reason::Mounted, "x");
    }
    assert_eq!(stage.counted("dropped"), 3);
    drop(hanging);
}

#[tokio::test(start_paused = true)]
async fn figures_are_not_written_after_the_volume_was_unpublished() {
    let mut stage = Stage::new();
    stage.report("u-1", Reason::Progress, "10 %");
    stage.created().await;
    stage.report("u-1", Reason::Progress, "20 %");
    let target = format!("/k/pods/u-1/volumes/kubernetes.io~csi/{}/mount", place("u-1").volume);
    stage.events.unpublished(std::path::Path::new(&target));
    stage.server.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_never_longer_than_kubernetes_keeps() {
    let mut stage = Stage::new();
    stage.report("u-1", Reason::Rejected, &"ä".repeat(4000));
    let event = stage.created().await;
    assert!(event["message"].as_str().unwrap().len() <= 1024);
}

#[tokio::test(start_paused = true)]
async fn the_writer_ends_with_the_process_also_in_the_middle_of_a_call() {
    let (client, mut server) = ApiServer::new();
    let (metrics, stop) = (Metrics::new(), CancellationToken::new());
    let (told, waiting) = mpsc::channel(QUEUE);
    let writing = tokio::spawn(Writer::new(client, "node-1", metrics.clone()).run(waiting, stop.clone()));
    let events = Events(Some(Queue { told, metrics }));
    events.report(&subject("u-1"), Reason::Mounted, "x".to_owned());
    let _hanging = server.expect("POST", EVENTS).await;
    stop.cancel();
    events.report(&subject("u-2"), Reason::Mounted, "x".to_owned());
    server.ended().await;
    writing.await.unwrap();
}

#[tokio::test]
async fn without_an_api_server_nothing_happens() {
    let events = Events::off();
    events.report(&subject("u-1"), Reason::Mounted, "x".to_owned());
    events.unpublished(std::path::Path::new("/k/pods/u-1/volumes/kubernetes.io~csi/model/mount"));
}
