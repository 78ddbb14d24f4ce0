//! Which registries a reference may name at all.

use stowage_registry::{PlainHttp, Registry, RegistryError, RegistryOptions};
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::Registry as Server;

use crate::stage::{NAME, failure, hosts, open, options, reference, within};

/// A client that an administrator listed nothing for.
fn unlisted() -> RegistryOptions {
    RegistryOptions { plain_http: PlainHttp::default(), ..options() }
}

async fn server() -> Server {
    let server = Server::builder().start().await.unwrap();
    server.put_manifest(NAME, Some("v1"), "application/json", "{}".into());
    server
}

#[tokio::test]
async fn local_addresses_are_refused_unless_listed() {
    let server = server().await;
    let client = Registry::new(unlisted()).unwrap();
    let port = server.addr().port();
    let registries = [
        format!("127.0.0.1:{port}"),
        format!("127.1.2.3:{port}"),
        format!("0.0.0.0:{port}"),
        format!("localhost:{port}"),
        "169.254.169.254".to_owned(),
        "100.100.100.200".to_owned(),
    ];
    for registry in registries {
        let reference = format!("{registry}/{NAME}:v1").parse().unwrap();
        let repository = client.repository(&reference, None);
        let error = failure(repository.resolve(&reference)).await;
        assert!(matches!(error, RegistryError::Refused { .. }), "{registry}: {error:?}");
        assert!(error.to_string().contains("an administrator can list"), "{error}");
        let digest = stowage_artifact::Digest::of(stowage_artifact::Algorithm::Sha256, b"x");
        let blob = within(repository.read(&digest, None)).await.err().unwrap();
        assert_eq!(blob.kind, SourceErrorKind::Protocol, "{registry}: {blob}");
    }
    assert!(server.traffic().connections().is_empty());
}

#[tokio::test]
async fn plain_http_is_spoken_to_listed_hosts_alone() {
    let server = server().await;
    let resolve = |options: RegistryOptions| {
        let client = Registry::new(options).unwrap();
        let repository = open(&client, &server, NAME, None);
        let reference = reference(&server, NAME);
        async move { within(repository.resolve(&reference)).await }
    };
    let local = RegistryOptions { local_hosts: hosts(&["127.0.0.1"]), ..unlisted() };
    let error = resolve(local).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    assert!(server.traffic().requests().is_empty(), "it was spoken to in TLS only");

    let elsewhere = PlainHttp { hosts: hosts(&["127.0.0.1:1"]), loopback: false };
    let error = resolve(RegistryOptions { plain_http: elsewhere, ..unlisted() }).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error:?}");

    for listing in ["127.0.0.1".to_owned(), server.host()] {
        let listed = PlainHttp { hosts: hosts(&[&listing]), loopback: false };
        assert!(resolve(RegistryOptions { plain_http: listed, ..unlisted() }).await.is_ok(), "{listing}");
    }
}

#[tokio::test]
async fn the_command_lines_switch_finds_out_what_a_loopback_registry_speaks() {
    let plain = server().await;
    let secure = Server::builder().tls().start().await.unwrap();
    secure.put_manifest(NAME, Some("v1"), "application/json", "{}".into());
    let ca_pem = vec![secure.ca_pem().unwrap().into()];
    let switched = PlainHttp { hosts: vec![], loopback: true };
    let client = Registry::new(RegistryOptions { plain_http: switched, ca_pem, ..unlisted() }).unwrap();
    for server in [&plain, &secure] {
        let repository = open(&client, server, NAME, None);
        within(repository.resolve(&reference(server, NAME))).await.unwrap();
        within(repository.manifest(&reference(server, NAME))).await.unwrap();
    }
    let by_name = format!("localhost:{}/{NAME}:v1", plain.addr().port()).parse().unwrap();
    within(client.repository(&by_name, None).resolve(&by_name)).await.unwrap();
}
