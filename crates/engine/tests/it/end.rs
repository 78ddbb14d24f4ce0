//! How downloads stop, and that they go on where they stopped.

use std::sync::Arc;

use stowage_engine::{Engine, FetchError};

use crate::scripted::*;

const PART: u64 = 256 << 10;
const MIB: u64 = 1 << 20;

/// Holds every body after so many bytes, for ever.
fn stuck(blob: &Blob, after: u64) -> Arc<Scripted> {
    let gate = closed_gate();
    Scripted::new("a", blob, move |_, _| Reply { hold: Some((after, Arc::clone(&gate))), ..Reply::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_to_leave_stops_the_flight_and_the_next_goes_on() {
    let (bench, blob) = (Bench::new(options()), Blob::new(4_000_000, 60));
    let first = stuck(&blob, 100_000);
    let tickets = [bench.join(&blob, &first), bench.join(&blob, &first)];
    let [one, two] = tickets;
    // Four connections, each with the start of its part.
    until(|| first.sent() >= 400_000).await;
    drop(one);
    assert!(bench.engine.is_flying(&blob.digest));
    drop(two);
    bench.landed(&blob).await;
    let arrived = first.sent();
    let second = Scripted::honest("b", &blob);
    let fetched = end(bench.join(&blob, &second)).await.unwrap();
    bench.assert_has(&blob);
    assert_eq!((fetched.resumed, fetched.whole_by_me), (arrived, false));
    assert_eq!(asked(&second.requests(), blob.size()), blob.size() - arrived);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_flight_that_is_stopping_gets_the_blob() {
    let (bench, blob) = (Bench::new(options()), Blob::new(4_000_000, 61));
    for _ in 0..20 {
        let source = stuck(&blob, 10_000);
        let ticket = bench.join(&blob, &source);
        until(|| source.sent() > 0).await;
        drop(ticket);
    }
    let fetched = end(bench.join(&blob, &Scripted::honest("b", &blob))).await.unwrap();
    assert!(fetched.resumed > 0);
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_every_ticket_and_a_new_engine_goes_on() {
    let (bench, blob) = (Bench::new(options()), Blob::new(6_000_000, 62));
    let gate = closed_gate();
    let source = {
        let gate = Arc::clone(&gate);
        Scripted::new("a", &blob, move |number, _| Reply {
            hold: (number > 8).then(|| (0, Arc::clone(&gate))),
            ..Reply::default()
        })
    };
    let tickets: Vec<_> = (0..3).map(|_| bench.join(&blob, &source)).collect();
    until_done(&tickets[0], 8 * PART).await;
    let waiting = Blob::new(10, 63);
    bench.engine.shutdown();
    for ticket in tickets {
        assert!(matches!(end(ticket).await, Err(FetchError::ShuttingDown)));
    }
    let late = end(bench.join(&waiting, &Scripted::honest("a", &waiting))).await;
    assert!(matches!(late, Err(FetchError::ShuttingDown)));
    tokio::time::timeout(LIMIT, bench.engine.closed()).await.unwrap();

    let next = Bench { engine: Engine::new(bench.store.clone(), options()), ..bench };
    let second = Scripted::honest("a", &blob);
    let fetched = end(next.join(&blob, &second)).await.unwrap();
    assert_eq!(fetched.resumed, 8 * PART);
    assert_eq!(second.sent(), blob.size() - 8 * PART);
    next.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_are_filled_and_nothing_else() {
    let (bench, blob) = (Bench::new(options()), Blob::new(5 * MIB as usize, 64));
    let ingest = bench.store.ingest(&blob.digest, blob.size()).unwrap();
    for range in [0..MIB, 3 * MIB..4 * MIB] {
        ingest.write_at(range.start, &blob.bytes[range.start as usize..range.end as usize]).unwrap();
        ingest.mark(range).unwrap();
    }
    drop(ingest);
    let source = Scripted::honest("a", &blob);
    let fetched = end(bench.join(&blob, &source)).await.unwrap();
    assert_eq!((fetched.resumed, fetched.bytes_from_my_source), (2 * MIB, 3 * MIB));
    assert_eq!(asked(&source.requests(), blob.size()), 3 * MIB);
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_left_by_somebody_else_cost_a_second_pass_and_nobody_the_blob() {
    let (bench, blob) = (Bench::new(options()), Blob::new(3 * MIB as usize, 65));
    let ingest = bench.store.ingest(&blob.digest, blob.size()).unwrap();
    ingest.write_at(0, &vec![7; MIB as usize]).unwrap();
    ingest.mark(0..MIB).unwrap();
    drop(ingest);
    let source = Scripted::honest("a", &blob);
    let fetched = end(bench.join(&blob, &source)).await.unwrap();
    assert_eq!((fetched.resumed, fetched.whole_by_me), (0, true));
    assert_eq!(source.sent(), 5 * MIB);
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_ticket_can_be_asked_for_twice() {
    let (bench, blob) = (Bench::new(options()), Blob::new(1000, 66));
    let mut ticket = bench.join(&blob, &Scripted::honest("a", &blob));
    let first = tokio::time::timeout(LIMIT, ticket.done()).await.unwrap().unwrap();
    assert_eq!(ticket.done().await.unwrap(), first);
    assert_eq!(ticket.progress().done, 1000);
}
