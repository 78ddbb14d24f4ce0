//! What stays bounded however large the blob is.

use std::sync::Arc;

use futures::future::join_all;
use stowage_engine::EngineOptions;

use crate::scripted::*;

const PART: u64 = 256 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn no_part_starts_further_than_the_window_beyond_the_digest() {
    let window = 4 * PART;
    let options = EngineOptions { window_bytes: window, ..options() };
    let (bench, blob) = (Bench::new(options), Blob::new(40 * PART as usize, 70));
    let gate = closed_gate();
    let hold = Arc::clone(&gate);
    // The part at 1 * PART hangs, so the digest stands still there.
    let source = Scripted::new("a", &blob, move |_, range| Reply {
        hold: (range.is_some_and(|range| range.start == PART)).then(|| (10, Arc::clone(&hold))),
        ..Reply::default()
    });
    let ticket = bench.join(&blob, &source);
    // Parts 0 and 2 to 5 arrive, and ten bytes of the one that hangs are in a buffer.
    until_done(&ticket, 5 * PART).await;
    until(|| bench.engine.stats().connections == 1).await;
    let furthest = source.requests().into_iter().map(|range| range.unwrap().start).max().unwrap();
    assert_eq!(furthest, PART + window);
    gate.add_permits(1);
    end(ticket).await.unwrap();
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn buffers_take_at_most_two_mebibytes_per_connection() {
    let options = EngineOptions {
        part_bytes: 2 << 20,
        connections_per_blob: 4,
        max_connections: 3,
        max_connections_per_namespace: 3,
        ..options()
    };
    let bench = Bench::new(options);
    let blobs: Vec<_> = (0..4).map(|seed| Blob::new(9_000_000, 80 + seed)).collect();
    let downloads = blobs.iter().map(|blob| end(bench.join(blob, &Scripted::honest("a", blob))));
    for end in join_all(downloads).await {
        end.unwrap();
    }
    for blob in &blobs {
        bench.assert_has(blob);
    }
    let stats = bench.engine.stats();
    assert!(stats.buffer_bytes_peak > 0 && stats.buffer_bytes_peak <= 3 * (2 << 20), "{stats:?}");
    until(|| bench.engine.stats().buffer_bytes == 0).await;
    assert_eq!(bench.engine.stats().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_blobs_pass_through_few_slots() {
    let bench = Bench::new(options());
    let blobs: Vec<_> = (0..200).map(|seed| Blob::new(1000, 100 + seed)).collect();
    let sources: Vec<_> = blobs.iter().map(|blob| Scripted::honest("a", blob)).collect();
    let downloads = blobs.iter().zip(&sources).map(|(blob, source)| end(bench.join(blob, source)));
    for end in join_all(downloads).await {
        end.unwrap();
    }
    for blob in &blobs {
        bench.assert_has(blob);
    }
    assert_eq!(bench.engine.stats().blobs_completed, 200);
}
