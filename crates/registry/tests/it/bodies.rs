//! Bodies that are too short, too long, too slow, or something else than the blob.

use std::time::Instant;

use http::Method;
use stowage_registry::RegistryError;
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::artifacts::BlobData;
use stowage_testkit::registry::{At, Rule};
use stowage_testkit::{Fault, Registry as Server, Target};

use crate::stage::{LIMIT, NAME, SHORT, SIZE, Stage, drain, failure, impatient, stage, within};

#[tokio::test]
async fn a_body_without_a_length_is_read_to_its_end() {
    let stage = stage().await;
    stage.always(Fault::NoLength);
    let body = within(stage.anonymous().read(&stage.digest, None)).await.unwrap();
    assert_eq!((body.start, body.end, body.total, body.ranged), (0, None, None, false));
    let (bytes, end) = drain(body).await;
    assert_eq!(end, Ok(()));
    assert!(bytes == stage.expected(0..SIZE));
    let body = within(stage.anonymous().read(&stage.digest, Some(5..25))).await.unwrap();
    assert_eq!((body.start, body.end, body.ranged), (5, Some(25), true));
    assert_eq!(drain(body).await, (stage.expected(5..25), Ok(())));
    let small = within(stage.anonymous().small_blob(&stage.descriptor(), SIZE)).await.unwrap();
    assert!(small == stage.expected(0..SIZE));
}

#[tokio::test]
async fn a_body_that_ends_early_delivers_its_bytes_and_then_fails() {
    let first = stage().await;
    for fault in [Fault::Truncate(At::Blob(100_000)), Fault::Reset(At::Blob(100_000))] {
        for (length_is_said, range) in [(true, None), (true, Some(1000..SIZE)), (false, None)] {
            let stage = first.beside(Server::builder()).await;
            stage.next(fault.clone());
            if !length_is_said {
                stage.next(Fault::NoLength);
            }
            let start = range.as_ref().map_or(0, |range: &std::ops::Range<u64>| range.start);
            let body = within(stage.anonymous().read(&stage.digest, range)).await.unwrap();
            let (bytes, end) = drain(body).await;
            assert_eq!(end.unwrap_err().kind, SourceErrorKind::Unavailable, "{fault:?}");
            let upto = start + bytes.len() as u64;
            assert!(upto <= 100_000, "{fault:?}: {upto}");
            assert!(bytes == stage.expected(start..upto), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_read_goes_on_where_the_body_broke_off() {
    let stage = stage().await;
    for at in [1, 130_000, 300_000, SIZE - 1] {
        stage.next(Fault::Truncate(At::Blob(at)));
    }
    let (mut bytes, mut reads) = (Vec::new(), 0);
    while (bytes.len() as u64) < SIZE {
        let range = bytes.len() as u64..SIZE;
        let body = within(stage.anonymous().read(&stage.digest, Some(range))).await.unwrap();
        bytes.extend(drain(body).await.0);
        reads += 1;
        assert!(reads <= 5);
    }
    assert!(bytes == stage.expected(0..SIZE));
}

#[tokio::test]
async fn a_short_read_that_breaks_off_is_tried_again() {
    let stage = stage().await;
    stage.next(Fault::Reset(At::Body(10)));
    stage.next(Fault::Truncate(At::Body(10)));
    let bytes = within(stage.anonymous().read_range(&stage.digest, 0..1000)).await.unwrap();
    assert_eq!(bytes, stage.expected(0..1000));
    assert_eq!(stage.asked(), 2, "both faults struck one body");

    stage.always(Fault::Truncate(At::Body(10)));
    let error = failure(stage.anonymous().small_blob(&stage.descriptor(), SIZE)).await;
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_part_with_more_bytes_than_promised_fails_before_they_are_given_out() {
    let stage = stage().await;
    for fault in [Fault::TooLong(10), Fault::Endless] {
        stage.next(Fault::NoLength);
        stage.next(fault.clone());
        let body = within(stage.anonymous().read(&stage.digest, Some(0..100))).await.unwrap();
        let (bytes, end) = drain(body).await;
        assert_eq!(end.unwrap_err().kind, SourceErrorKind::Protocol, "{fault:?}");
        assert!(bytes.len() <= 100, "{fault:?}");
        assert_eq!(bytes, stage.expected(0..bytes.len() as u64));
    }
}

#[tokio::test]
async fn a_small_blob_with_more_bytes_than_its_descriptor_is_refused() {
    for fault in [Fault::TooLong(10), Fault::Endless] {
        let stage = stage().await;
        stage.always(fault.clone());
        let error = failure(stage.anonymous().small_blob(&stage.descriptor(), SIZE)).await;
        assert!(matches!(error, RegistryError::Protocol { .. }), "{fault:?}: {error:?}");
        assert_eq!(stage.asked(), 1, "{fault:?}: another try does not help");
        assert!(stage.server.traffic().until(LIMIT, |traffic| traffic.open_downloads() == 0).await);
    }
}

#[tokio::test]
async fn an_endless_stream_ends_when_its_reader_leaves() {
    let stage = stage().await;
    stage.always(Fault::Endless);
    let body = within(stage.anonymous().read(&stage.digest, None)).await.unwrap();
    assert_eq!((body.end, body.total), (None, None), "nothing is promised, so the reader must stop");
    assert_eq!(stage.server.traffic().open_downloads(), 1);
    drop(body);
    assert!(stage.server.traffic().until(LIMIT, |traffic| traffic.open_downloads() == 0).await);
}

#[tokio::test]
async fn silence_in_mid_body_ends_the_stream_within_the_limit() {
    let stage = Stage::new(Server::builder(), impatient()).await;
    stage.next(Fault::Stall(At::Blob(1000)));
    let body = within(stage.anonymous().read(&stage.digest, None)).await.unwrap();
    let begun = Instant::now();
    let (bytes, end) = drain(body).await;
    let error = end.unwrap_err();
    assert_eq!((error.kind, bytes), (SourceErrorKind::Unavailable, stage.expected(0..1000)));
    assert!(error.message.contains("sent nothing for 0.4 s"), "{error}");
    assert!(begun.elapsed() >= SHORT);
}

#[tokio::test]
async fn silence_before_the_answer_ends_every_kind_of_read() {
    let stage = Stage::new(Server::builder(), impatient()).await;
    stage.server.faults().always(Target::Everything, Fault::Silence);
    let repository = stage.anonymous();
    let (blob, head, manifest) = tokio::join!(
        within(repository.read(&stage.digest, None)),
        failure(repository.head_blob(&stage.digest)),
        failure(repository.manifest_by_digest(&stage.digest)),
    );
    assert_eq!(blob.unwrap_err().kind, SourceErrorKind::Unavailable);
    for error in [head, manifest] {
        assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("sent nothing"), "{error}");
    }
    // A blob is tried by its reader, the others by themselves.
    assert_eq!(stage.asked(), 1 + 2 + 2);
}

#[tokio::test]
async fn a_slow_body_that_never_falls_silent_is_read_to_its_end() {
    let stage = Stage::new(Server::builder(), impatient()).await;
    let slow = BlobData::generated(7, 3000);
    stage.server.put_blob(NAME, &stage.digest, slow.clone());
    stage.next(Fault::Drip(4000));
    let begun = Instant::now();
    let body = within(stage.anonymous().read(&stage.digest, None)).await.unwrap();
    let (bytes, end) = drain(body).await;
    assert_eq!(end, Ok(()));
    assert!(bytes == slow.read_range(0..3000).unwrap());
    assert!(begun.elapsed() > SHORT, "slower than the limit for silence");
}

#[tokio::test]
async fn an_encoding_that_was_not_asked_for_is_refused() {
    let stage = stage().await;
    let manifest = stage.document(r#"{"layers":[]}"#);
    stage.server.faults().always(Target::Everything, Fault::Gzip);
    let repository = stage.anonymous();
    let errors = [
        failure(repository.small_blob(&stage.descriptor(), SIZE)).await,
        failure(repository.read_range(&stage.digest, 0..10)).await,
        failure(repository.manifest_by_digest(&manifest)).await,
        failure(repository.manifest(&stage.reference())).await,
    ];
    for error in errors {
        assert!(matches!(error, RegistryError::Protocol { .. }), "{error:?}");
        assert!(error.to_string().contains("Content-Encoding"), "{error}");
    }
    let error = within(repository.read(&stage.digest, None)).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::Protocol, "{error}");
    let other = stage.server.traffic().count(|request| request.header("accept-encoding") != Some("identity"));
    assert_eq!(other, 0, "every request asks for the bytes themselves");
}

#[tokio::test]
async fn a_flipped_bit_is_read_again_and_a_second_one_is_a_lie() {
    let stage = stage().await;
    let repository = stage.anonymous();
    stage.next(Fault::Corrupt(At::Blob(300_000)));
    let bytes = within(repository.small_blob(&stage.descriptor(), SIZE)).await.unwrap();
    assert!(bytes == stage.expected(0..SIZE));

    stage.server.traffic().reset();
    stage.server.faults().add(Rule::new(Target::Blobs, Fault::Corrupt(At::Blob(9))).method(Method::GET));
    let error = failure(repository.small_blob(&stage.descriptor(), SIZE)).await;
    let RegistryError::DigestMismatch { expected, found, .. } = &error else { panic!("{error:?}") };
    assert_eq!(expected, &stage.digest);
    assert_ne!(found, &stage.digest);
    assert_eq!(error.source_kind(), SourceErrorKind::Protocol);
    assert_eq!(stage.asked(), 2);
}
