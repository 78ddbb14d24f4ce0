//! Answers to a read of a range: the right one, and those that must not be taken for it.

use stowage_registry::RegistryError;
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::registry::WrongRange;
use stowage_testkit::{Fault, Target};

use crate::stage::{SIZE, drain, failure, stage, within};

#[tokio::test]
async fn a_part_is_what_was_asked_for() {
    let stage = stage().await;
    let repository = stage.anonymous();
    let body = within(repository.read(&stage.digest, Some(1000..3000))).await.unwrap();
    assert_eq!((body.start, body.end, body.total, body.ranged), (1000, Some(3000), Some(SIZE), true));
    assert_eq!(drain(body).await, (stage.expected(1000..3000), Ok(())));
    let bytes = within(repository.read_range(&stage.digest, SIZE - 10..SIZE)).await.unwrap();
    assert_eq!(bytes, stage.expected(SIZE - 10..SIZE));
}

#[tokio::test]
async fn a_part_that_ends_with_the_blob_is_a_shorter_part() {
    let stage = stage().await;
    let body = within(stage.anonymous().read(&stage.digest, Some(SIZE - 10..SIZE + 90))).await.unwrap();
    assert_eq!((body.start, body.end, body.ranged), (SIZE - 10, Some(SIZE), true));
    assert_eq!(drain(body).await, (stage.expected(SIZE - 10..SIZE), Ok(())));
}

#[tokio::test]
async fn every_wrong_content_range_is_refused_without_a_byte_of_it() {
    let table = [
        WrongRange::Starts(5),
        WrongRange::Ends(5),
        WrongRange::Total(7),
        WrongRange::Missing,
        WrongRange::Garbage,
    ];
    let stage = stage().await;
    let repository = stage.anonymous();
    for wrong in table {
        stage.next(Fault::ContentRange(wrong));
        let error = within(repository.read(&stage.digest, Some(100..200))).await.err();
        assert_eq!(error.map(|error| error.kind), Some(SourceErrorKind::RangeRefused), "{wrong:?}");
        stage.next(Fault::ContentRange(wrong));
        let error = failure(repository.read_range(&stage.digest, 100..200)).await;
        assert!(matches!(error, RegistryError::RangeRefused { .. }), "{wrong:?}: {error:?}");
    }
    let bytes = within(repository.read_range(&stage.digest, 100..200)).await.unwrap();
    assert_eq!(bytes, stage.expected(100..200));
}

#[tokio::test]
async fn a_whole_blob_in_place_of_a_part_is_a_whole_blob() {
    let stage = stage().await;
    stage.always(Fault::IgnoreRange);
    let body = within(stage.anonymous().read(&stage.digest, Some(1000..3000))).await.unwrap();
    assert_eq!((body.start, body.end, body.total, body.ranged), (0, Some(SIZE), Some(SIZE), false));
    let (bytes, end) = drain(body).await;
    assert_eq!(end, Ok(()));
    assert!(bytes == stage.expected(0..SIZE));
    let bytes = within(stage.anonymous().read_range(&stage.digest, 1000..3000)).await.unwrap();
    assert_eq!(bytes, stage.expected(1000..3000));
}

#[tokio::test]
async fn a_part_is_cut_out_of_a_whole_blob_that_never_ends() {
    let stage = stage().await;
    stage.always(Fault::IgnoreRange);
    stage.always(Fault::Endless);
    let bytes = within(stage.anonymous().read_range(&stage.digest, 1000..3000)).await.unwrap();
    assert_eq!(bytes, stage.expected(1000..3000));
}

#[tokio::test]
async fn a_refused_range_is_named_so() {
    let stage = stage().await;
    let repository = stage.anonymous();
    stage.next(Fault::RangeNotSatisfiable);
    let error = within(repository.read(&stage.digest, Some(0..10))).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::RangeRefused, "{error}");
    // One that the blob does not have is refused by any server.
    let error = failure(repository.read_range(&stage.digest, SIZE..SIZE + 10)).await;
    assert!(matches!(error, RegistryError::RangeRefused { .. }), "{error:?}");
    let error = within(repository.read(&stage.digest, Some(10..10))).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::RangeRefused, "{error}");
}

#[tokio::test]
async fn a_refused_range_is_asked_for_once() {
    let stage = stage().await;
    stage.always(Fault::RangeNotSatisfiable);
    failure(stage.anonymous().read_range(&stage.digest, 0..10)).await;
    assert_eq!(stage.asked(), 1);
}

#[tokio::test]
async fn a_part_in_answer_to_a_whole_read_is_refused() {
    let stage = stage().await;
    let part = Fault::Answer {
        status: 206,
        headers: vec![("content-range".into(), format!("bytes 0-2/{SIZE}"))],
        body: "abc".into(),
    };
    stage.server.faults().next(1, Target::Blobs, part);
    let error = within(stage.anonymous().read(&stage.digest, None)).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_length_that_contradicts_the_content_range_is_refused() {
    let stage = stage().await;
    stage.next(Fault::TooLong(10));
    let error = within(stage.anonymous().read(&stage.digest, Some(0..100))).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::Protocol, "{error}");
}
