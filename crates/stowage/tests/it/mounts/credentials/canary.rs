//! No token, no password made of one, and nothing that a plugin says is in logs, messages, metrics or the store.

use stowage_testkit::registry::Registry;
use tonic::Code;

use super::providers::Plugin;
use super::*;
use crate::harness::scene;

const CANARY: &str = "canary-51c9";

#[test]
fn no_token_and_no_word_of_a_plugin_is_said_or_kept() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let other = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let theirs = Model::push(&other, REPOSITORY, "v1", 2, MIB);
        let plugin = Plugin::new(&scene, &other);
        let config = Config::new(
            &scene,
            &json!({ "credentials": {
            "providers": plugin.section(),
            "tokenExchange": [{
                "registries": [registry.host()], "audience": AUDIENCE,
                "endpoint": format!("{}/token", registry.origin()), "username": ROBOT,
            }],
        } }),
        );
        let log = "debug,stowage=trace,stowage_node=trace,stowage_volumes=trace,stowage_registry=trace";
        let node = scene
            .node()
            .registry(&registry)
            .registry(&other)
            .arg("--config", config.path())
            .arg("--log", log)
            .start()
            .await;
        let mut said = Vec::new();
        let good = token("team", "default", "u-1", &format!("{CANARY}-token"));
        registry.trust_token(&good, ROBOT);
        served(&node, &with_token(volume(&node, "team", "default", &model.attributes()), &good), &model)
            .await;
        let bad = token("team", "default", "u-1", &format!("{CANARY}-bad"));
        let request = with_token(volume(&node, "team", "default", &model.attributes()), &bad);
        said.push(refused(&node, &request, Code::Unauthenticated, "does not accept").await);
        let request = with_token(volume(&node, "evil", "default", &model.attributes()), &good);
        said.push(refused(&node, &request, Code::Unauthenticated, "is not one of").await);

        let own = || volume(&node, "team", "default", &theirs.attributes());
        plugin.answers("ada", &format!("{CANARY}-wrong"));
        said.push(refused(&node, &own(), Code::Unauthenticated, &other.host()).await);
        plugin.configure(&json!(null), &format!("echo {CANARY}-stderr >&2; echo {CANARY}-stdout;"));
        said.push(refused(&node, &own(), Code::Unavailable, "`plugin`").await);
        plugin.configure(&json!(null), &format!("echo {CANARY}-stdout; exit 7;"));
        said.push(refused(&node, &own(), Code::Unavailable, "exit status: 7").await);
        other.set_password("ada", &format!("{CANARY}-right"));
        plugin.configure(&json!(null), "");
        plugin.answers("ada", &format!("{CANARY}-right"));
        served(&node, &own(), &theirs).await;

        let mut words = vec![CANARY.to_owned(), good, bad];
        // What was sent as a password, in both of its forms.
        for request in registry.traffic().requests().iter().chain(&other.traffic().requests()) {
            if let Some(pair) = request.header("authorization").and_then(|sent| sent.strip_prefix("Basic ")) {
                let plain = base64::engine::general_purpose::STANDARD.decode(pair).unwrap();
                let plain = String::from_utf8(plain).unwrap();
                words.extend([pair.to_owned(), plain.split_once(':').unwrap().1.to_owned()]);
            }
        }
        assert!(words.iter().any(|word| word.starts_with("exchanged-")), "{}", words.len());
        assert!(node.whole_log().contains("\"level\":\"DEBUG\""), "the log is as verbose as it can be");
        let mut places: Vec<(String, Vec<u8>)> = vec![
            ("the log".to_owned(), node.whole_log().into_bytes()),
            ("the metrics".to_owned(), node.http("/metrics").await.1.into_bytes()),
        ];
        places.extend(said.into_iter().map(|status| ("an answer".to_owned(), status.message().into())));
        for file in node.files("") {
            let bytes = std::fs::read(node.store().join(&file)).unwrap_or_default();
            places.push((file.display().to_string(), bytes));
        }
        for (name, text) in places {
            for word in &words {
                let held = text.windows(word.len()).any(|window| window == word.as_bytes());
                assert!(!held, "{name} holds {word}");
            }
        }
        node.nothing_left().await;
    });
}
