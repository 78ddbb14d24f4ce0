//! Service account tokens: exchanged for a password, or as the password.

use stowage_testkit::registry::{BearerOptions, Registry};
use stowage_testkit::{Fault, Target};
use tonic::Code;

use super::*;
use crate::harness::scene;

fn exchange(registry: &Registry, endpoint: &Registry) -> Value {
    json!({ "credentials": { "tokenExchange": [{
        "registries": [registry.host()], "audience": AUDIENCE,
        "endpoint": format!("{}/token", endpoint.origin()), "username": ROBOT,
    }] } })
}

/// Tokens that an endpoint was sent.
fn exchanges(endpoint: &Registry) -> usize {
    endpoint.traffic().count(|request| request.method.as_str() == "POST" && request.path == "/token")
}

#[test]
fn an_exchanged_token_opens_what_its_service_account_may_read_and_nothing_else() {
    for builder in
        [Registry::builder().basic("root", "root"), Registry::builder().bearer(BearerOptions::default())]
    {
        scene(async move |scene| {
            let registry = accounts(builder).start().await.unwrap();
            let model = Model::push(&registry, REPOSITORY, "v1", 1, 2 * MIB);
            let config = Config::new(&scene, &exchange(&registry, &registry));
            let mut node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
            let first = token("team", "default", "u-1", "first");
            registry.trust_token(&first, ROBOT);
            let own = |node: &Node| volume(node, "team", "default", &model.attributes());
            served(&node, &with_token(own(&node), &first), &model).await;
            let (once, proofs) = (registry.bytes_served(&model.file), heads(&registry));
            assert_eq!(once, 2 * MIB);

            // A rotated token of the same service account: what was granted stays granted, also after a restart.
            let second = token("team", "default", "u-1", "second");
            refused(&node, &with_token(own(&node), &second), Code::Unauthenticated, "does not accept").await;
            registry.trust_token(&second, ROBOT);
            registry.distrust_token(&first);
            served(&node, &with_token(own(&node), &second), &model).await;
            node.restart().await;
            served(&node, &with_context_token(own(&node), &second), &model).await;
            assert_eq!(heads(&registry), proofs, "a proof was asked for");
            // A revoked one.
            refused(&node, &with_token(own(&node), &first), Code::Unauthenticated, &model.reference).await;

            // Another service account, another namespace: a proof of its own, or nothing.
            for (namespace, account, uid) in
                [("team", "other", "u-2"), ("evil", "default", "u-3"), ("team", "default", "u-4")]
            {
                let foreign = token(namespace, account, uid, "x");
                let request = with_token(volume(&node, namespace, account, &model.attributes()), &foreign);
                refused(&node, &request, Code::Unauthenticated, "does not accept").await;
                let request = with_token(volume(&node, namespace, account, &never(&model)), &foreign);
                refused(&node, &request, Code::PermissionDenied, "Never").await;
            }
            let other = token("team", "other", "u-2", "x");
            registry.trust_token(&other, ROBOT);
            served(&node, &with_token(volume(&node, "team", "other", &model.attributes()), &other), &model)
                .await;
            assert_eq!(heads(&registry), proofs + 1, "the one proof");
            assert_eq!(registry.bytes_served(&model.file), once, "a second download");

            // A pod without any token.
            refused(&node, &own(&node), Code::Unauthenticated, "tokenRequests").await;
            node.nothing_left().await;
        });
    }
}

#[test]
fn a_forged_token_is_never_sent_and_reaches_nobodys_grants() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let config = Config::new(&scene, &exchange(&registry, &registry));
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let good = token("team", "default", "u-1", "good");
        registry.trust_token(&good, ROBOT);
        served(&node, &with_token(volume(&node, "team", "default", &model.attributes()), &good), &model)
            .await;

        let asked = exchanges(&registry);
        for attributes in [&model.attributes()[..], &never(&model), &always(&model)] {
            // The victim's own token, which would be accepted, in a pod of somebody else.
            for (namespace, account) in [("evil", "default"), ("team", "other")] {
                let thief = || volume(&node, namespace, account, attributes);
                for stolen in [with_token(thief(), &good), with_context_token(thief(), &good)] {
                    refused(&node, &stolen, Code::Unauthenticated, "is not one of the pod's").await;
                }
            }
            // Words that kubelet overwrites cannot be forged; what is no token at all is no better.
            let mut nonsense = volume(&node, "evil", "default", attributes);
            nonsense.volume_context.insert(TOKENS.to_owned(), "{\"canary".to_owned());
            let status = refused(&node, &nonsense, Code::Unauthenticated, "kubelet").await;
            assert!(!status.message().contains("canary"), "{status}");
        }
        assert_eq!(exchanges(&registry), asked, "a stranger's token was sent");

        // Claims to fit, with nobody's signature: the endpoint refuses them, and the pod has no grants.
        let forged = token("evil", "default", "u-1", "forged");
        let thief = |attributes: &[(&str, &str)]| volume(&node, "evil", "default", attributes);
        let status = with_context_token(thief(&model.attributes()), &forged);
        refused(&node, &status, Code::Unauthenticated, "does not accept").await;
        refused(&node, &with_context_token(thief(&never(&model)), &forged), Code::PermissionDenied, "Never")
            .await;
        // Where kubelet sends tokens in secrets, those in the context are the author's and count for nothing.
        let own = token("evil", "default", "u-9", "own");
        let both = with_context_token(with_token(thief(&model.attributes()), &own), &good);
        refused(&node, &both, Code::Unauthenticated, "does not accept").await;
        node.nothing_left().await;
    });
}

#[test]
fn a_token_that_is_the_password_itself_works_the_same() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let config = Config::new(
            &scene,
            &json!({ "credentials": { "tokenExchange": [{
            "registries": [registry.host()], "audience": AUDIENCE, "mode": "direct", "username": ROBOT,
        }] } }),
        );
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let [first, second] = ["a", "b"].map(|salt| token("team", "default", "u-1", salt));
        registry.set_password(ROBOT, &first);
        let own = |attributes: &[(&str, &str)]| volume(&node, "team", "default", attributes);
        served(&node, &with_token(own(&model.attributes()), &first), &model).await;
        let proofs = heads(&registry);
        // Rotated: the registry takes the new one, and the old one no more.
        registry.set_password(ROBOT, &second);
        served(&node, &with_token(own(&always(&model)), &second), &model).await;
        assert_eq!(heads(&registry), proofs);
        refused(&node, &with_token(own(&always(&model)), &first), Code::Unauthenticated, &registry.host())
            .await;
        // Another service account with a token that the registry does not take.
        let other = token("team", "other", "u-2", "a");
        let request = with_token(volume(&node, "team", "other", &model.attributes()), &other);
        refused(&node, &request, Code::Unauthenticated, &registry.host()).await;
        node.nothing_left().await;
    });
}

#[test]
fn an_endpoint_is_reached_by_the_rules_for_strangers_and_asked_again_while_it_is_not_there() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let endpoint = accounts(Registry::builder()).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let config = Config::new(&scene, &exchange(&registry, &endpoint));
        // Its authority is trusted, and it is not listed: it is on loopback.
        let pem = scene.root().join("endpoint.pem");
        std::fs::write(&pem, endpoint.ca_pem().unwrap()).unwrap();
        let node =
            scene.node().registry(&registry).arg("--config", config.path()).arg("--ca", &pem).start().await;
        let own = token("team", "default", "u-1", "own");
        let request = || with_token(volume(&node, "team", "default", &model.attributes()), &own);
        let status = refused(&node, &request(), Code::PermissionDenied, "an administrator can list").await;
        assert!(status.message().contains(&endpoint.host()), "{status}");
        assert!(endpoint.traffic().connections().is_empty(), "it was talked to");
        for address in [
            "https://169.254.169.254/token",
            "https://[fd00:ec2::254]/",
            "https://[::ffff:127.0.0.1]/",
            "https://0.0.0.0/",
            "https://metadata.google.internal/token",
        ] {
            let mut sections = exchange(&registry, &endpoint);
            sections["credentials"]["tokenExchange"][0]["endpoint"] = json!(address);
            config.write(&sections);
            let host = address.trim_start_matches("https://").split('/').next().unwrap();
            let host = if host.contains("ffff") { "[::ffff:7f00:1]" } else { host };
            until_refused(&node, request, host).await;
        }
        node.nothing_left().await;
    });

    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let config = Config::new(&scene, &exchange(&registry, &registry));
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let own = token("team", "default", "u-1", "own");
        registry.trust_token(&own, ROBOT);
        let request = || with_token(volume(&node, "team", "default", &model.attributes()), &own);
        // It fails twice and answers then.
        let rule = registry.faults().next(2, Target::Token, Fault::status(503));
        let first = request();
        let mounted = publish(&node, &first).await;
        assert_eq!(registry.faults().struck(rule), 2);
        // It is redirected: whoever gets the form has the token.
        registry.faults().next(1, Target::Token, Fault::Redirect(format!("{}/token?x", registry.origin())));
        refused_beside(&node, &request(), Code::PermissionDenied, "sends tokens elsewhere").await;
        // What is mounted is not asked for again.
        let asked = exchanges(&registry);
        node.plugin().publish(&first).await.unwrap();
        assert_eq!(exchanges(&registry), asked);
        node.plugin().unpublish(&mounted).await.unwrap();
        node.nothing_left().await;
    });
}

#[test]
fn what_is_granted_and_cached_is_mounted_while_the_endpoint_is_away() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let missing = Model::push(&registry, REPOSITORY, "v2", 2, MIB);
        let config = Config::new(&scene, &exchange(&registry, &registry));
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let own = token("team", "default", "u-1", "own");
        registry.trust_token(&own, ROBOT);
        let request =
            |attributes: &[(&str, &str)]| with_token(volume(&node, "team", "default", attributes), &own);
        served(&node, &request(&model.attributes()), &model).await;
        let away = registry.faults().always(Target::Token, Fault::status(503));
        served(&node, &request(&model.attributes()), &model).await;
        // What the registry would have to be asked for waits, and says for whom.
        let word = "exchange the service account's token";
        refused(&node, &request(&missing.attributes()), Code::Unavailable, word).await;
        // Nobody else's grants count in the meantime.
        let other = token("team", "other", "u-2", "own");
        let stranger = with_token(volume(&node, "team", "other", &model.attributes()), &other);
        refused(&node, &stranger, Code::Unavailable, "answers 503").await;
        registry.faults().remove(away);
        served(&node, &request(&missing.attributes()), &missing).await;
        node.nothing_left().await;
    });
}

/// Publishes until the changed configuration is in force.
async fn until_refused(node: &Node, request: impl Fn() -> PublishRequest, host: &str) {
    let started = std::time::Instant::now();
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let status = node.plugin().publish(&request()).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        if status.message().contains(host) && status.message().contains("an administrator can list") {
            return;
        }
        assert!(started.elapsed() < crate::harness::LIMIT, "{host} not in: {status}");
    }
}

/// Refused, while another volume is mounted.
async fn refused_beside(node: &Node, request: &PublishRequest, code: Code, word: &str) {
    let status = node.plugin().publish(request).await.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(word), "{word} not in: {status}");
    assert!(!request.target.exists());
}
