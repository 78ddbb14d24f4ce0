//! No token, no password made of one, and nothing that a plugin says is in logs, messages, events, metrics or the store.

use stowage_testkit::ApiServer;
use stowage_testkit::registry::Registry;
use tonic::Code;

use super::providers::Plugin;
use super::*;
use crate::harness::{scene, until};

const CANARY: &str = "canary-51c9";

#[test]
fn no_token_and_no_word_of_a_plugin_is_said_or_kept() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let other = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let theirs = Model::push(&other, REPOSITORY, "v1", 2, MIB);
        let plugin = Plugin::new(&scene, &other);
        // Before it is mended nothing is in force.
        plugin.break_file(&json!([{ "name": format!("NAME={CANARY}-variable"), "value": "x" }]));
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
        let api = ApiServer::start().await.unwrap();
        let log = "debug,stowage=trace,stowage_node=trace,stowage_volumes=trace,stowage_registry=trace";
        let node = scene
            .node()
            .registry(&registry)
            .registry(&other)
            .kubernetes(&api)
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
        for broken in [
            json!([{ "name": format!("NAME={CANARY}-variable"), "value": "x" }]),
            json!([{ "name": "NAME", format!("value={CANARY}-key"): "x" }]),
            json!([{ "name": "NAME", "value": [format!("{CANARY}-value")] }]),
            json!(format!("{CANARY}-all")),
        ] {
            plugin.break_file(&broken);
            said.push(refused(&node, &own(), Code::Unavailable, "ask the administrator").await);
        }
        plugin.configure(&json!(null), "");
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

        // An exchange that is refused, by an endpoint whose address holds a password.
        let mut sections = json!({ "credentials": { "tokenExchange": [{
            "registries": [registry.host()], "audience": AUDIENCE, "username": ROBOT,
            "endpoint": format!("https://{CANARY}-user:{CANARY}-password@{}/{CANARY}-path", registry.host()),
        }] } });
        config.write(&sections);
        node.until_count("stowage_configuration_valid", |valid| valid == 0).await;
        sections["credentials"]["tokenExchange"][0]["endpoint"] =
            json!(format!("{}/token?{CANARY}-query", registry.origin()));
        config.write(&sections);
        node.until_count("stowage_configuration_valid", |valid| valid == 1).await;
        registry.distrust_token(&good);
        let request = with_token(volume(&node, "team", "default", &always(&model)), &good);
        said.push(refused(&node, &request, Code::Unauthenticated, "does not accept").await);

        // What was sent as a password, in both of its forms.
        let mut words = vec![CANARY.to_owned(), good, bad];
        for request in registry.traffic().requests().iter().chain(&other.traffic().requests()) {
            if let Some(pair) = request.header("authorization").and_then(|sent| sent.strip_prefix("Basic ")) {
                let plain = base64::engine::general_purpose::STANDARD.decode(pair).unwrap();
                let plain = String::from_utf8(plain).unwrap();
                words.extend([pair.to_owned(), plain.split_once(':').unwrap().1.to_owned()]);
            }
        }
        assert!(words.iter().any(|word| word.starts_with("exchanged-")), "{}", words.len());
        let told = |words: &str| api.bodies().iter().filter(|body| body.contains(words)).count();
        for words in ["ask the administrator", "exit status: 7", "does not accept the token"] {
            until(&format!("an event says: {words}"), || told(words) > 0).await;
        }
        let said = said.into_iter().map(|status| ("an answer".to_owned(), status.message().into()));
        let events = ("an event".to_owned(), api.bodies().concat().into_bytes());
        nowhere(&node, &words, said.chain([events]).collect()).await;
        node.nothing_left().await;
    });
}

/// None of the words is in these places, in the log, the metrics or the store.
async fn nowhere(node: &Node, words: &[String], mut places: Vec<(String, Vec<u8>)>) {
    assert!(node.whole_log().contains("\"level\":\"DEBUG\""), "the log is as verbose as it can be");
    places.push(("the log".to_owned(), node.whole_log().into_bytes()));
    places.push(("the metrics".to_owned(), node.http("/metrics").await.1.into_bytes()));
    for file in node.files("") {
        let bytes = std::fs::read(node.store().join(&file)).unwrap_or_default();
        places.push((file.display().to_string(), bytes));
    }
    for (name, text) in places {
        for word in words {
            let held = text.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!held, "{name} holds {word}");
        }
    }
}
