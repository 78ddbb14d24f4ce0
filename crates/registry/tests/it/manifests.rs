//! Tags, and documents that must be what their digest says.

use bytes::Bytes;
use http::Method;
use stowage_artifact::{Algorithm, Digest, MAX_MANIFEST_BYTES};
use stowage_registry::RegistryError;
use stowage_store::SourceErrorKind;
use stowage_testkit::registry::{At, Rule};
use stowage_testkit::{Fault, Registry as Server, Target};

use crate::stage::{LIMIT, NAME, failure, stage, within};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What the kernel may hold for a connection whose reader has left.
const IN_FLIGHT: u64 = 16 << 20;

#[tokio::test]
async fn a_tag_is_resolved_by_one_head() {
    let stage = stage().await;
    let manifest = stage.document("{}");
    assert_eq!(within(stage.anonymous().resolve(&stage.reference())).await.unwrap(), manifest);
    let requests = stage.server.traffic().requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, Method::HEAD);
    assert!(requests[0].header("accept").unwrap().contains("application/vnd.oci.image.index.v1+json"));
}

#[tokio::test]
async fn a_tag_is_resolved_by_a_get_where_a_head_says_too_little() {
    let nameless = || Fault::Header("docker-content-digest".into(), String::new());
    let garbage = || Fault::Header("docker-content-digest".into(), "latest".into());
    let faults = [nameless(), garbage(), Fault::status(400), Fault::status(405), Fault::status(406)];
    let first = stage().await;
    for fault in faults {
        let stage = first.beside(Server::builder()).await;
        let manifest = stage.document("{}");
        let on_head = Rule::new(Target::Manifests, fault.clone()).method(Method::HEAD);
        stage.server.faults().add(on_head);
        let found = within(stage.anonymous().resolve(&stage.reference())).await;
        assert_eq!(found.as_ref(), Ok(&manifest), "{fault:?}");
        assert_eq!(stage.server.traffic().count(|request| request.method == Method::GET), 1, "{fault:?}");
    }
    // Neither says it, so the bytes do.
    let stage = stage().await;
    let manifest = stage.document("{}");
    stage.server.faults().always(Target::Manifests, nameless());
    assert_eq!(within(stage.anonymous().resolve(&stage.reference())).await.unwrap(), manifest);
}

#[tokio::test]
async fn a_reference_with_a_digest_is_its_own_answer() {
    let stage = stage().await;
    let manifest = stage.document("{}");
    let pinned = stage.server.pinned(NAME, &manifest).parse().unwrap();
    assert_eq!(within(stage.anonymous().resolve(&pinned)).await.unwrap(), manifest);
    assert_eq!(stage.asked(), 0);
    assert_eq!(within(stage.anonymous().manifest(&pinned)).await.unwrap().bytes, "{}");
}

#[tokio::test]
async fn a_document_comes_with_its_digest_and_type() {
    let stage = stage().await;
    let sha512 = Digest::of(Algorithm::Sha512, b"{}");
    let manifest = stage.document("{}");
    let repository = stage.anonymous();
    let by_tag = within(repository.manifest(&stage.reference())).await.unwrap();
    assert_eq!((&by_tag.digest, &by_tag.bytes), (&manifest, &Bytes::from("{}")));
    assert_eq!(by_tag.media_type.as_deref(), Some(MANIFEST));
    assert_eq!(within(repository.manifest_by_digest(&manifest)).await.unwrap(), by_tag);

    let other = Fault::Answer { status: 200, headers: vec![], body: "{}".into() };
    stage.server.faults().next(1, Target::Manifests, other);
    let found = within(repository.manifest_by_digest(&sha512)).await.unwrap();
    assert_eq!((found.digest, found.media_type), (sha512, None));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let stage = stage().await;
    let repository = stage.anonymous();
    let absent = Digest::of(Algorithm::Sha256, b"absent");
    for error in [
        failure(repository.resolve(&stage.reference())).await,
        failure(repository.manifest(&stage.reference())).await,
        failure(repository.manifest_by_digest(&absent)).await,
    ] {
        assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    }
    assert_eq!(stage.asked(), 3, "and not tried again");
    assert_eq!(within(repository.head_manifest(&absent)).await, Ok(false));
    let manifest = stage.document("{}");
    assert_eq!(within(repository.head_manifest(&manifest)).await, Ok(true));
}

#[tokio::test]
async fn a_document_with_other_bytes_than_its_digest_is_refused() {
    let stage = stage().await;
    let manifest = stage.document(r#"{"layers":[]}"#);
    let repository = stage.anonymous();
    let faults = stage.server.faults();
    faults.next(1, Target::Manifests, Fault::Corrupt(At::Body(3)));
    assert_eq!(within(repository.manifest_by_digest(&manifest)).await.unwrap().digest, manifest);

    stage.server.traffic().reset();
    faults.always(Target::Manifests, Fault::Corrupt(At::Body(3)));
    for error in [
        failure(repository.manifest_by_digest(&manifest)).await,
        // By tag the registry's own header is what the bytes must have.
        failure(repository.manifest(&stage.reference())).await,
    ] {
        let RegistryError::DigestMismatch { expected, found, .. } = &error else { panic!("{error:?}") };
        assert!(expected == &manifest && found != &manifest, "{error}");
        assert_eq!(error.source_kind(), SourceErrorKind::Protocol);
    }
    assert_eq!(stage.asked(), 4, "a flipped bit is read again once");
}

#[tokio::test]
async fn a_head_that_names_a_wrong_digest_brings_no_wrong_document() {
    let stage = stage().await;
    stage.document("{}");
    let wrong = Digest::of(Algorithm::Sha256, b"what the attacker wants");
    let lying = Rule::new(Target::Manifests, Fault::wrong_digest(&wrong)).method(Method::HEAD);
    stage.server.faults().add(lying);
    let repository = stage.anonymous();
    let resolved = within(repository.resolve(&stage.reference())).await.unwrap();
    assert_eq!(resolved, wrong);
    // The registry goes on with its lie and serves its document under that digest.
    let document = Fault::Answer {
        status: 200,
        headers: vec![("docker-content-digest".into(), wrong.to_string())],
        body: "{}".into(),
    };
    stage.server.faults().add(Rule::new(Target::Digest(wrong.clone()), document));
    let error = failure(repository.manifest_by_digest(&resolved)).await;
    assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn a_tag_that_moves_in_mid_pull_does_not_mix_two_artifacts() {
    let stage = stage().await;
    let second = stage.document(r#"{"n":2}"#);
    let first = stage.document(r#"{"n":1}"#);
    stage.server.faults().next(1, Target::Manifests, Fault::MoveTag(second.clone()));
    let repository = stage.anonymous();
    let resolved = within(repository.resolve(&stage.reference())).await.unwrap();
    assert_eq!(resolved, first);
    assert_eq!(within(repository.manifest_by_digest(&resolved)).await.unwrap().bytes, r#"{"n":1}"#);
    assert_eq!(within(repository.resolve(&stage.reference())).await.unwrap(), second);
}

#[tokio::test]
async fn a_document_of_4_mib_is_read_and_one_byte_more_is_not() {
    let stage = stage().await;
    let repository = stage.anonymous();
    for (extra, fits) in [(0, true), (1, false)] {
        let bytes = Bytes::from(vec![b' '; MAX_MANIFEST_BYTES as usize + extra]);
        let digest = stage.server.put_manifest(NAME, Some("v1"), MANIFEST, bytes);
        for chunked in [false, true] {
            stage.server.faults().clear();
            if chunked {
                stage.server.faults().always(Target::Manifests, Fault::NoLength);
            }
            let found = within(repository.manifest_by_digest(&digest)).await;
            if fits {
                assert_eq!(found.unwrap().digest, digest, "chunked: {chunked}");
            } else {
                let too_large =
                    matches!(found, Err(RegistryError::TooLarge { limit: MAX_MANIFEST_BYTES, .. }));
                assert!(too_large, "chunked: {chunked}: {found:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_document_without_end_is_left_soon_and_asked_for_once() {
    let stage = stage().await;
    let manifest = stage.document("{}");
    let repository = stage.anonymous();
    for fault in [Fault::Padded(64 << 20), Fault::Endless] {
        stage.server.traffic().reset();
        stage.server.faults().clear();
        stage.server.faults().always(Target::Manifests, fault.clone());
        let error = failure(repository.manifest_by_digest(&manifest)).await;
        assert!(matches!(error, RegistryError::TooLarge { .. }), "{fault:?}: {error:?}");
        assert!(stage.server.traffic().until(LIMIT, |traffic| traffic.open_downloads() == 0).await);
        let served = stage.server.bytes_served(&manifest);
        assert!(served < MAX_MANIFEST_BYTES + IN_FLIGHT, "{fault:?}: {served} bytes");
        assert_eq!(stage.asked(), 1, "{fault:?}");
    }
}
