//! Redirects: where they may lead, and what never goes along.

use std::time::Duration;

use stowage_registry::{Credential, RegistryError, RegistryOptions};
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::registry::{BearerOptions, Place, RegistryBuilder};
use stowage_testkit::{Fault, Registry as Server};

use crate::stage::{
    NAME, SIZE, Stage, ada, drain, failure, hosts, options, shows_authorization, stage, within,
};

/// Makes the credential that a server takes.
type Choose = fn(&Server) -> Credential;

fn at_storage(stage: &Stage) -> usize {
    stage.server.traffic().count(|request| request.place == Place::Storage)
}

fn blobs_at_registry(stage: &Stage) -> usize {
    let is_blob = |request: &stowage_testkit::registry::RequestRecord| {
        request.place == Place::Registry && request.path.contains("/blobs/")
    };
    stage.server.traffic().count(is_blob)
}

fn tls_options(stage_host: &str, ca: &str) -> RegistryOptions {
    let mut options = options();
    options.plain_http.hosts.clear();
    RegistryOptions { ca_pem: vec![ca.into()], local_hosts: hosts(&[stage_host]), ..options }
}

#[tokio::test]
async fn the_second_host_never_sees_a_credential() {
    let basic = || Server::builder().basic("ada", "open sesame");
    let bearer = || Server::builder().bearer(BearerOptions::default()).user("ada", "open sesame");
    let table: [(&str, Choose, RegistryBuilder); 3] = [
        ("basic", |_| Credential::password("ada", "open sesame"), basic()),
        ("bearer", |_| Credential::password("ada", "open sesame"), bearer()),
        ("identity", |server| Credential::identity_token(server.identity_token("ada")), bearer()),
    ];
    for (name, credential, builder) in table {
        let stage = Stage::new(builder.redirect_blobs(None, None), options()).await;
        let repository = stage.signed_in(Some(credential(&stage.server)));
        within(repository.read_range(&stage.digest, 0..100)).await.unwrap();
        let body = within(repository.read(&stage.digest, Some(100..SIZE))).await.unwrap();
        let (bytes, end) = drain(body).await;
        assert!(end.is_ok() && bytes == stage.expected(100..SIZE), "{name}");
        within(repository.small_blob(&stage.descriptor(), SIZE)).await.unwrap();
        assert_eq!(at_storage(&stage), 3, "{name}");
        let leaked = stage.server.traffic().requests().into_iter().find(|request| {
            request.place == Place::Storage
                && (shows_authorization(request) || request.header("cookie").is_some())
        });
        assert!(leaked.is_none(), "{name}: {leaked:?}");
    }
}

#[tokio::test]
async fn a_redirect_within_the_registry_keeps_the_credential() {
    let stage = Stage::new(Server::builder().basic("ada", "open sesame"), options()).await;
    let repository = stage.signed_in(ada());
    within(repository.head_blob(&stage.digest)).await.unwrap();
    let moved = format!("{}/v2/{NAME}/blobs/{}?moved", stage.server.origin(), stage.digest);
    stage.next(Fault::Redirect(moved));
    stage.next(Fault::Redirect(format!("./{}?again", stage.digest)));
    within(repository.read_range(&stage.digest, 0..100)).await.unwrap();
    let requests = stage.server.traffic().requests();
    for query in ["moved", "again"] {
        let asked = requests.iter().find(|request| request.query.as_deref() == Some(query)).unwrap();
        assert!(shows_authorization(asked), "{query}");
    }
}

#[tokio::test]
async fn a_way_out_and_back_does_not_bring_the_credential_back() {
    let stage = Stage::new(Server::builder().basic("ada", "open sesame"), options()).await;
    let stranger = Server::builder().start().await.unwrap();
    let repository = stage.signed_in(ada());
    within(repository.head_blob(&stage.digest)).await.unwrap();
    let path = format!("/v2/{NAME}/blobs/{}", stage.digest);
    let back = format!("{}{path}?back", stage.server.origin());
    stranger.faults().always(stowage_testkit::Target::Blobs, Fault::Redirect(back));
    stage.next(Fault::Redirect(format!("{}{path}", stranger.origin())));
    // The way back is refused without a credential, and the read goes on from the registry itself.
    within(repository.read_range(&stage.digest, 0..100)).await.unwrap();
    let requests = stage.server.traffic().requests();
    let back: Vec<_> = requests.iter().filter(|request| request.query.as_deref() == Some("back")).collect();
    assert_eq!(back.len(), 1);
    assert!(!shows_authorization(back[0]));
    assert_eq!(back[0].status, 401);
    assert_eq!(stranger.traffic().count(shows_authorization), 0);
}

#[tokio::test]
async fn a_link_that_holds_is_used_again() {
    let stage = Stage::new(Server::builder().redirect_blobs(None, None), options()).await;
    let repository = stage.anonymous();
    for part in 0..5 {
        let range = part * 100..(part + 1) * 100;
        let bytes = within(repository.read_range(&stage.digest, range.clone())).await.unwrap();
        assert_eq!(bytes, stage.expected(range));
    }
    assert_eq!((blobs_at_registry(&stage), at_storage(&stage)), (1, 5));
}

#[tokio::test]
async fn a_link_that_expired_is_replaced_by_a_fresh_one() {
    let once = Stage::new(Server::builder().redirect_blobs(Some(1), None), options()).await;
    let repository = once.anonymous();
    for part in 0..3 {
        let range = part * 100..(part + 1) * 100;
        let bytes = within(repository.read_range(&once.digest, range.clone())).await.unwrap();
        assert_eq!(bytes, once.expected(range));
    }
    assert_eq!((blobs_at_registry(&once), at_storage(&once)), (3, 5));

    let stage = Stage::new(Server::builder().redirect_blobs(None, None), options()).await;
    let repository = stage.anonymous();
    stage.next(Fault::Redirect(format!("http://{}/blob/x?X-Signature=old", stage.server.storage_host())));
    within(repository.read_range(&stage.digest, 0..100)).await.unwrap();
    stage.server.expire_presigned();
    within(repository.read_range(&stage.digest, 0..100)).await.unwrap();
}

#[tokio::test]
async fn links_that_never_hold_are_the_storages_fault_and_not_the_credentials() {
    for (uses, lifetime) in [(Some(0), None), (None, Some(Duration::ZERO))] {
        let builder = Server::builder().basic("ada", "open sesame").redirect_blobs(uses, lifetime);
        let stage = Stage::new(builder, options()).await;
        let error = within(stage.signed_in(ada()).read(&stage.digest, None)).await.err().unwrap();
        assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
        assert!(error.message.contains(&stage.server.storage_host()), "{error}");
        assert_eq!(at_storage(&stage), 2, "one more link, and no more");
    }
}

#[tokio::test]
async fn a_storage_that_lost_the_blob_is_asked_past() {
    let stage = Stage::new(Server::builder().redirect_blobs(None, None), options()).await;
    let repository = stage.anonymous();
    within(repository.read_range(&stage.digest, 0..100)).await.unwrap();
    for status in [400, 401, 404, 410, 500] {
        stage.server.traffic().reset();
        // The link is known, so the fault strikes at the storage.
        stage.next(Fault::status(status));
        within(repository.read_range(&stage.digest, 0..100)).await.unwrap();
        assert_eq!((blobs_at_registry(&stage), at_storage(&stage)), (1, 2), "{status}");
    }
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let stage = stage().await;
    stage.always(Fault::RedirectLoop);
    let repository = stage.anonymous();
    let error = within(repository.read(&stage.digest, None)).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::Protocol, "{error}");
    assert_eq!(stage.asked(), 6, "the request and five redirects");
    let error = failure(repository.head_blob(&stage.digest)).await;
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error:?}");
    assert_eq!(stage.asked(), 12);
}

#[tokio::test]
async fn a_redirect_to_another_scheme_is_refused_and_nobody_is_asked() {
    let plain = Server::builder().start().await.unwrap();
    let server = Server::builder().tls().basic("ada", "open sesame").start().await.unwrap();
    let client = stowage_registry::Registry::new(tls_options("127.0.0.1", server.ca_pem().unwrap())).unwrap();
    let digest = stowage_artifact::Digest::of(stowage_artifact::Algorithm::Sha256, b"x");
    server.put_blob(NAME, &digest, "x");
    let repository = crate::stage::open(&client, &server, NAME, Some(ada()));
    within(repository.head_blob(&digest)).await.unwrap();
    let places = [
        format!("{}/v2/{NAME}/blobs/{digest}", plain.origin()),
        format!("http://{}/", server.host()),
        "ftp://127.0.0.1/x".to_owned(),
        "file:///etc/passwd".to_owned(),
        "data:text/plain,x".to_owned(),
    ];
    for place in places {
        server.faults().next(1, stowage_testkit::Target::Blobs, Fault::Redirect(place.clone()));
        let error = failure(repository.read_range(&digest, 0..1)).await;
        let refused = matches!(error, RegistryError::Refused { .. } | RegistryError::Protocol { .. });
        assert!(refused, "{place}: {error:?}");
    }
    assert!(plain.traffic().connections().is_empty());
}

#[tokio::test]
async fn a_redirect_to_a_local_address_that_is_not_listed_is_refused() {
    let inner = Server::builder().tls().start().await.unwrap();
    let server = Server::builder().start().await.unwrap();
    let mut options = options();
    options.plain_http.hosts = hosts(&[&server.host()]);
    let client = stowage_registry::Registry::new(options).unwrap();
    let digest = stowage_artifact::Digest::of(stowage_artifact::Algorithm::Sha256, b"x");
    let repository = crate::stage::open(&client, &server, NAME, None);
    let places = [
        format!("{}/secret", inner.origin()),
        inner.origin().replace("127.0.0.1", "localhost"),
        inner.origin().replace("127.0.0.1", "2130706433"),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://[fd00:ec2::254]/".to_owned(),
        "https://[::ffff:169.254.169.254]/".to_owned(),
    ];
    for place in places {
        server.faults().next(1, stowage_testkit::Target::Blobs, Fault::Redirect(place.clone()));
        let error = failure(repository.head_blob(&digest)).await;
        assert!(matches!(error, RegistryError::Refused { .. }), "{place}: {error:?}");
    }
    assert!(inner.traffic().connections().is_empty());
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_a_broken_answer() {
    let stage = stage().await;
    for location in ["", "http://", "https://[::1"] {
        let headers = match location {
            "" => vec![],
            place => vec![("location".to_owned(), place.to_owned())],
        };
        stage.next(Fault::Answer { status: 307, headers, body: bytes::Bytes::new() });
        let error = failure(stage.anonymous().head_blob(&stage.digest)).await;
        assert!(matches!(error, RegistryError::Protocol { .. }), "{location:?}: {error:?}");
    }
}
