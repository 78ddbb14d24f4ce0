use super::*;
use crate::api_server::{ApiServer, list};
use crate::events::Reason;

const PODS: &str = "/api/v1/namespaces/ns/pods";
const EVENTS: &str = "/api/v1/namespaces/ns/events";

pub(crate) fn stage(server: &ApiServer) -> Stage {
    let client = server.client();
    Stage {
        namespace: "ns".into(),
        restricted: "ns-restricted".into(),
        run: "run-1".into(),
        scenario: "test",
        image: "img:1".into(),
        driver: "csi.stowage.dev".into(),
        version: (1, 33),
        registry: Registry::for_tests(client.clone()),
        plugin: Plugin::for_tests(client.clone()),
        client,
    }
}

fn pod(phase: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "test-r", "uid": "u" },
        "status": { "phase": phase },
    })
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_started_marked_and_waited_for() {
    let server = ApiServer::new();
    let stage = stage(&server);
    let reader = Reader::inline("r", "10.0.0.1:5000/a:v1").on("node-1");
    let (read, ()) = tokio::join!(stage.reads(&reader), async {
        let made = server.expect("POST", PODS).await;
        assert_eq!(made.body()["metadata"]["labels"][labels::RUN], "run-1");
        assert_eq!(made.body()["metadata"]["labels"][labels::SCENARIO], "test");
        assert_eq!(made.body()["spec"]["containers"][0]["image"], "img:1");
        made.echo();
        server.expect("GET", &format!("{PODS}/test-r")).await.answer(200, &pod("Pending"));
        server.expect("GET", EVENTS).await.answer(200, &list("EventList", &[]));
        server.expect("GET", &format!("{PODS}/test-r")).await.refuse(503, "ServiceUnavailable", "busy");
        server.expect("GET", &format!("{PODS}/test-r")).await.answer(200, &pod("Succeeded"));
    });
    read.unwrap();
    server.nothing_more();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fails_ends_the_wait_with_its_own_words() {
    let server = ApiServer::new();
    let stage = stage(&server);
    let (read, ()) = tokio::join!(stage.succeeds("r", SMALL), async {
        server.expect("GET", &format!("{PODS}/test-r")).await.answer(200, &pod("Failed"));
        let log = server.expect("GET", &format!("{PODS}/test-r/log")).await;
        assert!(log.query().contains("tailLines=1"), "{}", log.query());
        log.text(200, "stowage: a.txt has other bytes\n");
    });
    let error = read.unwrap_err().to_string();
    assert!(error.ends_with("its log ends with: stowage: a.txt has other bytes"), "{error}");
    server.nothing_more();
}

#[tokio::test(start_paused = true)]
async fn an_event_is_looked_for_among_those_of_the_very_pod() {
    let server = ApiServer::new();
    let stage = stage(&server);
    let about: Pod = serde_json::from_value(pod("Pending")).unwrap();
    let event = json!({
        "metadata": { "name": "e" }, "involvedObject": {}, "source": { "component": "stowage" },
        "reason": "ArtifactNotFound", "message": "a:v9 is not there",
    });
    let (found, ()) = tokio::join!(stage.event(&about, Reason::NotFound, &["a:v9"]), async {
        let empty = server.expect("GET", EVENTS).await;
        assert!(empty.query().contains("involvedObject.uid%3Du"), "{}", empty.query());
        empty.answer(200, &list("EventList", &[]));
        let call = server.expect("GET", EVENTS).await;
        call.answer(200, &list("EventList", &[event]));
    });
    assert_eq!(found.unwrap().message.as_deref(), Some("a:v9 is not there"));
    server.nothing_more();
}

#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_come_is_given_up_on_with_those_that_did() {
    let server = ApiServer::new();
    let stage = stage(&server);
    let about: Pod = serde_json::from_value(pod("Pending")).unwrap();
    let other = json!({
        "metadata": { "name": "e" }, "involvedObject": {}, "source": { "component": "stowage" },
        "reason": "ArtifactPullFailed", "message": "connection refused",
    });
    let words = ["a:v9"];
    let waited = stage.event_within(&about, Reason::NotFound, &words, Duration::from_secs(2));
    let (found, ()) = tokio::join!(waited, async {
        for _ in 0..3 {
            server.next().await.answer(200, &list("EventList", std::slice::from_ref(&other)));
        }
    });
    let error = found.unwrap_err().to_string();
    assert!(error.contains("ArtifactNotFound") && error.contains("connection refused"), "{error}");
}

fn ours(reason: &str, message: &str, count: i32) -> Value {
    json!({
        "metadata": { "name": "e" }, "involvedObject": {}, "source": { "component": "stowage" },
        "reason": reason, "message": message, "count": count,
    })
}

#[tokio::test(start_paused = true)]
async fn a_reader_for_whose_volume_there_is_no_room_is_not_waited_for() {
    let server = ApiServer::new();
    let stage = stage(&server);
    let (read, ()) = tokio::join!(stage.succeeds("r", SMALL), async {
        server.expect("GET", &format!("{PODS}/test-r")).await.answer(200, &pod("Pending"));
        let full = ours("ArtifactNoSpace", "2 GiB are needed", 1);
        server.expect("GET", EVENTS).await.answer(200, &list("EventList", &[full]));
    });
    let error = read.unwrap_err().to_string();
    assert!(error.ends_with("ArtifactNoSpace: 2 GiB are needed"), "{error}");
    server.nothing_more();
}

#[tokio::test(start_paused = true)]
async fn one_refusal_is_not_enough_and_a_pod_that_starts_was_not_refused() {
    for (phase, holds) in [("Pending", true), ("Running", false)] {
        let server = ApiServer::new();
        let stage = stage(&server);
        let about: Pod = serde_json::from_value(pod("Pending")).unwrap();
        let (refused, ()) =
            tokio::join!(stage.stays_refused(&about, Reason::AccessDenied, &["a:v1"]), async {
                let denied = |count| list("EventList", &[ours("ArtifactAccessDenied", "a:v1", count)]);
                server.expect("GET", &format!("{PODS}/test-r")).await.answer(200, &pod("Pending"));
                server.expect("GET", EVENTS).await.answer(200, &denied(1));
                server.expect("GET", &format!("{PODS}/test-r")).await.answer(200, &pod(phase));
                if holds {
                    server.expect("GET", EVENTS).await.answer(200, &denied(2));
                }
            });
        assert_eq!(refused.is_ok(), holds, "{refused:?}");
        server.nothing_more();
    }
}

#[tokio::test]
async fn a_reader_without_a_place_is_put_on_a_node_with_a_ready_plugin() {
    let server = ApiServer::new();
    let stage = stage(&server);
    let reader = Reader::inline("r", "10.0.0.1:5000/a:v1");
    let (started, ()) = tokio::join!(stage.start(&reader), async {
        let plugin = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
            "spec": { "nodeName": "worker", "containers": [] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        let call = server.expect("GET", "/api/v1/namespaces/system/pods").await;
        call.answer(200, &list("PodList", &[plugin]));
        let made = server.expect("POST", PODS).await;
        assert_eq!(made.body()["metadata"]["name"], "test-r");
        assert!(made.body()["spec"]["affinity"].to_string().contains("\"worker\""), "{}", made.body());
        made.echo();
    });
    started.unwrap();
    server.nothing_more();
}

#[tokio::test(start_paused = true)]
async fn rounds_are_read_from_the_end_of_the_log() {
    let server = ApiServer::new();
    let stage = stage(&server);
    let (rounds, ()) = tokio::join!(stage.rounds("r", 5), async {
        for line in ["", "{\"round\":4}\n", "{\"round\":6}\n"] {
            server.expect("GET", &format!("{PODS}/test-r")).await.answer(200, &pod("Running"));
            server.expect("GET", &format!("{PODS}/test-r/log")).await.text(200, line);
        }
    });
    assert_eq!(rounds.unwrap(), 6);
    server.nothing_more();
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_ended_when_it_is_gone() {
    let server = ApiServer::new();
    let stage = stage(&server);
    let (ended, ()) = tokio::join!(stage.ends("r"), async {
        server.expect("DELETE", &format!("{PODS}/test-r")).await.answer(200, &pod("Running"));
        server.expect("GET", &format!("{PODS}/test-r")).await.answer(200, &pod("Running"));
        server.expect("GET", &format!("{PODS}/test-r")).await.refuse(404, "NotFound", "gone");
    });
    ended.unwrap();
    server.nothing_more();
}

#[tokio::test]
async fn a_secret_names_the_private_registry() {
    let server = ApiServer::new();
    let stage = stage(&server);
    let (made, ()) = tokio::join!(stage.secret("s", "ada", "pw"), async {
        let call = server.expect("POST", "/api/v1/namespaces/ns/secrets").await;
        assert_eq!(call.body()["metadata"]["name"], "test-s");
        let text = call.body()["stringData"][".dockerconfigjson"].as_str().unwrap().to_owned();
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["auths"]["10.96.0.9:5001"], json!({ "username": "ada", "password": "pw" }));
        call.echo();
    });
    made.unwrap();
    server.nothing_more();
}
