//! How often a registry is asked, and how long it may take.

use stowage_testkit::registry::RetryAfter;
use stowage_testkit::{Fault, Target};

use super::*;

/// The status after a tag was resolved long ago, with an interval that is over.
async fn overdue(registry: &Registry, digest: &Digest) -> (Value, Value) {
    let (mut object, wanted) = settled(registry, digest).await;
    object["spec"]["resolveInterval"] = json!("1m");
    object["status"]["resolvedAt"] = json!("2026-01-01T00:00:00Z");
    (object, wanted)
}

#[tokio::test]
async fn a_registry_that_has_no_answer_is_left_alone_for_as_long_as_it_asks() {
    let (registry, _) = registry().await;
    registry.faults().always(Target::Manifests, Fault::Status(429, RetryAfter::Seconds(200)));
    let mut object = object(spec_of(&registry.reference("models/llama", "v1")), None);
    let (context, mut server) = context(&[], &[]);
    let context = Arc::new(context);
    let step = Stepped::with(object.clone(), &context);
    let (status, _) = told(&mut server, &object, 2).await;
    step.0.await.unwrap().unwrap();
    let meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    let pause = |context: &Context| context.questions.left(&meta).map(|(left, _)| left);
    assert!(pause(&context) > Some(Duration::from_secs(100)), "{:?}", pause(&context));
    let resolved = condition(&status, "Resolved");
    assert_eq!(resolved["reason"], "RegistryUnavailable");
    assert!(!resolved["message"].as_str().unwrap().contains("200"), "a countdown: {resolved}");

    // Whatever wakes us before: nothing is asked, and nothing is written.
    registry.traffic().reset();
    object["status"] = status;
    let action = Stepped::with(object.clone(), &context).0.await.unwrap().unwrap();
    assert_ne!(action, Action::requeue(ASK_AGAIN[0]));
    assert_eq!(registry.traffic().requests().len(), 0);
    drop(context);
    server.done().await;
}

#[tokio::test]
async fn a_change_of_the_object_is_worth_a_question() {
    let (registry, _) = registry().await;
    let mut object = object(spec_of(&registry.reference("models/llama", "v9")), None);
    let (context, mut server) = context(&[], &[]);
    let context = Arc::new(context);
    let step = Stepped::with(object.clone(), &context);
    object["status"] = told(&mut server, &object, 2).await.0;
    step.0.await.unwrap().unwrap();
    registry.traffic().reset();
    object["metadata"]["generation"] = json!(3);
    let step = Stepped::with(object.clone(), &context);
    told(&mut server, &object, 0).await;
    step.0.await.unwrap().unwrap();
    assert_ne!(registry.traffic().requests().len(), 0);
    drop(context);
    server.done().await;
}

#[tokio::test]
async fn what_fails_is_not_due_each_second() {
    let (registry, digest) = registry().await;
    let (object, wanted) = overdue(&registry, &digest).await;
    registry.go_offline().await;
    let set = set(&wanted, 1, 1);
    let (step, mut server) = Stepped::among(object.clone(), &[pod("1", "n1", &volume_of(&wanted), true)]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set).await;
    let (status, _) = told(&mut server, &object, 2).await;
    assert_eq!(step.end(server).await.unwrap(), Action::requeue(ASK_AGAIN[0]));
    assert_eq!(condition(&status, "Resolved")["reason"], "RegistryUnavailable");
    assert_eq!(condition(&status, "Cached")["status"], "True");
}

#[tokio::test]
async fn a_silent_registry_ends_its_question_and_not_the_step() {
    let (registry, digest) = registry().await;
    let (object, wanted) = overdue(&registry, &digest).await;
    registry.faults().always(Target::Manifests, Fault::Silence);
    let set = set(&wanted, 1, 1);
    let (mut context, mut server) = context(&[], &[pod("1", "n1", &volume_of(&wanted), true)]);
    context.patience = Duration::from_millis(50);
    let step = Stepped::with(object.clone(), &Arc::new(context));
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set).await;
    let (status, _) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    let resolved = condition(&status, "Resolved");
    assert_eq!(resolved["reason"], "RegistryUnavailable");
    assert!(resolved["message"].as_str().unwrap().contains("did not answer"), "{resolved}");
    assert_eq!(status["resolvedDigest"], digest.to_string());
}

#[tokio::test]
async fn who_finds_its_namespaces_share_taken_looks_again_soon_and_has_handled_nothing() {
    let (registry, digest) = registry().await;
    let (mut known, wanted) = settled(&registry, &digest).await;
    let set = set(&wanted, 1, 1);
    let (context, mut server) = context(&[], &[pod("1", "n1", &volume_of(&wanted), true)]);
    let context = Arc::new(context);
    let taken: Vec<_> = std::iter::from_fn(|| context.slots.take("team")).collect();
    registry.traffic().reset();
    let new = object(spec_of(&registry.reference("models/llama", "v1")), None);
    let step = Stepped::with(new, &context);
    assert_eq!(step.0.await.unwrap().unwrap(), Action::requeue(SOON));

    known["metadata"]["generation"] = json!(3);
    known["spec"]["volumeAttributes"]["include"] = json!("*.gguf\n*.json");
    let step = Stepped::with(known.clone(), &context);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set).await;
    let (status, _) = told(&mut server, &known, 1).await;
    assert_eq!(step.0.await.unwrap().unwrap(), Action::requeue(SOON));
    assert_eq!(status["observedGeneration"], 2, "its size is still to be asked for");
    assert_eq!(registry.traffic().requests().len(), 0);
    drop((taken, context));
    server.done().await;
}

#[tokio::test]
async fn a_spec_that_was_broken_for_a_while_keeps_its_digest() {
    let (registry, digest) = registry().await;
    let (mut object, wanted) = settled(&registry, &digest).await;
    let good = object["spec"].clone();
    object["metadata"]["generation"] = json!(3);
    object["spec"]["volumeAttributes"]["refrence"] = json!("x");
    let (step, mut server) = Stepped::start(object.clone(), &[]);
    let (status, reasons) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    assert_eq!(reasons, ["Warning InvalidSpec", "Warning NotResolved"]);
    assert_eq!(status["resolvedDigest"], digest.to_string());

    let newer = artifacts::oras_files([("model.gguf", BlobData::generated(2, SIZE))]).build().unwrap();
    registry.push("models/llama", Some("v1"), &newer);
    object["status"] = status;
    object["metadata"]["generation"] = json!(4);
    object["spec"] = good;
    let set = set(&wanted, 1, 1);
    let (step, mut server) = Stepped::among(object.clone(), &[pod("1", "n1", &volume_of(&wanted), true)]);
    server.answer(Method::GET, SET, 200, set.clone()).await;
    server.answer(Method::PATCH, SET, 200, set).await;
    let (status, _) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    assert_eq!(status["resolvedDigest"], digest.to_string(), "the tag was resolved once and for all");
    assert_eq!(condition(&status, "Resolved")["status"], "True");
    assert_eq!(condition(&status, "Cached")["status"], "True");
}

#[tokio::test]
async fn nodes_are_looked_at_less_and_less_while_nothing_changes() {
    let (registry, digest) = registry().await;
    let (mut object, wanted) = settled(&registry, &digest).await;
    let set = set(&wanted, 1, 0);
    let (context, mut server) = context(&[], &[pod("1", "n1", &volume_of(&wanted), false)]);
    let context = Arc::new(context);
    let mut looks = Vec::new();
    for first in [true, false, false, false, false] {
        let step = Stepped::with(object.clone(), &context);
        server.answer(Method::GET, SET, 200, set.clone()).await;
        server.answer(Method::PATCH, SET, 200, set.clone()).await;
        for _ in 0..2 {
            server.answer(Method::GET, EVENTS, 200, list("EventList", &[])).await;
        }
        if first {
            object["status"] = told(&mut server, &object, 1).await.0;
        }
        looks.push(step.0.await.unwrap().unwrap());
    }
    assert_eq!(looks, [15, 30, 60, 120, 120].map(|seconds| Action::requeue(Duration::from_secs(seconds))));
    drop(context);
    server.done().await;
}
