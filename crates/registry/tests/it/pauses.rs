//! Registries that ask to be left alone, and are.

use std::time::{Duration, Instant};

use stowage_registry::RegistryError;
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::registry::RetryAfter;
use stowage_testkit::{Fault, Registry as Server, Target};

use crate::stage::{SIZE, Stage, TRIES, failure, open, options, stage, within};

#[tokio::test]
async fn a_limit_says_when_to_come_back_in_every_form() {
    let minute = Duration::from_mins(1);
    let table = [
        (429, RetryAfter::Seconds(60), Some(minute)),
        (429, RetryAfter::Date(minute), Some(minute)),
        (429, RetryAfter::Silent, None),
        (429, RetryAfter::Seconds(0), Some(Duration::ZERO)),
        (429, RetryAfter::Seconds(86_400), Some(Duration::from_mins(5))),
        (429, RetryAfter::Date(Duration::from_hours(24)), Some(Duration::from_mins(5))),
        (503, RetryAfter::Seconds(60), Some(minute)),
        (503, RetryAfter::Date(minute), Some(minute)),
    ];
    let first = stage().await;
    for (status, retry_after, expected) in table {
        let stage = first.beside(Server::builder()).await;
        stage.next(Fault::Status(status, retry_after));
        let error = within(stage.anonymous().read(&stage.digest, None)).await.err().unwrap();
        let kind = if status == 429 { SourceErrorKind::RateLimited } else { SourceErrorKind::Unavailable };
        assert_eq!(error.kind, kind, "{status} {retry_after:?}: {error}");
        let slack = Duration::from_secs(3);
        match (error.retry_after, expected) {
            (None, None) => {}
            (Some(found), Some(wanted)) => {
                assert!(found <= wanted && found + slack >= wanted, "{retry_after:?}: {found:?}");
            }
            (found, wanted) => panic!("{status} {retry_after:?}: {found:?}, not {wanted:?}"),
        }
    }
}

#[tokio::test]
async fn a_pause_holds_for_every_request_to_that_host_and_for_no_other() {
    let (stage, other) = (stage().await, Server::builder().start().await.unwrap());
    stage.next(Fault::Status(429, RetryAfter::Seconds(60)));
    let repository = stage.anonymous();
    within(repository.read(&stage.digest, None)).await.err().unwrap();
    assert_eq!(stage.asked(), 1);

    let neighbour = open(&stage.client, &stage.server, "other/repository", None);
    let blob = within(neighbour.read(&stage.digest, Some(0..9))).await.err().unwrap();
    assert_eq!(blob.kind, SourceErrorKind::RateLimited);
    for error in [
        failure(repository.resolve(&stage.reference())).await,
        failure(neighbour.head_blob(&stage.digest)).await,
    ] {
        let RegistryError::RateLimited { retry_after: Some(left), .. } = error else { panic!("{error:?}") };
        assert!(left > Duration::from_secs(40) && left <= Duration::from_mins(1), "{left:?}");
    }
    assert_eq!(stage.asked(), 1, "nothing was sent during the pause");

    other.put_blob("a", &stage.digest, stage.blob.clone());
    let elsewhere = open(&stage.client, &other, "a", None);
    assert_eq!(within(elsewhere.head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
}

#[tokio::test]
async fn short_pauses_are_waited_for() {
    let stage = stage().await;
    stage.document("{}");
    let begun = Instant::now();
    stage.next(Fault::Status(429, RetryAfter::Seconds(1)));
    within(stage.anonymous().read(&stage.digest, None)).await.err().unwrap();
    // Two that did not meet the 429 themselves, and one that does.
    let (first, second) = (stage.anonymous(), open(&stage.client, &stage.server, "other/repository", None));
    let reference = stage.reference();
    let (resolved, absent) = tokio::join!(first.resolve(&reference), second.head_blob(&stage.digest));
    assert!(resolved.is_ok() && absent == Ok(None), "{resolved:?} {absent:?}");
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    assert_eq!(stage.asked(), 3);

    stage.server.faults().next(1, Target::Manifests, Fault::Status(503, RetryAfter::Seconds(1)));
    let begun = Instant::now();
    within(first.manifest(&reference)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_limit_without_a_time_is_tried_again_by_our_own_clock() {
    let stage = stage().await;
    stage.next(Fault::Status(429, RetryAfter::Silent));
    assert_eq!(within(stage.anonymous().head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
    stage.server.traffic().reset();
    stage.always(Fault::Status(429, RetryAfter::Silent));
    let error = failure(stage.anonymous().head_blob(&stage.digest)).await;
    assert!(matches!(error, RegistryError::RateLimited { retry_after: None, .. }), "{error:?}");
    assert_eq!(stage.asked(), TRIES as usize);
}

#[tokio::test]
async fn a_pause_of_the_storage_is_not_one_of_the_registry() {
    let stage = Stage::new(Server::builder().redirect_blobs(None, None), options()).await;
    let repository = stage.anonymous();
    within(repository.read_range(&stage.digest, 0..9)).await.unwrap();
    // The link is known by now, so the fault strikes at the storage.
    stage.next(Fault::Status(429, RetryAfter::Seconds(60)));
    let error = within(repository.read(&stage.digest, Some(9..19))).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::RateLimited, "{error}");
    assert!(error.message.contains(&stage.server.storage_host()), "{error}");
    assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
}
