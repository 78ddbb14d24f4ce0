//! What cannot be placed: a spec that is none, a name that is taken, a DaemonSet that the API server refuses.

use super::*;

#[tokio::test]
async fn a_daemon_set_of_somebody_else_is_left_alone() {
    let (registry, _) = registry().await;
    let object = object(spec_of(&registry.reference("models/llama", "v1")), None);
    let foreign = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "v1", "kind": "X", "name": "x", "uid": "another" },
    ] } });
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    server.answer(Method::GET, SET, 200, foreign).await;
    let (status, reasons) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    assert_eq!(condition(&status, "Cached")["reason"], "NameTaken");
    assert_eq!(reasons, ["Normal Resolved", "Warning NameTaken"]);
}

#[tokio::test]
async fn a_spec_that_is_none_is_told_and_not_tried_again() {
    let object = object(json!({ "volumeAttributes": { "refrence": "x" } }), None);
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    let (status, _) = told(&mut server, &object, 2).await;
    assert_eq!(step.end(server).await.unwrap(), Action::await_change());
    assert_eq!(
        condition(&status, "Cached")["status"],
        "False",
        "kubectl wait must not be told of an older spec"
    );
    let resolved = condition(&status, "Resolved");
    assert_eq!(resolved["reason"], "InvalidSpec");
    assert!(resolved["message"].as_str().unwrap().contains("refrence"), "{resolved}");
}

#[tokio::test]
async fn the_daemon_set_of_a_former_object_of_the_same_name_is_waited_for() {
    let (registry, _) = registry().await;
    let object = object(spec_of(&registry.reference("models/llama", "v1")), None);
    let former = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "stowage.dev/v1alpha1", "kind": "CachedArtifact", "name": "llama", "uid": "u-0" },
    ] } });
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    server.answer(Method::GET, SET, 200, former).await;
    let (status, _) = told(&mut server, &object, 2).await;
    assert_eq!(step.end(server).await.unwrap(), Action::requeue(SOON));
    let cached = condition(&status, "Cached");
    assert_eq!(cached["reason"], "NameTaken");
    assert!(cached["message"].as_str().unwrap().contains("in a moment"), "{cached}");
}

#[tokio::test]
async fn a_daemon_set_that_the_api_server_refuses_is_told_and_the_digest_is_kept() {
    for code in [403, 422] {
        let (registry, digest) = registry().await;
        let object = object(spec_of(&registry.reference("models/llama", "v1")), None);
        let (step, mut server) = Stepped::start(object.clone(), &[]);
        server.absent(Method::GET, SET).await;
        server.refuse(Method::PATCH, SET, code, "Invalid").await;
        let (status, reasons) = told(&mut server, &object, 2).await;
        assert_eq!(step.end(server).await.unwrap(), Action::requeue(LOOK_AGAIN[0]));
        assert_eq!(status["resolvedDigest"], digest.to_string());
        let cached = condition(&status, "Cached");
        assert_eq!(cached["reason"], "DaemonSetRefused");
        assert!(cached["message"].as_str().unwrap().contains("Invalid says the test"), "{cached}");
        assert_eq!(reasons, ["Normal Resolved", "Warning DaemonSetRefused"]);
    }
}

#[tokio::test]
async fn a_daemon_set_that_cannot_be_applied_now_is_tried_again() {
    for code in [409, 429, 500] {
        let (registry, _) = registry().await;
        let object = object(spec_of(&registry.reference("models/llama", "v1")), None);
        let (step, mut server) = Stepped::start(object, &[]);
        server.absent(Method::GET, SET).await;
        server.refuse(Method::PATCH, SET, code, "Later").await;
        assert!(step.end(server).await.is_err(), "{code}");
    }
}

#[tokio::test]
async fn what_is_late_says_nothing_of_a_new_object_of_the_same_name() {
    let object = object(json!({ "volumeAttributes": { "refrence": "x" } }), None);
    let (step, mut server) = Stepped::start(object, &[]);
    let patch = server.refuse(Method::PATCH, STATUS, 409, "Conflict").await;
    assert_eq!(patch.body["metadata"]["uid"], "u-1");
    step.end(server).await.unwrap();
}

#[tokio::test]
async fn pods_that_a_quota_keeps_from_being_made_are_a_failure() {
    let (registry, digest) = registry().await;
    let (object, wanted) = settled(&registry, &digest).await;
    let mut set = set(&wanted, 2, 1);
    set["metadata"]["name"] = json!("stowage-prefetch-llama");
    let (step, mut server) = Stepped::among(object.clone(), &[pod("1", "n1", &volume_of(&wanted), true)]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set).await;
    let event = json!({
        "metadata": {}, "involvedObject": { "kind": "DaemonSet" }, "reason": "FailedCreate",
        "message": "exceeded quota", "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    let asked = server.answer(Method::GET, EVENTS, 200, list("EventList", &[event])).await;
    let fields =
        "involvedObject.kind=DaemonSet,involvedObject.name=stowage-prefetch-llama,reason=FailedCreate";
    assert!(asked.query.contains(fields), "{}", asked.query);
    let (status, reasons) = told(&mut server, &object, 1).await;
    step.end(server).await.unwrap();
    assert_eq!(status["nodes"], json!({ "desired": 2, "updated": 2, "ready": 1, "failed": 1 }));
    assert_eq!(
        status["failures"][0],
        json!({ "node": "", "reason": "FailedCreate", "message": "exceeded quota" })
    );
    assert_eq!(reasons, ["Warning PullFailing"]);
}
