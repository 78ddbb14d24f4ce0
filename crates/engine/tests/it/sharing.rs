//! Many who wait for one digest: one download, and nobody's failure is another's.

use std::sync::Arc;

use stowage_engine::{EngineOptions, FetchError};
use stowage_store::SourceErrorKind;

use crate::scripted::*;

const PART: u64 = 256 << 10;

/// Serves the first part and then holds every body after 1000 bytes until the gate opens.
fn held(blob: &Blob, name: &str, gate: &Arc<tokio::sync::Semaphore>) -> Arc<Scripted> {
    let gate = Arc::clone(gate);
    Scripted::new(name, blob, move |number, _| Reply {
        hold: (number > 1).then(|| (1000, Arc::clone(&gate))),
        ..Reply::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_and_ten_callers_are_one_download() {
    let (bench, blob) = (Bench::new(options()), Blob::new(3_000_000, 40));
    let sources: Vec<_> = (0..110).map(|_| Scripted::honest("a", &blob)).collect();
    let tickets: Vec<_> = sources.iter().map(|source| bench.join(&blob, source)).collect();
    assert_eq!(bench.engine.stats().flights, 1);
    let mut credited = 0;
    for ticket in tickets {
        credited += end(ticket).await.unwrap().bytes_from_my_source;
    }
    assert_eq!(credited, blob.size());
    assert_eq!(sources.iter().map(|source| source.sent()).sum::<u64>(), blob.size());
    assert_eq!(bench.engine.stats().blobs_completed, 1);
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_one_authority_are_credited_with_what_any_of_them_brought() {
    let options = EngineOptions { connections_per_blob: 1, ..options() };
    let (bench, blob) = (Bench::new(options), Blob::new(1_000_000, 43));
    let gate = closed_gate();
    let hold = Arc::clone(&gate);
    let join = |source: &Arc<Scripted>, authority: Option<[u8; 32]>| {
        bench.engine.join(stowage_engine::FetchRequest {
            digest: blob.digest.clone(),
            size: blob.size(),
            source: Arc::clone(source) as _,
            namespace: "default".to_owned(),
            authority,
            decode: None,
        })
    };
    // Brings the beginning and leaves; the second one brings the rest.
    let leaver = Scripted::new("a", &blob, move |_, _| Reply {
        hold: Some((100_000, Arc::clone(&hold))),
        reset_after: Some(100_000),
        reset_kind: Some(SourceErrorKind::Forbidden),
        ..Reply::default()
    });
    let first = join(&leaver, Some([1; 32]));
    until(|| leaver.sent() == 100_000).await;
    let idle = Scripted::honest("b", &blob);
    let (stranger, loner) = (join(&idle, Some([2; 32])), join(&idle, None));
    let second = join(&Scripted::honest("a", &blob), Some([1; 32]));
    gate.add_permits(1);
    assert!(end(first).await.is_err());
    let fetched = end(second).await.unwrap();
    let others = [end(stranger).await.unwrap(), end(loner).await.unwrap()];
    let brought = others.iter().map(|other| other.bytes_from_my_source).sum::<u64>();
    assert_eq!(fetched.bytes_from_my_source + brought, blob.size());
    assert_eq!(fetched.whole_by_me, brought == 0);
    assert!(fetched.bytes_from_my_source >= 100_000, "{fetched:?}");
    assert!(others.iter().all(|other| !other.whole_by_me));
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_source_fails_only_its_owner() {
    for kind in [
        SourceErrorKind::Unauthenticated,
        SourceErrorKind::Forbidden,
        SourceErrorKind::NotFound,
        SourceErrorKind::Protocol,
    ] {
        let (bench, blob) = (Bench::new(options()), Blob::new(3_000_000, 41));
        let gate = closed_gate();
        let good = held(&blob, "a", &gate);
        let first = bench.join(&blob, &good);
        until_done(&first, PART).await;
        let second = bench.join(&blob, &Scripted::new("a", &blob, move |_, _| Reply::fail(kind)));
        gate.add_permits(1);
        let error = end(second).await.unwrap_err();
        assert!(matches!(&error, FetchError::Source(e) if e.kind == kind), "{error}");
        assert!(end(first).await.unwrap().whole_by_me);
        assert_eq!(good.sent(), blob.size());
        bench.assert_has(&blob);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_whose_first_caller_fails_goes_on_for_the_others() {
    let options = EngineOptions { connections_per_blob: 1, ..options() };
    let (bench, blob) = (Bench::new(options), Blob::new(1_000_000, 42));
    let gate = closed_gate();
    let hold = Arc::clone(&gate);
    // Refused in mid-body, as by a token that expired.
    let bad = Scripted::new("a", &blob, move |_, _| Reply {
        hold: Some((100_000, Arc::clone(&hold))),
        reset_after: Some(100_000),
        reset_kind: Some(SourceErrorKind::Forbidden),
        ..Reply::default()
    });
    let good = Scripted::honest("a", &blob);
    let first = bench.join(&blob, &bad);
    until(|| bad.sent() == 100_000).await;
    let second = bench.join(&blob, &good);
    gate.add_permits(1);
    let error = end(first).await.unwrap_err();
    assert!(matches!(&error, FetchError::Source(e) if e.kind == SourceErrorKind::Forbidden), "{error}");
    assert_eq!(end(second).await.unwrap().bytes_from_my_source, blob.size() - 100_000);
    assert_eq!((bad.sent(), good.sent()), (100_000, blob.size() - 100_000));
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_an_owner_leaves_its_source_leaves_and_another_takes_over() {
    let (bench, blob) = (Bench::new(options()), Blob::new(3_000_000, 43));
    let gate = closed_gate();
    let (mine, theirs) = (held(&blob, "a", &gate), Scripted::honest("b", &blob));
    let first = bench.join(&blob, &mine);
    until_done(&first, PART).await;
    // All four connections hang in the first caller's source.
    until(|| mine.requests().len() >= 5).await;
    let second = bench.join(&blob, &theirs);
    drop(first);
    let fetched = end(second).await.unwrap();
    assert_eq!(fetched.bytes_from_my_source, theirs.sent());
    assert_eq!(mine.sent() + theirs.sent(), blob.size(), "nothing was fetched twice");
    bench.assert_has(&blob);
    let before = mine.requests().len();
    gate.add_permits(1);
    assert_eq!(mine.requests().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_freshest_source_is_used() {
    let (bench, blob) =
        (Bench::new(EngineOptions { connections_per_blob: 1, ..options() }), Blob::new(2_000_000, 44));
    let gate = closed_gate();
    let old = held(&blob, "a", &gate);
    let first = bench.join(&blob, &old);
    until(|| old.requests().len() == 2).await;
    let fresh = Scripted::honest("a", &blob);
    let second = bench.join(&blob, &fresh);
    gate.add_permits(1);
    assert!(end(first).await.is_ok() && end(second).await.is_ok());
    assert_eq!(old.requests().len(), 2);
    assert_eq!(old.sent(), 2 * PART);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_origin_fails_all_of_its_callers_at_once_and_no_others() {
    let (bench, blob) = (Bench::new(options()), Blob::new(1_000_000, 45));
    let broken = |_: usize, _: Option<std::ops::Range<u64>>| Reply::fail(SourceErrorKind::Unavailable);
    let sources: Vec<_> = (0..50).map(|_| Scripted::new("down", &blob, broken)).collect();
    let tickets: Vec<_> = sources.iter().map(|source| bench.join(&blob, source)).collect();
    for ticket in tickets {
        assert!(matches!(end(ticket).await, Err(FetchError::Unavailable { tries: 6, .. })));
    }
    assert_eq!(sources.iter().map(|source| source.requests().len()).sum::<usize>(), 6);
    let good = Scripted::honest("up", &blob);
    let (mine, theirs) = (bench.join(&blob, &good), bench.join(&blob, &sources[0]));
    assert!(end(mine).await.is_ok());
    assert!(end(theirs).await.is_ok(), "the bytes came by another way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_about_the_size_does_not_disturb_the_others() {
    let (bench, blob) = (Bench::new(options()), Blob::new(1_000_000, 46));
    let liar =
        Scripted::new("liar", &blob, |_, _| Reply { total: Total::Unsaid, whole: true, ..Reply::default() });
    let honest = Scripted::honest("a", &blob);
    let wrong = bench.join_sized(&blob, 999_999, &liar);
    let right = bench.join(&blob, &honest);
    assert!(end(wrong).await.is_err());
    assert!(end(right).await.is_ok());
    bench.assert_has(&blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_slow_registries_leaves_room_for_another() {
    let options = EngineOptions { max_blobs: 4, max_blobs_per_namespace: 3, ..options() };
    let bench = Bench::new(options);
    let gate = closed_gate();
    let blobs: Vec<_> = (0..8).map(|seed| Blob::new(400_000, 50 + seed)).collect();
    let join = |blob: &Blob, source: &Arc<Scripted>, namespace: &str| {
        bench.engine.join(stowage_engine::FetchRequest {
            digest: blob.digest.clone(),
            size: blob.size(),
            source: Arc::clone(source) as _,
            namespace: namespace.to_owned(),
            authority: None,
            decode: None,
        })
    };
    let slow: Vec<_> = blobs[..7]
        .iter()
        .map(|blob| {
            let gate = Arc::clone(&gate);
            let source = Scripted::new("slow", blob, move |_, _| Reply {
                hold: Some((10, Arc::clone(&gate))),
                ..Reply::default()
            });
            join(blob, &source, "greedy")
        })
        .collect();
    until(|| bench.engine.stats().flights_running == 3).await;
    end(join(&blobs[7], &Scripted::honest("fast", &blobs[7]), "modest")).await.unwrap();
    gate.add_permits(1);
    for ticket in slow {
        end(ticket).await.unwrap();
    }
}
