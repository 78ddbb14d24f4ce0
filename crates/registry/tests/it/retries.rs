//! What is tried again, how often, and what is not.

use stowage_registry::{Registry, RegistryError};
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::{Fault, Registry as Server, Target};

use crate::stage::{SIZE, Stage, TRIES, failure, options, stage, within};

#[tokio::test]
async fn a_registry_that_recovers_is_read() {
    let first = stage().await;
    for status in [500, 502, 503, 504, 408, 425] {
        let stage = first.beside(Server::builder()).await;
        let manifest = stage.document("{}");
        let repository = stage.anonymous();
        let faults = stage.server.faults();
        faults.next(TRIES - 1, Target::Everything, Fault::status(status));
        assert_eq!(within(repository.resolve(&stage.reference())).await.unwrap(), manifest, "{status}");
        faults.next(TRIES - 1, Target::Everything, Fault::status(status));
        assert_eq!(within(repository.manifest_by_digest(&manifest)).await.unwrap().bytes, "{}");
        faults.next(TRIES - 1, Target::Everything, Fault::status(status));
        assert!(within(repository.head_manifest(&manifest)).await.unwrap());
        faults.next(TRIES - 1, Target::Everything, Fault::status(status));
        assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
        faults.next(TRIES - 1, Target::Everything, Fault::status(status));
        assert_eq!(within(repository.read_range(&stage.digest, 0..9)).await.unwrap(), stage.expected(0..9));
        assert_eq!(stage.asked(), 5 * TRIES as usize);
    }
}

#[tokio::test]
async fn a_registry_that_stays_broken_is_unavailable_after_the_tries() {
    let stage = stage().await;
    stage.server.faults().always(Target::Everything, Fault::status(500));
    let repository = stage.anonymous();
    let errors = [
        failure(repository.resolve(&stage.reference())).await,
        failure(repository.manifest(&stage.reference())).await,
        failure(repository.head_manifest(&stage.digest)).await,
        failure(repository.head_blob(&stage.digest)).await,
        failure(repository.read_range(&stage.digest, 0..9)).await,
        failure(repository.small_blob(&stage.descriptor(), SIZE)).await,
    ];
    for error in &errors {
        assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("answers 500"), "{error}");
    }
    assert_eq!(stage.asked(), errors.len() * TRIES as usize);
}

#[tokio::test]
async fn a_stream_is_tried_once_because_its_reader_counts_the_tries() {
    let stage = stage().await;
    stage.always(Fault::status(500));
    let error = within(stage.anonymous().read(&stage.digest, None)).await.err().unwrap();
    assert_eq!((error.kind, error.retry_after), (SourceErrorKind::Unavailable, None));
    assert_eq!(stage.asked(), 1);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_not_tried_again() {
    let first = stage().await;
    for status in [204, 300, 304, 418] {
        let stage = first.beside(Server::builder()).await;
        stage.server.faults().always(Target::Everything, Fault::status(status));
        let error = failure(stage.anonymous().manifest(&stage.reference())).await;
        assert!(matches!(error, RegistryError::Protocol { .. }), "{status}: {error:?}");
        assert_eq!(stage.asked(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_is_away_is_unavailable_and_read_when_it_is_back() {
    let stage = stage().await;
    let repository = stage.anonymous();
    stage.server.go_offline().await;
    let error = failure(repository.head_blob(&stage.digest)).await;
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(&stage.server.host()), "{error}");
    stage.server.go_online().await;
    assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
}

#[tokio::test]
async fn connections_that_were_reset_while_idle_are_no_failure() {
    let stage = Stage::new(Server::builder(), options()).await;
    let repository = stage.anonymous();
    for _ in 0..3 {
        assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
        within(repository.read_range(&stage.digest, 0..9)).await.unwrap();
        stage.server.reset_connections();
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unavailable() {
    let client = Registry::new(options()).unwrap();
    let reference = "registry.stowage.invalid/team/model:v1".parse().unwrap();
    let repository = client.repository(&reference, None);
    let error = failure(repository.resolve(&reference)).await;
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("the name registry.stowage.invalid cannot be resolved"), "{error}");
}
