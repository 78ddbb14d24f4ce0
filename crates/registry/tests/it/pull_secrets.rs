//! From a pull secret to the user whom the registry sees.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use stowage_registry::{DockerConfig, RegistryError};
use stowage_testkit::Registry as Server;
use stowage_testkit::registry::{Access, BearerOptions};

use crate::stage::{SIZE, Stage, failure, open, options, reference, within};

/// The user of the last request that showed one.
fn shown_user(server: &Server) -> Option<String> {
    let requests = server.traffic().requests();
    let shown =
        requests.iter().rev().find_map(|request| request.header("authorization")?.strip_prefix("Basic "));
    let pair = String::from_utf8(STANDARD.decode(shown?).unwrap()).unwrap();
    Some(pair.split_once(':').unwrap().0.to_owned())
}

#[tokio::test]
async fn the_longest_key_that_covers_a_repository_gives_the_user() {
    let everyone = ["host", "team", "deep", "glob"];
    let builder = everyone.iter().fold(Server::builder().basic("root", "toor"), |builder, user| {
        builder.user_of(user, "secret", &[("*", Access::Pull)])
    });
    let stage = Stage::new(builder, options()).await;
    let host = stage.server.host();
    let glob = host.replacen("127.0", "127.*", 1);
    let auth = |user: &str| json!({"auth": STANDARD.encode(format!("{user}:secret"))});
    let config = |keys: &[(&str, &str)]| {
        let entries: serde_json::Map<_, _> =
            keys.iter().map(|(key, user)| ((*key).to_owned(), auth(user))).collect();
        DockerConfig::parse(json!({"auths": entries}).to_string().as_bytes()).unwrap()
    };
    let (team, deep) = (format!("{host}/team"), format!("https://{host}/team/deep"));
    let nested = config(&[(&host, "host"), (&team, "team"), (&deep, "deep"), ("ghcr.io", "root")]);
    let globbed = config(&[(&glob, "glob"), (&team, "team")]);
    let foreign = config(&[("ghcr.io", "root"), ("127.0.0.1", "host"), ("127.0.0.1:1", "host")]);
    let table = [
        (&nested, "other/model", Some("host")),
        (&nested, "team/model", Some("team")),
        (&nested, "team/deep/model", Some("deep")),
        (&globbed, "other/model", Some("glob")),
        (&globbed, "team/model", Some("team")),
        (&foreign, "team/model", None),
    ];
    for (config, name, user) in table {
        stage.server.traffic().reset();
        stage.server.put_blob(name, &stage.digest, stage.blob.clone());
        let credential = config.lookup(&reference(&stage.server, name));
        let repository = open(&stage.client, &stage.server, name, credential);
        if let Some(user) = user {
            assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE), "{name}");
            assert_eq!(shown_user(&stage.server).as_deref(), Some(user), "{name}");
        } else {
            let error = failure(repository.head_blob(&stage.digest)).await;
            assert!(matches!(error, RegistryError::Unauthenticated { .. }), "{error:?}");
            assert_eq!(shown_user(&stage.server), None);
        }
    }
}

#[tokio::test]
async fn every_form_of_a_pull_secret_opens_the_registry() {
    let builder = Server::builder().bearer(BearerOptions::default()).user("ada", "open:sesame");
    let stage = Stage::new(builder, options()).await;
    let host = stage.server.host();
    let auth = json!({"auth": STANDARD.encode("ada:open:sesame")});
    let identity = json!({"auth": "PHRva2VuPjo=", "identitytoken": stage.server.identity_token("ada")});
    let forms = [
        json!({"auths": {(host.clone()): auth.clone()}}),
        json!({"auths": {(host.clone()): {"username": "ada", "password": "open:sesame"}}}),
        json!({"auths": {(host.clone()): identity}}),
        json!({"auths": {(format!("http://{host}/v2/")): auth.clone()}}),
        json!({(host): auth}),
    ];
    for form in forms {
        let config = DockerConfig::parse(form.to_string().as_bytes()).unwrap();
        let repository = stage.signed_in(config.lookup(&stage.reference()));
        stage.server.expire_tokens();
        assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE), "{form}");
    }
}
