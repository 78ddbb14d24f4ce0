//! The registry is asked whether this pod may read, whoever delivers.

use http::Method;
use stowage_registry::{Credential, RegistryError};
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::registry::{Access, BearerOptions, RegistryBuilder, Rule};
use stowage_testkit::{Fault, Registry as Server, Target};

use super::{Scene, digest_of};
use crate::stage::{NAME, ada, failure, shows_authorization, within};

async fn locked(upstream: RegistryBuilder) -> Scene {
    let upstream =
        upstream.user("ada", "open sesame").user_of("eve", "let me in", &[("eve/*", Access::Pull)]);
    let scene = Scene::with(upstream, vec![Server::builder()], |_| {}).await;
    scene.write_all();
    scene
}

fn eve() -> Credential {
    Credential::password("eve", "let me in")
}

#[tokio::test]
async fn a_mirror_delivers_what_the_registry_allows_and_never_sees_the_credential() {
    for upstream in [Server::builder().basic("x", "y"), Server::builder().bearer(BearerOptions::default())] {
        let scene = locked(upstream).await;
        scene.read_all(&scene.repository(ada())).await.unwrap();
        assert_eq!(Scene::delivered(&scene.mirrors[0]), 3);
        assert_eq!(scene.mirrors[0].traffic().count(shows_authorization), 0);
        let allowed = |request: &stowage_testkit::registry::RequestRecord| {
            request.method == Method::HEAD && request.status == 200 && shows_authorization(request)
        };
        assert_eq!(scene.upstream.traffic().count(allowed), 3, "for the manifest and each blob");
        for request in scene.mirrors[0].traffic().requests() {
            let all = format!("{:?} {:?}", request.headers, request.query);
            assert!(!all.contains("ada") && !all.contains("sesame"), "{all}");
        }
    }
}

#[tokio::test]
async fn a_pod_that_the_registry_denies_gets_nothing_from_a_mirror() {
    let wrong = Credential::password("ada", "wrong");
    for upstream in [Server::builder().basic("x", "y"), Server::builder().bearer(BearerOptions::default())] {
        let scene = locked(upstream).await;
        for credential in [None, Some(wrong.clone()), Some(eve())] {
            let repository = scene.repository(credential);
            let error = failure(repository.manifest_by_digest(&scene.document)).await;
            let denied = |error: &RegistryError| {
                matches!(error, RegistryError::Unauthenticated { .. } | RegistryError::Forbidden { .. })
            };
            assert!(denied(&error), "{error:?}");
            let error = failure(repository.small_blob(&scene.descriptor(), 1 << 20)).await;
            assert!(denied(&error), "{error:?}");
            let kind = scene.read(&repository, 0..10).await.unwrap_err().kind;
            assert!(
                matches!(kind, SourceErrorKind::Unauthenticated | SourceErrorKind::Forbidden),
                "{kind:?}"
            );
            assert_eq!(Scene::gets(&scene.mirrors[0]), 0);
            // The name of a tag is all that a mirror may say before.
            let error = failure(repository.resolve(&scene.reference())).await;
            assert!(denied(&error), "{error:?}");
        }
        assert_eq!(Scene::delivered(&scene.mirrors[0]), 0);
    }
}

#[tokio::test]
async fn what_the_registry_does_not_have_is_not_taken_from_a_mirror() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.upstream.delete_blob(NAME, &digest_of(&scene.large));
    scene.upstream.delete_manifest(NAME, scene.document.as_str());
    let repository = scene.repository(None);
    assert_eq!(scene.read(&repository, 0..10).await.unwrap_err().kind, SourceErrorKind::NotFound);
    let error = failure(repository.manifest_by_digest(&scene.document)).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    assert_eq!(Scene::asked(&scene.mirrors[0]), 0);
}

#[tokio::test]
async fn without_the_registry_there_is_no_permission() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.upstream.go_offline().await;
    let repository = scene.repository(None);
    let error = failure(repository.manifest_by_digest(&scene.document)).await;
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("may be read from a mirror"), "{error}");
    let error = scene.read(&repository, 0..10).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
    assert_eq!(Scene::gets(&scene.mirrors[0]), 0);

    scene.upstream.go_online().await;
    scene.read_all(&repository).await.unwrap();
    // What was allowed stays allowed for a while.
    scene.upstream.go_offline().await;
    scene.read(&repository, 0..10).await.unwrap();
}

#[tokio::test]
async fn an_authoritative_mirror_needs_no_registry() {
    let scene = locked(Server::builder().basic("x", "y")).await;
    scene.write(&scene.table(0, "stowage_authoritative = true"));
    for online in [true, false] {
        if !online {
            scene.upstream.go_offline().await;
        }
        let repository = scene.repository(None);
        scene.read_all(&repository).await.unwrap();
        let digest = digest_of(&scene.large);
        assert_eq!(within(repository.head_blob(&digest)).await.unwrap(), Some(super::LARGE));
        within(repository.read_range(&digest, 5..50)).await.unwrap();
        assert!(repository.vouches_for(&digest));
    }
    assert_eq!(Scene::asked(&scene.upstream), 0, "the mirror decides by itself");
}

#[tokio::test]
async fn an_authoritative_mirror_speaks_for_the_others() {
    let scene = Scene::with(Server::builder().basic("ada", "x"), vec![Server::builder(); 2], |_| {}).await;
    scene.write(&[scene.table(0, ""), scene.table(1, "stowage_authoritative = true")].concat());
    let repository = scene.repository(None);
    scene.read(&repository, 0..100).await.unwrap();
    assert_eq!((Scene::delivered(&scene.mirrors[0]), Scene::heads(&scene.mirrors[1])), (1, 1));
    assert_eq!(Scene::asked(&scene.upstream), 0);

    // What it does not have is the registry's to decide, and the registry says no.
    scene.mirrors[1].delete_blob(NAME, &digest_of(&scene.small));
    let error = failure(repository.small_blob(&scene.descriptor(), 1 << 20)).await;
    assert!(matches!(error, RegistryError::Unauthenticated { .. }), "{error:?}");
}

#[tokio::test]
async fn many_parts_ask_for_permission_once() {
    let scene = Scene::new(1).await;
    scene.write_all();
    let (repository, digest) = (scene.repository(None), digest_of(&scene.large));
    let parts = (0..8_u64).map(|part| repository.read(&digest, Some(part * 10..part * 10 + 10)));
    for body in futures::future::join_all(parts).await {
        body.unwrap();
    }
    assert_eq!(Scene::heads(&scene.upstream), 1);
    assert_eq!(Scene::gets(&scene.mirrors[0]), 8);
}

#[tokio::test]
async fn a_mirror_that_gives_tokens_to_everybody_is_asked_as_nobody() {
    let harbor = Server::builder().bearer(BearerOptions::default()).public("*");
    let upstream = Server::builder().bearer(BearerOptions::default()).user("ada", "open sesame");
    let scene = Scene::with(upstream, vec![harbor], |_| {}).await;
    scene.write_all();
    scene.read_all(&scene.repository(ada())).await.unwrap();
    assert_eq!(Scene::delivered(&scene.mirrors[0]), 3 + 1, "and one token");
    let basic = |request: &stowage_testkit::registry::RequestRecord| {
        request.header("authorization").is_some_and(|value| value.starts_with("Basic"))
    };
    assert_eq!(scene.mirrors[0].traffic().count(basic), 0);
    let upstream_tokens: Vec<_> = scene.upstream.traffic().requests();
    let shown: Vec<_> =
        upstream_tokens.iter().filter_map(|request| request.header("authorization")).collect();
    for request in scene.mirrors[0].traffic().requests() {
        if let Some(own) = request.header("authorization") {
            assert!(!shown.contains(&own), "a token of the registry went to the mirror");
        }
    }
}

#[tokio::test]
async fn grants_are_proven_with_the_registry_alone() {
    let scene = Scene::new(1).await;
    scene.write_all();
    let (repository, digest) = (scene.repository(None), digest_of(&scene.large));
    assert_eq!(within(repository.head_blob(&digest)).await.unwrap(), Some(super::LARGE));
    within(repository.read_range(&digest, 0..10)).await.unwrap();
    assert!(within(repository.head_manifest(&scene.document)).await.unwrap());
    assert_eq!(Scene::asked(&scene.mirrors[0]), 0);
    assert!(!repository.vouches_for(&digest), "no mirror has delivered it");
    scene.read(&repository, 0..10).await.unwrap();
    assert!(repository.vouches_for(&digest));
    assert!(
        !scene.repository(None).vouches_for(&digest),
        "for the reader it was delivered to, and nobody else"
    );
}

#[tokio::test]
async fn a_registry_that_knows_no_head_gives_its_permission_by_a_read() {
    let scene = Scene::new(1).await;
    scene.write_all();
    let no_head = Rule::new(Target::Everything, Fault::status(405)).method(Method::HEAD);
    scene.upstream.faults().add(no_head);
    let repository = scene.repository(None);
    scene.read(&repository, 0..10).await.unwrap();
    assert_eq!(within(repository.manifest_by_digest(&scene.document)).await.unwrap().bytes, "{}");
    assert_eq!(Scene::delivered(&scene.mirrors[0]), 2);
    scene.upstream.delete_blob(NAME, &digest_of(&scene.small));
    let error = failure(repository.small_blob(&scene.descriptor(), 1 << 20)).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_limit_of_the_registry_is_no_permission() {
    let scene = Scene::new(1).await;
    scene.write_all();
    let limit = stowage_testkit::registry::RetryAfter::Seconds(100);
    scene.upstream.faults().always(Target::Everything, Fault::Status(429, limit));
    let error = scene.read(&scene.repository(None), 0..10).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::RateLimited, "{error}");
    assert_eq!(Scene::asked(&scene.mirrors[0]), 0);
}
