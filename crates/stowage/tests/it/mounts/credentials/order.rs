//! The order of the ways, and what a changed configuration file changes while the plugin runs.

use base64::engine::general_purpose::STANDARD;
use stowage_testkit::registry::Registry;
use tonic::Code;

use super::providers::Plugin;
use super::*;
use crate::harness::{LIMIT, scene};

/// The users that signed in since the last look.
fn users(registry: &Registry) -> Vec<String> {
    let mut users: Vec<String> = registry
        .traffic()
        .requests()
        .iter()
        .filter_map(|request| request.header("authorization")?.strip_prefix("Basic ").map(str::to_owned))
        .map(|pair| String::from_utf8(STANDARD.decode(pair).unwrap()).unwrap())
        .map(|pair| pair.split_once(':').unwrap().0.to_owned())
        .collect();
    users.dedup();
    registry.traffic().reset();
    users
}

#[test]
fn the_first_way_that_has_a_credential_counts_and_a_changed_file_counts_at_once() {
    scene(async |scene| {
        let mut builder = Registry::builder().basic("root", "root").tls();
        for user in ["secret", "rule", "plugin", "file"] {
            builder = builder.user(user, "pw");
        }
        let registry = builder.start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let docker = |user: &str| {
            json!({ "auths": { registry.host(): { "username": user, "password": "pw" } } }).to_string()
        };
        let file = scene.root().join("docker.json");
        std::fs::write(&file, docker("file")).unwrap();
        let plugin = Plugin::new(&scene, &registry);
        plugin.answers("plugin", "pw");
        let token = token("team", "default", "u-1", "a");
        registry.set_user("rule", &token, None);
        let rule = json!([{ "registries": [registry.host()], "audience": AUDIENCE, "mode": "direct", "username": "rule" }]);
        let mut credentials =
            json!({ "dockerConfig": file, "providers": plugin.section(), "tokenExchange": rule });
        let config = Config::new(&scene, &json!({ "credentials": credentials }));
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let request = || with_token(volume(&node, "team", "default", &always(&model)), &token);

        let mut with_secret = request();
        with_secret.secrets.insert(".dockerconfigjson".to_owned(), docker("secret"));
        served(&node, &with_secret, &model).await;
        assert_eq!(users(&registry), ["secret"]);
        // A secret for somewhere else is none.
        let mut elsewhere = request();
        let other = json!({ "auths": { "other.example": { "username": "x", "password": "y" } } });
        elsewhere.secrets.insert(".dockerconfigjson".to_owned(), other.to_string());
        served(&node, &elsewhere, &model).await;
        assert_eq!(users(&registry), ["rule"]);
        for (gone, next) in [("tokenExchange", "plugin"), ("providers", "file")] {
            credentials.as_object_mut().unwrap().remove(gone);
            config.write(&json!({ "credentials": credentials }));
            until_signed_in(&node, &registry, &request, &model, next).await;
        }
        credentials.as_object_mut().unwrap().remove("dockerConfig");
        config.write(&json!({ "credentials": credentials }));
        node_says(&node, "read again", 3).await;
        refused(&node, &request(), Code::Unauthenticated, "none was given").await;
        node.nothing_left().await;
    });
}

/// Publishes until this user is who signs in.
async fn until_signed_in(
    node: &Node,
    registry: &Registry,
    request: &impl Fn() -> PublishRequest,
    model: &Model,
    user: &str,
) {
    let started = std::time::Instant::now();
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    loop {
        ticks.tick().await;
        served(node, &request(), model).await;
        let users = users(registry);
        if users == [user] {
            return;
        }
        assert!(started.elapsed() < LIMIT, "{users:?} signed in, not {user}");
    }
}

/// Waits until the log has said something so often.
async fn node_says(node: &Node, words: &str, times: usize) {
    crate::harness::until(words, || node.log().matches(words).count() >= times).await;
}

#[test]
fn a_broken_file_changes_nothing_and_is_told_by_log_and_metric() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let strict = json!({ "policy": { "requireDigest": true } });
        let config = Config::new(&scene, &strict);
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let request = || volume(&node, "team", "default", &model.attributes());
        refused(&node, &request(), Code::PermissionDenied, "a digest is required").await;
        assert_eq!(node.count("stowage_configuration_valid").await, 1);

        config.write_text("apiVersion: config.stowage.dev/v1alpha1\nkind: NodeConfiguration\npolicies: {}\n");
        node.until_count("stowage_configuration_valid", |valid| valid == 0).await;
        refused(&node, &request(), Code::PermissionDenied, "a digest is required").await;
        let log = node.log();
        assert_eq!(log.matches("the changed configuration is not used").count(), 1, "{log}");
        assert!(log.contains("policies"), "{log}");

        // What can be taken is taken, what cannot is named.
        config.write(&json!({ "policy": { "requireDigest": false }, "limits": { "maxConnections": 3 } }));
        node.until_count("stowage_configuration_valid", |valid| valid == 1).await;
        served(&node, &request(), &model).await;
        assert!(
            node.log().contains("take effect at the next start: limits.maxConnections"),
            "{}",
            node.log()
        );
        config.write(&strict);
        node_says(&node, "read again", 2).await;
        refused(&node, &request(), Code::PermissionDenied, "a digest is required").await;
        node.nothing_left().await;
    });
}

#[test]
fn what_is_typed_beats_the_file_also_when_it_changes() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let config =
            Config::new(&scene, &json!({ "policy": { "allowedRegistries": ["nowhere.example/*"] } }));
        let node = scene
            .node()
            .registry(&registry)
            .arg("--config", config.path())
            .arg("--allowed-registries", format!("{}/team/*", registry.host()))
            .start()
            .await;
        let request = || volume(&node, "team", "default", &model.attributes());
        served(&node, &request(), &model).await;
        config.write(&json!({ "policy": { "allowedRegistries": ["elsewhere.example/*"] } }));
        node_says(&node, "read again", 1).await;
        served(&node, &request(), &model).await;
        node.nothing_left().await;
    });
}

#[test]
fn a_bad_file_at_the_start_ends_the_plugin_with_exit_code_64() {
    scene(async |scene| {
        let config = Config::new(&scene, &json!({}));
        config.write_text(
            "apiVersion: config.stowage.dev/v1alpha1\nkind: NodeConfiguration\nlimits: {maxConnection: 3}\n",
        );
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_stowage"))
            .args(["node", "--node-id", "n", "--config"])
            .arg(config.path())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("maxConnection") && said.contains("node.yaml"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    });
}

#[test]
fn the_schema_is_printed_and_says_what_is_reloadable() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stowage"))
        .args(["config", "schema"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let policy = &schema["$defs"]["PolicySection"]["properties"];
    assert_eq!(policy["requireDigest"]["x-reloadable"], true, "{policy}");
    let limits = &schema["$defs"]["LimitsSection"]["properties"];
    assert_eq!(limits["maxConnections"]["x-reloadable"], false, "{limits}");
}
