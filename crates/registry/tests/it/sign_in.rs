//! Who we say that we are, to whom, and what a refusal is called.

use http::Method;
use stowage_registry::{Credential, RegistryError};
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::registry::{Access, BearerOptions, Denial, RegistryBuilder};
use stowage_testkit::{Fault, Registry as Server};

use crate::stage::{NAME, SIZE, Stage, ada, drain, failure, options, shows_authorization, stage, within};

fn bearer() -> RegistryBuilder {
    Server::builder().bearer(BearerOptions::default()).user("ada", "open sesame")
}

async fn reads_all(stage: &Stage, credential: Option<Credential>) {
    let repository = stage.signed_in(credential);
    let manifest = stage.document("{}");
    assert_eq!(within(repository.resolve(&stage.reference())).await.unwrap(), manifest);
    assert_eq!(within(repository.manifest(&stage.reference())).await.unwrap().digest, manifest);
    assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
    let body = within(repository.read(&stage.digest, Some(10..20))).await.unwrap();
    assert_eq!(drain(body).await, (stage.expected(10..20), Ok(())));
}

#[tokio::test]
async fn a_registry_that_asks_for_nothing_is_shown_nothing() {
    let stage = stage().await;
    reads_all(&stage, None).await;
    reads_all(&stage, Some(ada())).await;
    assert_eq!(stage.server.traffic().count(shows_authorization), 0);
}

#[tokio::test]
async fn a_password_goes_to_a_registry_that_asks_for_it() {
    let stage = Stage::new(Server::builder().basic("ada", "open sesame"), options()).await;
    reads_all(&stage, Some(ada())).await;
    let refused = stage.server.traffic().count(|request| request.status == 401);
    assert_eq!(refused, 1, "the challenge is answered once, and remembered");
}

#[tokio::test]
async fn a_password_goes_to_the_token_server_and_a_token_to_the_registry() {
    let stage = Stage::new(bearer(), options()).await;
    reads_all(&stage, Some(ada())).await;
    let requests = stage.server.traffic().requests();
    let (tokens, reads): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.path == "/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].method, Method::GET);
    assert!(tokens[0].header("authorization").unwrap().starts_with("Basic "));
    let query = tokens[0].query.as_deref().unwrap();
    assert_eq!(query, "service=stowage-testkit&scope=repository%3Ateam%2Fmodel%3Apull");
    let shown: Vec<_> = reads.iter().filter_map(|request| request.header("authorization")).collect();
    assert_eq!(shown.len(), reads.len() - 1, "all but the first, which met the challenge");
    assert!(shown.iter().all(|value| value.starts_with("Bearer ")));
}

#[tokio::test]
async fn without_a_credential_an_anonymous_token_is_asked_for() {
    let stage = Stage::new(bearer().public(NAME), options()).await;
    reads_all(&stage, None).await;
    let traffic = stage.server.traffic();
    assert_eq!(traffic.count(|request| request.path == "/token"), 1);
    assert_eq!(traffic.count(|request| request.path == "/token" && shows_authorization(request)), 0);
}

#[tokio::test]
async fn with_a_credential_no_anonymous_token_is_asked_for() {
    let stage = Stage::new(bearer().public(NAME), options()).await;
    reads_all(&stage, Some(ada())).await;
    let traffic = stage.server.traffic();
    assert_eq!(traffic.count(|request| request.path == "/token" && !shows_authorization(request)), 0);
}

#[tokio::test]
async fn an_identity_token_is_posted_and_never_in_a_url_or_header() {
    let stage = Stage::new(bearer(), options()).await;
    let identity = stage.server.identity_token("ada");
    reads_all(&stage, Some(Credential::identity_token(identity.clone()))).await;
    let requests = stage.server.traffic().requests();
    let tokens: Vec<_> = requests.iter().filter(|request| request.path == "/token").collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!((&tokens[0].method, &tokens[0].query), (&Method::POST, &None));
    for request in &requests {
        let headers = format!("{:?}", request.headers);
        assert!(!headers.contains(&identity), "{headers}");
        assert!(!request.query.as_deref().unwrap_or_default().contains(&identity));
    }
}

#[tokio::test]
async fn an_access_token_without_an_expiry_is_a_token() {
    let answers = BearerOptions { access_token_key: true, says_expiry: false, ..BearerOptions::default() };
    let stage = Stage::new(bearer().bearer(answers), options()).await;
    reads_all(&stage, Some(ada())).await;
    assert_eq!(stage.server.tokens_issued(), 1);
}

#[tokio::test]
async fn a_registry_that_hides_instead_of_asking_is_shown_the_password_once() {
    let stage = Stage::new(Server::builder().basic("ada", "open sesame"), options()).await;
    for (nth, status) in [(0, 404), (1, 403)] {
        stage.server.traffic().reset();
        stage.next(Fault::status(status));
        let repository = stage.signed_in(ada());
        // The second time the password is known to be wanted, so the status is the answer.
        let found = within(repository.head_blob(&stage.digest)).await;
        if nth == 0 {
            assert_eq!(found.unwrap(), Some(SIZE));
            assert_eq!(stage.asked(), 2);
        } else {
            assert!(matches!(found, Err(RegistryError::Forbidden { .. })), "{found:?}");
            assert_eq!(stage.asked(), 1);
        }
    }
    stage.next(Fault::status(404));
    assert_eq!(within(stage.anonymous().head_blob(&stage.digest)).await.unwrap(), None);
}

/// Makes a stage, reads as somebody, and says what the refusal is.
async fn refusal(first: &Stage, builder: RegistryBuilder, credential: Option<Credential>) -> RegistryError {
    let stage = first.beside(builder).await;
    let repository = stage.signed_in(credential);
    let manifest = failure(repository.resolve(&stage.reference())).await;
    let blob = within(repository.read(&stage.digest, None)).await.expect_err("the blob is refused too");
    assert_eq!(blob.kind, manifest.source_kind(), "{blob} / {manifest}");
    let head = failure(repository.head_blob(&stage.digest)).await;
    assert_eq!(head.source_kind(), manifest.source_kind(), "{head} / {manifest}");
    manifest
}

#[tokio::test]
async fn refusals_say_whether_the_credential_is_missing_wrong_or_too_weak() {
    let first = stage().await;
    let wrong = || Some(Credential::password("ada", "close sesame"));
    let denying = |denial| {
        let options = BearerOptions { denial, ..BearerOptions::default() };
        Server::builder().bearer(options).user_of("ada", "open sesame", &[("other/*", Access::Pull)])
    };
    let weak_basic = || {
        Server::builder().basic("root", "toor").user_of("ada", "open sesame", &[("other/*", Access::Pull)])
    };
    let basic = || Server::builder().basic("ada", "open sesame");
    let stranger = || Some(Credential::identity_token("identity-unknown"));
    let table = [
        ("basic, nothing", basic(), None, "none was given"),
        ("basic, wrong", basic(), wrong(), "does not accept the given credential"),
        ("basic, identity token", basic(), stranger(), "an identity token was given"),
        ("bearer, nothing", bearer(), None, "none was given"),
        ("bearer, wrong", bearer(), wrong(), "does not accept the given credential"),
        ("bearer, unknown identity", bearer(), stranger(), "does not accept the given credential"),
    ];
    for (name, builder, credential, says) in table {
        let error = refusal(&first, builder, credential).await;
        assert!(matches!(error, RegistryError::Unauthenticated { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(says), "{name}: {error}");
    }
    let table = [
        ("basic", weak_basic()),
        ("403", denying(Denial::Forbidden)),
        ("insufficient_scope", denying(Denial::InsufficientScope)),
        ("403 of the token server", denying(Denial::AtTokenEndpoint)),
    ];
    for (name, builder) in table {
        let error = refusal(&first, builder, Some(ada())).await;
        assert!(matches!(error, RegistryError::Forbidden { .. }), "{name}: {error:?}");
        assert_eq!(error.source_kind(), SourceErrorKind::Forbidden);
    }
}

#[tokio::test]
async fn a_registry_that_never_has_enough_is_left_after_a_few_tokens() {
    let stage = Stage::new(bearer(), options()).await;
    // Its token server works, its registry takes no token.
    stage.always(Fault::Unauthorized);
    let error = within(stage.signed_in(ada()).read(&stage.digest, None)).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::Unauthenticated, "{error}");
    let blobs = stage.server.traffic().count(|request| request.path != "/token");
    assert!(blobs <= 3 && stage.server.tokens_issued() <= 3, "{blobs} requests");
}

#[tokio::test]
async fn a_password_that_was_changed_is_refused_at_the_next_read() {
    let stage = Stage::new(bearer(), options()).await;
    let repository = stage.signed_in(ada());
    within(repository.read_range(&stage.digest, 0..10)).await.unwrap();
    stage.server.set_password("ada", "another");
    let error = failure(repository.read_range(&stage.digest, 0..10)).await;
    assert!(matches!(error, RegistryError::Unauthenticated { .. }), "{error:?}");
    let renewed = stage.signed_in(Some(Credential::password("ada", "another")));
    within(renewed.read_range(&stage.digest, 0..10)).await.unwrap();
}
