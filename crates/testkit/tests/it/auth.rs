use std::time::Duration;

use serde_json::Value;
use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::Registry;
use stowage_testkit::registry::{Access, BearerOptions, Denial};

use crate::{blob_url, client};

fn digest() -> Digest {
    Digest::of(Algorithm::Sha256, b"x")
}

async fn token(registry: &Registry, user: Option<(&str, &str)>, scope: &str) -> (u16, Value) {
    let mut request = client(registry).get(format!("{}/token?service=s&scope={scope}", registry.origin()));
    if let Some((name, password)) = user {
        request = request.basic_auth(name, Some(password));
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn get(registry: &Registry, repository: &str, token: &Value) -> u16 {
    let request = client(registry).get(blob_url(registry, repository, &digest()));
    request.bearer_auth(token.as_str().unwrap()).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn basic_knows_users_repositories_and_the_public() {
    let registry = Registry::builder()
        .basic("root", "toor")
        .user_of("ada", "secret", &[("team/*", Access::Pull)])
        .public("public/*")
        .start()
        .await
        .unwrap();
    for repository in ["team/a", "other", "public/p"] {
        registry.put_blob(repository, &digest(), "x");
    }
    let cases = [
        ("team/a", Some(("ada", "secret")), 200),
        ("team/a", Some(("ada", "wrong")), 401),
        ("team/a", None, 401),
        ("other", Some(("ada", "secret")), 403),
        ("other", Some(("root", "toor")), 200),
        ("public/p", None, 200),
    ];
    for (repository, user, expected) in cases {
        let mut request = client(&registry).get(blob_url(&registry, repository, &digest()));
        if let Some((name, password)) = user {
            request = request.basic_auth(name, Some(password));
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{repository} {user:?}");
        assert_eq!(response.headers().contains_key("www-authenticate"), expected == 401);
    }
    let ping = client(&registry).get(format!("{}/v2/", registry.origin())).send().await.unwrap();
    assert_eq!(ping.headers()["www-authenticate"], r#"Basic realm="stowage-testkit""#);
}

#[tokio::test]
async fn bearer_tokens_hold_for_their_scope_and_their_time() {
    let registry = Registry::builder()
        .bearer(BearerOptions::default())
        .user_of("ada", "secret", &[("team/a", Access::Pull)])
        .public("public")
        .start()
        .await
        .unwrap();
    for repository in ["team/a", "team/b", "public"] {
        registry.put_blob(repository, &digest(), "x");
    }
    let plain = client(&registry).get(blob_url(&registry, "team/a", &digest())).send().await.unwrap();
    assert_eq!(plain.status(), 401);
    let challenge = plain.headers()["www-authenticate"].to_str().unwrap();
    let realm = format!(r#"Bearer realm="{}/token",service="stowage-testkit""#, registry.origin());
    assert_eq!(challenge, format!(r#"{realm},scope="repository:team/a:pull""#));

    assert_eq!(token(&registry, Some(("ada", "wrong")), "repository:team/a:pull").await.0, 401);
    let (_, answer) = token(&registry, Some(("ada", "secret")), "repository:team/a:pull").await;
    assert_eq!(answer["expires_in"], 300);
    assert_eq!(get(&registry, "team/a", &answer["token"]).await, 200);
    assert_eq!(get(&registry, "team/b", &answer["token"]).await, 403);
    registry.expire_tokens();
    assert_eq!(get(&registry, "team/a", &answer["token"]).await, 401);

    let (_, anonymous) = token(&registry, None, "repository:public:pull").await;
    assert_eq!(get(&registry, "public", &anonymous["token"]).await, 200);
    assert_eq!(registry.tokens_issued(), 2);

    let (_, again) = token(&registry, Some(("ada", "secret")), "repository:team/a:pull").await;
    registry.set_user("ada", "secret", Some(&[]));
    assert_eq!(get(&registry, "team/a", &again["token"]).await, 403);
}

#[tokio::test]
async fn token_answers_come_in_the_forms_that_registries_use() {
    let options = BearerOptions {
        lifetime: Duration::ZERO,
        says_expiry: false,
        access_token_key: true,
        denial: Denial::AtTokenEndpoint,
        ..BearerOptions::default()
    };
    let registry = Registry::builder()
        .bearer(options)
        .user_of("ada", "s", &[("a", Access::Pull)])
        .start()
        .await
        .unwrap();
    registry.put_blob("a", &digest(), "x");
    let (_, answer) = token(&registry, Some(("ada", "s")), "repository:a:pull").await;
    assert!(answer["expires_in"].is_null() && answer["token"].is_null());
    assert_eq!(get(&registry, "a", &answer["access_token"]).await, 401, "it expired at once");
    assert_eq!(token(&registry, Some(("ada", "s")), "repository:b:pull").await.0, 403);

    let identity = registry.identity_token("ada");
    let form = format!("grant_type=refresh_token&service=s&scope=repository:a:pull&refresh_token={identity}");
    let url = format!("{}/token", registry.origin());
    let header = "application/x-www-form-urlencoded";
    let response =
        client(&registry).post(&url).header("content-type", header).body(form).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let wrong = "grant_type=refresh_token&refresh_token=stolen";
    let refused =
        client(&registry).post(&url).header("content-type", header).body(wrong).send().await.unwrap();
    assert_eq!(refused.status(), 401);
}
