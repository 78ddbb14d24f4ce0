//! Looking blobs up, and reading small ones whole.

use http::Method;
use stowage_artifact::{Algorithm, Descriptor, Digest};
use stowage_registry::RegistryError;
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::registry::Rule;
use stowage_testkit::{Fault, Target};

use crate::stage::{NAME, SIZE, failure, stage, within};

#[tokio::test]
async fn a_head_says_the_size_or_that_there_is_no_blob() {
    let stage = stage().await;
    let repository = stage.anonymous();
    let absent = Digest::of(Algorithm::Sha256, b"absent");
    assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
    assert_eq!(within(repository.head_blob(&absent)).await.unwrap(), None);
    assert_eq!(stage.server.traffic().count(|request| request.method == Method::HEAD), 2);
    assert_eq!(stage.server.traffic().total_bytes_served(), 0);
}

#[tokio::test]
async fn a_head_without_a_length_is_made_good_by_one_byte() {
    let stage = stage().await;
    let silent = Fault::Header("content-length".into(), String::new());
    stage.server.faults().add(Rule::new(Target::Blobs, silent).method(Method::HEAD));
    assert_eq!(within(stage.anonymous().head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
    let requests = stage.server.traffic().requests();
    let asked: Vec<_> = requests.iter().map(|request| (&request.method, request.range.clone())).collect();
    assert_eq!(asked, [(&Method::HEAD, None), (&Method::GET, Some(0..1))]);
}

#[tokio::test]
async fn a_missing_blob_is_not_found_and_not_tried_again() {
    let stage = stage().await;
    let repository = stage.anonymous();
    stage.server.delete_blob(NAME, &stage.digest);
    let error = within(repository.read(&stage.digest, None)).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::NotFound, "{error}");
    let error = failure(repository.small_blob(&stage.descriptor(), SIZE)).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    stage.always(Fault::status(410));
    let error = failure(repository.read_range(&stage.digest, 0..1)).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    assert_eq!(stage.asked(), 3);
}

#[tokio::test]
async fn a_blob_that_was_deleted_in_mid_download_is_not_found() {
    let stage = stage().await;
    let repository = stage.anonymous();
    within(repository.read_range(&stage.digest, 0..1000)).await.unwrap();
    stage.server.delete_blob(NAME, &stage.digest);
    let error = within(repository.read(&stage.digest, Some(1000..2000))).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_registry_that_says_yes_to_every_head_is_caught_by_the_read() {
    let stage = stage().await;
    let stranger = Digest::of(Algorithm::Sha256, b"a stranger's");
    stage.always(Fault::YesToHead(12));
    let repository = stage.anonymous();
    assert_eq!(within(repository.head_blob(&stranger)).await.unwrap(), Some(12));
    let error = failure(repository.read_range(&stranger, 0..12)).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_small_blob_is_checked_against_size_digest_and_limit() {
    let stage = stage().await;
    let repository = stage.anonymous();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = stage.blob.digest(algorithm).unwrap();
        stage.server.put_blob(NAME, &digest, stage.blob.clone());
        let whole = Descriptor::new("x/y", digest, SIZE);
        assert!(within(repository.small_blob(&whole, SIZE)).await.unwrap() == stage.expected(0..SIZE));
    }
    stage.server.traffic().reset();
    let error = failure(repository.small_blob(&stage.descriptor(), SIZE - 1)).await;
    assert!(matches!(error, RegistryError::TooLarge { limit, .. } if limit == SIZE - 1), "{error:?}");
    assert_eq!(stage.asked(), 0, "what is too large is not asked for");

    let lying = |size| Descriptor::new("x/y", stage.digest.clone(), size);
    let error = failure(repository.small_blob(&lying(SIZE - 1), SIZE)).await;
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error:?}");
    let error = failure(repository.small_blob(&lying(SIZE + 1), SIZE * 2)).await;
    assert!(error.source_kind() != SourceErrorKind::NotFound, "{error:?}");
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let stage = stage().await;
    let digest = Digest::of(Algorithm::Sha256, b"");
    stage.server.put_blob(NAME, &digest, "");
    let repository = stage.anonymous();
    assert_eq!(within(repository.head_blob(&digest)).await.unwrap(), Some(0));
    let bytes = within(repository.small_blob(&Descriptor::new("x/y", digest, 0), 10)).await.unwrap();
    assert!(bytes.is_empty());
}

#[tokio::test]
async fn each_stream_has_a_connection_of_its_own() {
    let stage = stage().await;
    stage.always(Fault::Stall(stowage_testkit::registry::At::Body(10)));
    let repository = stage.anonymous();
    let read = |from: u64| repository.read(&stage.digest, Some(from..from + 1000));
    let (one, two, three) = tokio::join!(read(0), read(1000), read(2000));
    let open = [one.unwrap(), two.unwrap(), three.unwrap()];
    let connections: std::collections::BTreeSet<u64> =
        stage.server.traffic().requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), open.len());
}
