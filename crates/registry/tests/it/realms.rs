//! Where a registry may send us for a token, and where not.

use stowage_registry::{Credential, RegistryError};
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::registry::BearerOptions;
use stowage_testkit::{Fault, Registry as Server, Target};

use crate::stage::{Stage, ada, failure, options, shows_authorization, stage, within};

#[tokio::test]
async fn a_realm_at_a_metadata_address_or_without_tls_is_refused_before_anything_is_sent() {
    let other = Server::builder().start().await.unwrap();
    let realms = [
        "https://169.254.169.254/latest/api/token".to_owned(),
        "http://169.254.169.254/latest/api/token".to_owned(),
        "https://[fd00:ec2::254]/token".to_owned(),
        "https://[::ffff:a9fe:a9fe]/token".to_owned(),
        "https://100.100.100.200/token".to_owned(),
        "https://localhost/token".to_owned(),
        "https://127.0.0.2/token".to_owned(),
        // Its host is listed for plain http, and still it is not the registry.
        format!("{}/token", other.origin()),
        "http://auth.example/token".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/token".to_owned(),
        "https://ada:secret@127.0.0.1/token".to_owned(),
    ];
    let stage = stage().await;
    for realm in realms {
        for credential in [Some(ada()), Some(Credential::identity_token("canary")), None] {
            stage.server.traffic().reset();
            stage.server.faults().clear();
            let challenge = format!(r#"Bearer realm="{realm}",service="x""#);
            stage.server.faults().always(Target::Everything, Fault::Challenge(challenge));
            let repository = stage.signed_in(credential);
            let error = failure(repository.resolve(&stage.reference())).await;
            assert!(matches!(error, RegistryError::Refused { .. }), "{realm}: {error:?}");
            let blob = within(repository.read(&stage.digest, None)).await.err().unwrap();
            assert_eq!(blob.kind, SourceErrorKind::Protocol, "{realm}: {blob}");
            assert_eq!(stage.asked(), 2, "{realm}: not tried again");
            assert_eq!(stage.server.traffic().count(shows_authorization), 0, "{realm}");
        }
    }
    assert!(other.traffic().connections().is_empty());
}

#[tokio::test]
async fn a_registry_with_plain_http_may_give_its_own_tokens() {
    let own = BearerOptions::default();
    let stage = Stage::new(Server::builder().bearer(own).user("ada", "open sesame"), options()).await;
    within(stage.signed_in(ada()).read_range(&stage.digest, 0..9)).await.unwrap();
    assert_eq!(stage.server.tokens_issued(), 1);
}

#[tokio::test]
async fn a_token_server_that_redirects_passes_no_password_on() {
    let stage =
        Stage::new(Server::builder().bearer(BearerOptions::default()).user("ada", "open sesame"), options())
            .await;
    let stranger = Server::builder().start().await.unwrap();
    let moved = Fault::Redirect(format!("{}/token", stranger.origin()));
    stage.server.faults().always(Target::Token, moved);
    failure(stage.signed_in(ada()).resolve(&stage.reference())).await;
    assert!(!stranger.traffic().requests().is_empty(), "the redirect itself is followed");
    assert_eq!(stranger.traffic().count(shows_authorization), 0);

    // A form holds the identity token itself, so it is not sent on at all.
    stranger.traffic().reset();
    let identity = Some(Credential::identity_token(stage.server.identity_token("ada")));
    failure(stage.signed_in(identity).resolve(&stage.reference())).await;
    assert!(stranger.traffic().requests().is_empty());
}
