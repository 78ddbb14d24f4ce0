//! Private registries, and secrets that the controller may or may not read.

use super::*;

/// A registry that lets nobody in without the password.
async fn private() -> (Registry, Digest) {
    fill(Registry::builder().basic("robot", "hunter2").start().await.unwrap())
}

fn with_secret(reference: &str) -> Value {
    json!({ "volumeAttributes": { "reference": reference }, "pullSecretRef": { "name": "pull" } })
}

#[tokio::test]
async fn a_private_tag_wants_a_secret_that_the_controller_may_read() {
    let (registry, digest) = private().await;
    let spec = with_secret(&registry.reference("models/llama", "v1"));
    let object = object(spec, None);
    let (step, mut server) = Stepped::start(object.clone(), &["other"]);
    let (status, reasons) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    assert_eq!(condition(&status, "Resolved")["reason"], "SecretAccessDenied");
    assert_eq!(reasons[0], "Warning SecretAccessDenied");

    let config = json!({ "auths": { registry.host(): { "username": "robot", "password": "hunter2" } } });
    let secret = json!({
        "metadata": { "name": "pull" },
        "data": { ".dockerconfigjson": base64_of(&config.to_string()) },
    });
    let (step, mut server) = Stepped::start(object.clone(), &["team"]);
    server.answer(Method::GET, SECRET, 200, secret).await;
    server.absent(Method::GET, SET).await;
    server.answer(Method::PATCH, SET, 200, json!({ "metadata": { "generation": 1 } })).await;
    let (status, _) = told(&mut server, &object, 1).await;
    step.end(server).await.unwrap();
    assert_eq!(status["resolvedDigest"], digest.to_string());
    assert!(!status.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_private_digest_goes_on_without_the_secret() {
    let (registry, digest) = private().await;
    let pinned = registry.pinned("models/llama", &digest);
    let object = object(with_secret(&pinned), None);
    // Listed, and the RoleBinding is missing.
    let (step, mut server) = Stepped::start(object.clone(), &["team"]);
    server.refuse(Method::GET, SECRET, 403, "Forbidden").await;
    server.absent(Method::GET, SET).await;
    let apply = server.answer(Method::PATCH, SET, 200, json!({ "metadata": { "generation": 1 } })).await;
    let (status, _) = told(&mut server, &object, 1).await;
    step.end(server).await.unwrap();
    assert_eq!(condition(&status, "Resolved")["reason"], "DigestGiven");
    assert_eq!((&status["resolvedReference"], &status["sizeBytes"]), (&json!(pinned), &Value::Null));
    let csi = &apply.body["spec"]["template"]["spec"]["volumes"][0]["csi"];
    assert_eq!(csi["nodePublishSecretRef"]["name"], "pull");
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named() {
    let (registry, _) = registry().await;
    let object = object(with_secret(&registry.reference("models/llama", "v1")), None);
    let (step, mut server) = Stepped::start(object.clone(), &["team"]);
    server.absent(Method::GET, SECRET).await;
    let (status, _) = told(&mut server, &object, 2).await;
    step.end(server).await.unwrap();
    let resolved = condition(&status, "Resolved");
    assert_eq!(resolved["reason"], "SecretNotFound");
    assert!(resolved["message"].as_str().unwrap().contains("secret pull"), "{resolved}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_decoded_stays_out_of_logs_and_status() {
    let (registry, _) = registry().await;
    let object = object(with_secret(&registry.reference("models/llama", "v1")), None);
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    // Twice: other tests run beside this one, and what they make known to tracing while a subscriber comes may miss it.
    for _ in 0..2 {
        tracing::callsite::rebuild_interest_cache();
        let (step, mut server) = Stepped::start(object.clone(), &["team"]);
        let broken = json!({ "metadata": { "name": "pull" }, "data": "hunter2" });
        server.answer(Method::GET, SECRET, 200, broken).await;
        let (status, _) = told(&mut server, &object, 2).await;
        step.end(server).await.unwrap();
        assert_eq!(condition(&status, "Resolved")["reason"], "InvalidSecret");
        assert!(!status.to_string().contains("hunter2"));
    }
    let written = log.0.lock().unwrap().join("\n");
    assert!(written.contains("InvalidSecret"), "the log was not read");
    assert!(!written.contains("hunter2"), "{written}");
}

/// Everything that is logged in this thread.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut log = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            log.push(format!("{field}={value:?}"));
        });
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn base64_of(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec()))
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}
