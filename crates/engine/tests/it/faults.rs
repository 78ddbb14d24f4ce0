//! What sources do wrong, and how the download goes on or gives up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stowage_engine::{EngineOptions, FetchError};
use stowage_store::{SourceError, SourceErrorKind};

use crate::scripted::*;

const PART: u64 = 256 << 10;

/// One connection, so that the order of requests is known.
fn one_connection() -> EngineOptions {
    EngineOptions { connections_per_blob: 1, ..options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_at_byte_n_goes_on_at_byte_n() {
    let (bench, blob) = (Bench::new(one_connection()), Blob::new(2 * PART as usize, 20));
    let source = Scripted::new("a", &blob, |number, _| Reply {
        reset_after: (number == 2).then_some(100_001),
        ..Reply::default()
    });
    let fetched = end(bench.join(&blob, &source)).await.unwrap();
    assert!(fetched.whole_by_me);
    bench.assert_has(&blob);
    assert_eq!(source.requests(), [Some(0..PART), Some(PART..2 * PART), Some(PART + 100_001..2 * PART)]);
    assert_eq!(source.sent(), blob.size());
    assert_eq!(bench.engine.stats().retries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_blob_that_was_reset_asks_only_for_the_rest() {
    let (bench, blob) = (Bench::new(options()), Blob::new(200_000, 21));
    let source = Scripted::new("a", &blob, |number, _| Reply {
        reset_after: (number == 1).then_some(70_000),
        ..Reply::default()
    });
    end(bench.join(&blob, &source)).await.unwrap();
    assert_eq!(source.requests(), [None, Some(70_000..200_000)]);
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_early_without_a_word_is_a_failed_try() {
    let (bench, blob) = (Bench::new(options()), Blob::new(200_000, 22));
    let source = Scripted::new("a", &blob, |number, _| Reply {
        end_after: (number == 1).then_some(150_000),
        ..Reply::default()
    });
    end(bench.join(&blob, &source)).await.unwrap();
    assert_eq!(source.requests(), [None, Some(150_000..200_000)]);
    assert_eq!(bench.engine.stats().retries, 1);
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn six_tries_without_a_byte_are_the_end_of_a_source() {
    let (bench, blob) = (Bench::new(options()), Blob::new(3_000_000, 23));
    let source = Scripted::new("a", &blob, |_, _| Reply::fail(SourceErrorKind::Unavailable));
    let error = end(bench.join(&blob, &source)).await.unwrap_err();
    assert!(matches!(&error, FetchError::Unavailable { tries: 6, from, .. } if from == "a/repo"), "{error}");
    assert_eq!(source.requests().len(), 6);
    bench.landed(&blob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_starts_the_count_of_tries_again() {
    let (bench, blob) = (Bench::new(one_connection()), Blob::new(PART as usize, 24));
    // Four failures, then some bytes and a reset, again and again: never six in a row without a byte.
    let source = Scripted::new("a", &blob, |number, _| match number % 5 {
        0 => Reply { reset_after: Some(40_000), ..Reply::default() },
        _ => Reply::fail(SourceErrorKind::Unavailable),
    });
    end(bench.join(&blob, &source)).await.unwrap();
    bench.assert_has(&blob);
    assert_eq!(source.sent(), blob.size());
    assert_eq!(source.requests().len() as u64, 5 * PART.div_ceil(40_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_limits_its_rate_is_left_alone_as_long_as_it_asks() {
    let (bench, blob) = (Bench::new(options()), Blob::new(100_000, 25));
    let pause = Duration::from_millis(300);
    let source = Scripted::new("a", &blob, move |number, _| match number {
        1 => Reply {
            refuse: Some(SourceError::new(SourceErrorKind::RateLimited, "429").with_retry_after(Some(pause))),
            ..Reply::default()
        },
        _ => Reply::default(),
    });
    let started = Instant::now();
    let first = bench.join(&blob, &source);
    until(|| source.requests().len() == 1 && bench.engine.stats().connections == 0).await;
    // Another blob of the same host keeps the pause too.
    let other = Blob::new(100_001, 26);
    let second = Scripted::honest("a", &other);
    end(bench.join(&other, &second)).await.unwrap();
    assert!(started.elapsed() >= pause);
    end(first).await.unwrap();
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_rate_limits_end_as_such() {
    let (bench, blob) = (Bench::new(options()), Blob::new(100_000, 27));
    let source = Scripted::new("a", &blob, |_, _| Reply::fail(SourceErrorKind::RateLimited));
    let error = end(bench.join(&blob, &source)).await.unwrap_err();
    assert!(matches!(error, FetchError::RateLimited { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_is_given_up_and_goes_on_where_it_stalled() {
    let options = EngineOptions { inactivity: Duration::from_millis(100), ..options() };
    let (bench, blob) = (Bench::new(options), Blob::new(200_000, 28));
    let gate = closed_gate();
    let source = Scripted::new("a", &blob, move |number, _| Reply {
        hold: (number == 1).then(|| (120_000, Arc::clone(&gate))),
        ..Reply::default()
    });
    end(bench.join(&blob, &source)).await.unwrap();
    assert_eq!(source.requests(), [None, Some(120_000..200_000)]);
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_size_than_declared_is_refused_before_anything_is_written() {
    for found in [100_001, 99_999, u64::MAX] {
        let (bench, blob) = (Bench::new(options()), Blob::new(100_000, 29));
        let source =
            Scripted::new("a", &blob, move |_, _| Reply { total: Total::Lie(found), ..Reply::default() });
        let error = end(bench.join(&blob, &source)).await.unwrap_err();
        assert!(
            matches!(&error, FetchError::SizeMismatch { declared: 100_000, found: f, .. } if *f == found),
            "{error}"
        );
        assert_eq!(bench.engine.stats().bytes_fetched, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_goes_on_is_read_no_further_than_declared() {
    let (bench, whole) = (Bench::new(options()), Blob::new(200_000, 30));
    let source =
        Scripted::new("a", &whole, |_, _| Reply { total: Total::Unsaid, extra: 1 << 40, ..Reply::default() });
    // The right bytes and then some more: the digest decides.
    end(bench.join(&whole, &source)).await.unwrap();
    bench.assert_has(&whole);
    assert!(source.sent() < 300_000);
    // The descriptor cuts the blob off: the bytes cannot be right, and the length is why.
    let (bench, cut) = (Bench::new(options()), Blob::new(200_000, 31));
    let source = Scripted::new("a", &cut, |_, _| Reply { total: Total::Unsaid, ..Reply::default() });
    let error = end(bench.join_sized(&cut, 150_000, &source)).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLong { declared: 150_000, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsized_body_is_one_stream_and_still_verified() {
    let (bench, blob) = (Bench::new(options()), Blob::new(2_000_000, 32));
    let source =
        Scripted::new("a", &blob, |_, _| Reply { whole: true, total: Total::Unsaid, ..Reply::default() });
    end(bench.join(&blob, &source)).await.unwrap();
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_bytes_of_a_range_are_never_taken_for_the_right_ones() {
    let (bench, blob) = (Bench::new(options()), Blob::new(2_000_000, 33));
    let source = Scripted::new("a", &blob, |_, range| Reply {
        claims_start: range.map(|range| range.start + 1),
        ..Reply::default()
    });
    end(bench.join(&blob, &source)).await.unwrap();
    bench.assert_has(&blob);
    assert_eq!(source.requests(), [Some(0..PART), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_byte_is_retried_once_and_then_named() {
    let (bench, blob) = (Bench::new(options()), Blob::new(1_000_000, 34));
    let source = Scripted::new("bad", &blob, |_, _| Reply { corrupt: Some(777_777), ..Reply::default() });
    let error = end(bench.join(&blob, &source)).await.unwrap_err();
    assert!(matches!(&error, FetchError::DigestMismatch { host, .. } if host == "bad/repo"), "{error}");
    assert_eq!(source.sent(), 2 * blob.size());
    assert_eq!(bench.engine.stats().digest_mismatches, 2);
    assert!(bench.store.blob_size(&blob.digest).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_byte_that_does_not_come_again_is_forgiven() {
    let (bench, blob) = (Bench::new(options()), Blob::new(200_000, 35));
    let source = Scripted::new("a", &blob, |number, _| Reply {
        corrupt: (number == 1).then_some(5),
        ..Reply::default()
    });
    let fetched = end(bench.join(&blob, &source)).await.unwrap();
    assert_eq!((fetched.bytes_from_my_source, fetched.resumed), (200_000, 0));
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_corrupt_byte_another_source_is_used() {
    let (bench, blob) = (Bench::new(one_connection()), Blob::new(1_000_000, 36));
    let gate = closed_gate();
    let hold = Arc::clone(&gate);
    let good = Scripted::new("good", &blob, move |_, _| Reply {
        hold: Some((1000, Arc::clone(&hold))),
        ..Reply::default()
    });
    let bad = Scripted::new("bad", &blob, |_, _| Reply { corrupt: Some(PART), ..Reply::default() });
    let mine = bench.join(&blob, &good);
    until(|| good.sent() == 1000).await;
    // The fresher source brings everything behind the first part.
    let theirs = bench.join(&blob, &bad);
    gate.add_permits(1);
    let fetched = end(mine).await.unwrap();
    assert!(fetched.whole_by_me, "the pass that counted was all the good one's");
    assert_eq!(end(theirs).await.unwrap().bytes_from_my_source, 0);
    assert_eq!(bench.engine.stats().digest_mismatches, 1);
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_source_ends_its_flight_and_not_the_engine() {
    let (bench, blob) = (Bench::new(options()), Blob::new(100_000, 37));
    let source = Scripted::new("a", &blob, |_, _| Reply { panics: true, ..Reply::default() });
    let error = end(bench.join(&blob, &source)).await.unwrap_err();
    assert!(matches!(error, FetchError::Died { .. }), "{error}");
    end(bench.join(&blob, &Scripted::honest("a", &blob))).await.unwrap();
    bench.assert_has(&blob);
}
