//! Slow sources, slow connections, and the limits that keep one caller from being another's brake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use stowage_artifact::digest::Digest;
use stowage_engine::{EngineOptions, FetchRequest, Ticket};

use crate::scripted::*;

/// Silence is no reason to give up here: only pace is.
fn patient() -> EngineOptions {
    EngineOptions { inactivity: Duration::from_mins(5), ..options() }
}

/// Sends ten bytes of whatever it is asked for, then nothing.
fn stalled(name: &str, blob: &Blob) -> Arc<Scripted> {
    Scripted::new(name, blob, |_, _| Reply { hold: Some((10, closed_gate())), ..Reply::default() })
}

fn join_as(bench: &Bench, digest: &Digest, size: u64, source: &Arc<Scripted>, namespace: &str) -> Ticket {
    bench.engine.join(FetchRequest {
        digest: digest.clone(),
        size,
        source: Arc::clone(source) as _,
        namespace: namespace.to_owned(),
        authority: None,
        decode: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_crawls_holds_up_nobody_with_a_better_one() {
    for size in [40_000, 2_000_000] {
        let (bench, blob) = (Bench::new(patient()), Blob::new(size, 300));
        let (honest, evil) = (Scripted::honest("honest", &blob), stalled("evil", &blob));
        // The evil one is there alone first, and then once more as the freshest.
        let first = bench.join(&blob, &evil);
        until(|| evil.sent() > 0).await;
        let mine = bench.join(&blob, &honest);
        let last = bench.join(&blob, &evil);
        assert!(end(mine).await.is_ok());
        assert!(end(first).await.is_ok() && end(last).await.is_ok());
        bench.assert_has(&blob);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_about_the_size_holds_up_nobody() {
    for size in [40_000, 2_000_000] {
        let (bench, blob) = (Bench::new(patient()), Blob::new(size, 301));
        let evil = Scripted::new("evil", &blob, |_, _| Reply {
            total: Total::Unsaid,
            hold: Some((10, closed_gate())),
            ..Reply::default()
        });
        let lie = bench.join_sized(&blob, blob.size() + 1, &evil);
        until(|| evil.sent() > 0).await;
        assert!(end(bench.join(&blob, &Scripted::honest("honest", &blob))).await.is_ok());
        bench.assert_has(&blob);
        drop(lie);
        bench.landed(&blob).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_is_helped_by_the_others() {
    let part = 2 << 20;
    let bench = Bench::new(EngineOptions { part_bytes: part, ..patient() });
    let blob = Blob::new(8 << 20, 302);
    // The second part hangs the first time that it is asked for, with most of it to come.
    let source = Scripted::new("a", &blob, move |_, range| Reply {
        hold: (range == Some(part..2 * part)).then(|| (100_000, closed_gate())),
        ..Reply::default()
    });
    assert!(end(bench.join(&blob, &source)).await.unwrap().whole_by_me);
    bench.assert_has(&blob);
    let helped = source.requests().into_iter().flatten().filter(|range| range.start % part != 0).count();
    assert!(helped > 0, "{:?}", source.requests());
    // What hung has sent 100 kB, of which all was kept.
    assert_eq!(source.sent(), blob.size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_gets_no_more_connections_than_its_limit() {
    let bench = Bench::new(EngineOptions { max_connections_per_registry: 2, ..patient() });
    let blobs: Vec<_> = (0..3).map(|seed| Blob::new(3_000_000, 310 + seed)).collect();
    let gate = closed_gate();
    let sources: Vec<_> = blobs
        .iter()
        .map(|blob| {
            let gate = Arc::clone(&gate);
            Scripted::new("busy", blob, move |_, _| Reply {
                hold: Some((100_000, Arc::clone(&gate))),
                ..Reply::default()
            })
        })
        .collect();
    let tickets: Vec<_> = blobs.iter().zip(&sources).map(|(blob, source)| bench.join(blob, source)).collect();
    until(|| sources.iter().map(|source| source.sent()).sum::<u64>() == 200_000).await;
    // Another registry is not held up by that.
    let other = Blob::new(1_000_000, 320);
    assert!(end(bench.join(&other, &Scripted::honest("idle", &other))).await.is_ok());
    assert_eq!(sources.iter().map(|source| source.requests().len()).sum::<usize>(), 2);
    gate.add_permits(1);
    for end in join_all(tickets.into_iter().map(end)).await {
        end.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_rate_is_kept_by_all_downloads_together() {
    const RATE: u64 = 2 << 20;
    let bench = Bench::new(EngineOptions { max_bytes_per_second: Some(RATE), ..patient() });
    let sizes = [1_500_000, 1_500_000, 100_000];
    let blobs: Vec<_> =
        sizes.into_iter().enumerate().map(|(n, size)| Blob::new(size, 330 + n as u64)).collect();
    let begun = Instant::now();
    let downloads = blobs.iter().zip(["a", "b", "c"]).map(|(blob, namespace)| {
        let source = Scripted::honest(namespace, blob);
        end(join_as(&bench, &blob.digest, blob.size(), &source, namespace))
    });
    for end in join_all(downloads).await {
        end.unwrap();
    }
    // A tenth of a second may be had at once, and the last bytes are on disk before they are paid for.
    let least = Duration::from_secs_f64(3_100_000.0 / RATE as f64 - 0.4);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    for blob in &blobs {
        bench.assert_has(blob);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_blob_spoils_no_other_of_its_batch() {
    let bench = Bench::new(options());
    let blobs: Vec<_> = (0..40).map(|seed| Blob::new(3000, 340 + seed)).collect();
    let ends = join_all(blobs.iter().enumerate().map(|(n, blob)| {
        let source = Scripted::new("a", blob, move |_, _| Reply {
            corrupt: (n == 17).then_some(1234),
            ..Reply::default()
        });
        end(bench.join(blob, &source))
    }))
    .await;
    for (n, (ended, blob)) in ends.into_iter().zip(&blobs).enumerate() {
        assert_eq!(ended.is_ok(), n != 17, "{n}: {ended:?}");
        assert_eq!(bench.store.blob_size(&blob.digest).is_some(), n != 17);
        let place = format!("store/quarantine/sha256-{}/data", blob.digest.hex());
        assert_eq!(bench.dir.path().join(place).exists(), n == 17);
    }
}
