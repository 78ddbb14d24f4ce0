//! Certificates: whose are trusted, and what is said of the others.

use std::net::SocketAddr;

use stowage_artifact::{Algorithm, Digest};
use stowage_registry::{PlainHttp, Registry, RegistryError, RegistryOptions, SetupError};
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::Registry as Server;
use stowage_testkit::registry::BearerOptions;

use crate::stage::{NAME, ada, drain, failure, hosts, open, options, reference, within};

fn trusting(ca: &[&str]) -> RegistryOptions {
    RegistryOptions {
        ca_pem: ca.iter().map(|pem| pem.as_bytes().to_vec()).collect(),
        local_hosts: hosts(&["127.0.0.1", "127.0.0.3", "localhost"]),
        plain_http: PlainHttp::default(),
        ..options()
    }
}

#[tokio::test]
async fn an_authority_of_our_own_is_trusted_by_every_kind_of_request() {
    let bearer = Server::builder().tls().bearer(BearerOptions::default()).user("ada", "open sesame");
    let server = bearer.redirect_blobs(None, None).start().await.unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"weights");
    server.put_blob(NAME, &digest, "weights");
    server.put_manifest(NAME, Some("v1"), "application/json", "{}".into());
    let other = Server::builder().tls().start().await.unwrap();
    // Several bundles, of which the second is the right one.
    let client = Registry::new(trusting(&[other.ca_pem().unwrap(), server.ca_pem().unwrap()])).unwrap();
    let repository = open(&client, &server, NAME, Some(ada()));
    within(repository.manifest(&reference(&server, NAME))).await.unwrap();
    assert_eq!(within(repository.head_blob(&digest)).await.unwrap(), Some(7));
    let body = within(repository.read(&digest, Some(1..4))).await.unwrap();
    assert_eq!(drain(body).await, (b"eig".to_vec(), Ok(())));
}

#[tokio::test]
async fn an_unknown_authority_is_not_trusted_and_the_ca_bundle_is_named() {
    let server = Server::builder().tls().start().await.unwrap();
    let other = Server::builder().tls().start().await.unwrap();
    for ca in [&[][..], &[other.ca_pem().unwrap()]] {
        let client = Registry::new(trusting(ca)).unwrap();
        let repository = open(&client, &server, NAME, Some(ada()));
        let error = failure(repository.resolve(&reference(&server, NAME))).await;
        assert!(matches!(error, RegistryError::Untrusted { .. }), "{error:?}");
        let shown = error.to_string();
        assert!(shown.contains("CA bundle") && shown.contains(&server.host()), "{shown}");
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let blob = within(repository.read(&digest, None)).await.err().unwrap();
        // An administrator may be about to add the authority.
        assert_eq!(blob.kind, SourceErrorKind::Unavailable, "{blob}");
    }
    assert!(server.traffic().requests().is_empty(), "nothing was said to it");
    assert_eq!(server.traffic().connections().len(), 4, "one connection a request: not tried again");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted() {
    let elsewhere = SocketAddr::from(([127, 0, 0, 3], 0));
    let server = Server::builder().tls().bind(elsewhere).start().await.unwrap();
    let client = Registry::new(trusting(&[server.ca_pem().unwrap()])).unwrap();
    let error = failure(open(&client, &server, NAME, None).resolve(&reference(&server, NAME))).await;
    assert!(matches!(error, RegistryError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_bundle_that_is_none_is_refused_by_its_number() {
    let server = Server::builder().tls().start().await.unwrap();
    for broken in ["", "no pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        let error = Registry::new(trusting(&[server.ca_pem().unwrap(), broken])).err().unwrap();
        assert!(matches!(error, SetupError::CaBundle { number: 2, .. }), "{broken:?}: {error:?}");
    }
}
