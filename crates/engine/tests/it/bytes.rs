//! The plain way: which requests are made, and that the bytes arrive.

use stowage_artifact::digest::{Algorithm, Digest};
use stowage_store::SourceErrorKind;

use crate::scripted::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_blob_is_one_request_without_a_range() {
    let (bench, blob) = (Bench::new(options()), Blob::new(200_000, 1));
    let source = Scripted::honest("a", &blob);
    let fetched = end(bench.join(&blob, &source)).await.unwrap();
    assert_eq!(source.requests(), [None]);
    assert_eq!((fetched.bytes_from_my_source, fetched.whole_by_me), (200_000, true));
    assert_eq!((fetched.total, fetched.resumed), (200_000, 0));
    bench.assert_has(&blob);
    let stats = bench.engine.stats();
    assert_eq!((stats.bytes_fetched, stats.blobs_completed, stats.retries), (200_000, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_comes_in_parts_and_each_byte_is_asked_for_once() {
    let (bench, blob) = (Bench::new(options()), Blob::new(5_000_123, 2));
    let source = Scripted::honest("a", &blob);
    let fetched = end(bench.join(&blob, &source)).await.unwrap();
    assert!(fetched.whole_by_me);
    bench.assert_has(&blob);
    let mut ranges: Vec<_> = source.requests().into_iter().map(|range| range.unwrap()).collect();
    ranges.sort_by_key(|range| range.start);
    assert_eq!(ranges.len() as u64, blob.size().div_ceil(256 << 10));
    assert_eq!(ranges[0].start, 0);
    assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert_eq!(ranges.last().unwrap().end, blob.size());
    assert_eq!(source.sent(), blob.size());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_needs_no_source() {
    let (bench, blob) = (Bench::new(options()), Blob::new(0, 3));
    let source = Scripted::new("a", &blob, |_, _| Reply::fail(SourceErrorKind::NotFound));
    end(bench.join(&blob, &source)).await.unwrap();
    assert!(source.requests().is_empty());
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_size_for_another_digest_is_wrong_bytes() {
    let bench = Bench::new(options());
    let blob = Blob { digest: Digest::of(Algorithm::Sha256, b"x"), bytes: bytes::Bytes::new() };
    let error = end(bench.join(&blob, &Scripted::honest("a", &blob))).await.unwrap_err();
    assert!(matches!(error, stowage_engine::FetchError::DigestMismatch { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sha512_blob_is_verified_by_its_own_algorithm() {
    let bench = Bench::new(options());
    let mut blob = Blob::new(700_000, 4);
    blob.digest = Digest::of(Algorithm::Sha512, &blob.bytes);
    end(bench.join(&blob, &Scripted::honest("a", &blob))).await.unwrap();
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_there_is_not_fetched_again() {
    let (bench, blob) = (Bench::new(options()), Blob::new(300_000, 5));
    end(bench.join(&blob, &Scripted::honest("a", &blob))).await.unwrap();
    let second = Scripted::honest("a", &blob);
    let fetched = end(bench.join(&blob, &second)).await.unwrap();
    assert!(second.requests().is_empty());
    assert_eq!((fetched.bytes_from_my_source, fetched.whole_by_me), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_is_one_stream() {
    let (bench, blob) = (Bench::new(options()), Blob::new(3_000_000, 6));
    let source = Scripted::new("a", &blob, |_, _| Reply { whole: true, ..Reply::default() });
    end(bench.join(&blob, &source)).await.unwrap();
    bench.assert_has(&blob);
    assert_eq!(source.requests(), [Some(0..256 << 10)]);
    assert_eq!(source.sent(), blob.size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_ranges_keeps_what_had_arrived() {
    let (bench, blob) = (Bench::new(options()), Blob::new(3_000_000, 7));
    let source = Scripted::new("a", &blob, |number, _| Reply {
        whole: true,
        reset_after: (number == 1).then_some(1_700_000),
        ..Reply::default()
    });
    end(bench.join(&blob, &source)).await.unwrap();
    bench.assert_has(&blob);
    // The server is asked for the rest, sends everything again, and only the rest counts as fetched.
    assert_eq!(source.requests(), [Some(0..256 << 10), Some(1_700_000..3_000_000)]);
    assert_eq!(bench.engine.stats().bytes_fetched, blob.size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignored_a_range_once_may_honour_the_next() {
    let (bench, blob) = (Bench::new(options()), Blob::new(3_000_000, 8));
    let source = Scripted::new("a", &blob, |number, _| Reply {
        whole: number == 1,
        reset_after: (number == 1).then_some(1_000_000),
        ..Reply::default()
    });
    end(bench.join(&blob, &source)).await.unwrap();
    bench.assert_has(&blob);
    assert_eq!(source.sent(), blob.size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_ranges_is_asked_for_the_whole() {
    let (bench, blob) = (Bench::new(options()), Blob::new(2_000_000, 9));
    let source = Scripted::new("a", &blob, |_, range| match range {
        Some(_) => Reply::fail(SourceErrorKind::RangeRefused),
        None => Reply::default(),
    });
    end(bench.join(&blob, &source)).await.unwrap();
    bench.assert_has(&blob);
    assert_eq!(source.requests(), [Some(0..256 << 10), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_loses_its_ranges_once_does_not_begin_again() {
    for (seed, whole) in [(11, true), (12, false)] {
        let (bench, blob) = (Bench::new(options()), Blob::new(3_000_000, seed));
        let source = Scripted::new("a", &blob, move |number, _| match number {
            4 if whole => Reply { whole, ..Reply::default() },
            4 => Reply::fail(SourceErrorKind::RangeRefused),
            _ => Reply::default(),
        });
        end(bench.join(&blob, &source)).await.unwrap();
        bench.assert_has(&blob);
        assert_eq!(source.sent(), blob.size());
        assert_eq!(bench.engine.stats().retries, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_loses_its_ranges_for_good_is_asked_for_the_whole() {
    let (bench, blob) = (Bench::new(options()), Blob::new(3_000_000, 13));
    let source = Scripted::new("a", &blob, |number, range| match (number, range) {
        (5.., Some(_)) => Reply::fail(SourceErrorKind::RangeRefused),
        _ => Reply::default(),
    });
    end(bench.join(&blob, &source)).await.unwrap();
    bench.assert_has(&blob);
    assert_eq!(source.requests().last(), Some(&None));
    assert_eq!(bench.engine.stats().bytes_fetched, blob.size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_less_server_among_others_leaves_the_work_to_them() {
    let (bench, blob) = (Bench::new(options()), Blob::new(4_000_000, 10));
    let gate = closed_gate();
    let held = std::sync::Arc::clone(&gate);
    let ranged = Scripted::new("a", &blob, move |number, _| Reply {
        hold: (number > 1).then(|| (1000, std::sync::Arc::clone(&held))),
        ..Reply::default()
    });
    let first = bench.join(&blob, &ranged);
    until_done(&first, 256 << 10).await;
    let whole = Scripted::new("b", &blob, |_, _| Reply { whole: true, ..Reply::default() });
    let second = bench.join(&blob, &whole);
    gate.add_permits(1);
    assert!(end(first).await.is_ok() && end(second).await.is_ok());
    bench.assert_has(&blob);
    assert_eq!(bench.engine.stats().bytes_fetched, blob.size());
}
