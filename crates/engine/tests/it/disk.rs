//! What the disk does wrong: everybody who waits hears of it, nothing hangs, and the next try can work.

use stowage_engine::FetchError;
use stowage_store::io::{Outcome, Probe, When};

use crate::scripted::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

#[tokio::test(flavor = "multi_thread")]
async fn no_space_is_said_to_all_and_costs_no_bytes_that_have_arrived() {
    for errno in [ENOSPC, EDQUOT] {
        for point in ["data.allocate", "data.write"] {
            let probe = Probe::new();
            let (bench, blob) = (Bench::with_probe(options(), &probe), Blob::new(3_000_000, 90));
            probe.inject(When::Every(point), Outcome::Errno(errno));
            let source = Scripted::honest("a", &blob);
            let tickets = [bench.join(&blob, &source), bench.join(&blob, &source)];
            for ticket in tickets {
                let error = end(ticket).await.unwrap_err();
                assert!(matches!(error, FetchError::NoSpace { .. }), "{point}: {error:?}");
            }
            bench.landed(&blob).await;
            probe.heal();
            let fetched = end(bench.join(&blob, &source)).await.unwrap();
            assert_eq!(fetched.resumed + fetched.bytes_from_my_source, blob.size());
            bench.assert_has(&blob);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_in_mid_download_keeps_the_bytes_before_it() {
    let probe = Probe::new();
    let (bench, blob) = (Bench::with_probe(options(), &probe), Blob::new(3_000_000, 91));
    let gate = closed_gate();
    let held = std::sync::Arc::clone(&gate);
    let source = Scripted::new("a", &blob, move |number, _| Reply {
        hold: (number > 4).then(|| (0, std::sync::Arc::clone(&held))),
        ..Reply::default()
    });
    let ticket = bench.join(&blob, &source);
    until_done(&ticket, 4 * (256 << 10)).await;
    probe.inject(When::Every("data.write"), Outcome::Errno(ENOSPC));
    gate.add_permits(1);
    let error = end(ticket).await.unwrap_err();
    assert!(matches!(error, FetchError::NoSpace { .. }), "{error:?}");
    probe.heal();
    bench.landed(&blob).await;
    let fetched = end(bench.join(&blob, &source)).await.unwrap();
    assert_eq!(fetched.resumed, 4 * (256 << 10));
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_is_the_stores_error_at_every_step() {
    for point in ["data.write", "data.read", "blob.chmod", "blob.sync"] {
        let probe = Probe::new();
        let (bench, blob) = (Bench::with_probe(options(), &probe), Blob::new(3_000_000, 92));
        probe.inject(When::Every(point), Outcome::Errno(EIO));
        let source = Scripted::honest("a", &blob);
        let error = end(bench.join(&blob, &source)).await.unwrap_err();
        assert!(matches!(error, FetchError::Store { .. }), "{point}: {error:?}");
        assert!(bench.store.blob_size(&blob.digest).is_none());
        bench.landed(&blob).await;
        probe.heal();
        end(bench.join(&blob, &source)).await.unwrap();
        bench.assert_has(&blob);
    }
}
