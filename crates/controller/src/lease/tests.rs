//! The election against an API server that is written down call by call. Time is paused, so waiting costs none.

use std::sync::Arc;

use futures::FutureExt as _;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::api_server::{ApiServer, pair};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/stowage/leases";
const OURS: &str = "/apis/coordination.k8s.io/v1/namespaces/stowage/leases/stowage-controller";

fn lease(holder: &str, renewed: u32, version: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "stowage-controller", "namespace": "stowage", "resourceVersion": version },
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "renewTime": format!("2026-01-01T00:00:{renewed:02}.000000Z"),
        },
    })
}

/// Work that says when it began and when it was told to end.
#[derive(Clone, Default)]
struct Work {
    began: Arc<Notify>,
    ended: Arc<Notify>,
}

type Started = (ApiServer, CancellationToken, tokio::task::JoinHandle<()>, ControllerMetrics);

/// Starts an election; the client lives in it alone.
fn start(work: &Work) -> Started {
    let work = work.clone();
    start_with(move |term| {
        let work = work.clone();
        async move {
            work.began.notify_one();
            term.cancelled().await;
            work.ended.notify_one();
        }
        .boxed()
    })
}

fn start_with(work: impl Fn(CancellationToken) -> BoxFuture<'static, ()> + Send + 'static) -> Started {
    let (client, server) = pair();
    let options = LeaseOptions::new("stowage".into(), "stowage-controller".into(), "me".into());
    let metrics = ControllerMetrics::new();
    let election = LeaderElection::new(client, options, metrics.clone());
    let stop = CancellationToken::new();
    let token = stop.clone();
    let running = tokio::spawn(async move { election.run(token, work).await });
    (server, stop, running, metrics)
}

fn leads(metrics: &ControllerMetrics) -> bool {
    use stowage_telemetry::Series as _;
    metrics.text().unwrap().lines().any(|line| line == "stowage_controller_leader 1")
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_there_is_made_renewed_and_given_away_at_the_end() {
    let work = Work::default();
    let (mut server, stop, running, metrics) = start(&work);
    server.absent(Method::GET, OURS).await;
    let made = server.answer(Method::POST, LEASES, 201, lease("me", 1, "1")).await;
    assert_eq!(made.body["spec"]["holderIdentity"], "me");
    assert_eq!(made.body["spec"]["leaseDurationSeconds"], 15);
    work.began.notified().await;
    assert!(leads(&metrics));
    server.answer(Method::GET, OURS, 200, lease("me", 1, "1")).await;
    let renewed = server.answer(Method::PUT, OURS, 200, lease("me", 3, "2")).await;
    assert_eq!(renewed.body["metadata"]["resourceVersion"], "1", "nobody is overwritten");
    assert_eq!(renewed.body["spec"]["holderIdentity"], "me");
    stop.cancel();
    server.answer(Method::GET, OURS, 200, lease("me", 3, "2")).await;
    let released = server.answer(Method::PUT, OURS, 200, lease("", 4, "3")).await;
    assert_eq!(released.body["spec"]["holderIdentity"], "");
    running.await.unwrap();
    work.ended.notified().await;
    assert!(!leads(&metrics));
    server.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_only_when_it_has_not_changed_for_its_duration() {
    let work = Work::default();
    let (mut server, stop, running, _) = start(&work);
    let began = Instant::now();
    // The other replica renews for a while, and then does not.
    for renewed in 0..5 {
        server.answer(Method::GET, OURS, 200, lease("other", renewed, "1")).await;
    }
    let last_change = Instant::now();
    let mut polls = 0;
    while last_change.elapsed() < Duration::from_secs(13) {
        server.answer(Method::GET, OURS, 200, lease("other", 4, "1")).await;
        polls += 1;
    }
    assert!(polls >= 6, "{polls}");
    server.answer(Method::GET, OURS, 200, lease("other", 4, "1")).await;
    let taken = server.answer(Method::PUT, OURS, 200, lease("me", 40, "2")).await;
    assert_eq!(taken.body["spec"]["leaseTransitions"], 4);
    assert!(last_change.elapsed() >= Duration::from_secs(15) && began.elapsed() < Duration::from_secs(40));
    work.began.notified().await;
    stop.cancel();
    server.absent(Method::GET, OURS).await;
    running.await.unwrap();
    server.done().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_second_waits() {
    let work = Work::default();
    let (mut server, stop, running, metrics) = start(&work);
    server.answer(Method::GET, OURS, 200, lease("", 0, "1")).await;
    server.refuse(Method::PUT, OURS, 409, "Conflict").await;
    server.answer(Method::GET, OURS, 200, lease("other", 1, "2")).await;
    assert!(!leads(&metrics));
    stop.cancel();
    running.await.unwrap();
    assert!(work.began.notified().now_or_never().is_none());
    server.done().await;
}

#[tokio::test(start_paused = true)]
async fn work_ends_when_somebody_else_has_the_lease() {
    let work = Work::default();
    let (mut server, stop, running, metrics) = start(&work);
    server.answer(Method::GET, OURS, 200, lease("", 0, "1")).await;
    server.answer(Method::PUT, OURS, 200, lease("me", 1, "2")).await;
    work.began.notified().await;
    server.answer(Method::GET, OURS, 200, lease("other", 2, "3")).await;
    work.ended.notified().await;
    assert!(!leads(&metrics));
    server.answer(Method::GET, OURS, 200, lease("other", 3, "4")).await;
    stop.cancel();
    running.await.unwrap();
    server.done().await;
}

#[tokio::test(start_paused = true)]
async fn work_ends_before_the_lease_does_when_it_cannot_be_renewed() {
    let work = Work::default();
    let (mut server, stop, running, _) = start(&work);
    server.answer(Method::GET, OURS, 200, lease("", 0, "1")).await;
    server.answer(Method::PUT, OURS, 200, lease("me", 1, "2")).await;
    work.began.notified().await;
    let renewed = Instant::now();
    let mut tries = 0;
    loop {
        tokio::select! {
            biased;
            () = work.ended.notified() => break,
            _ = server.refuse(Method::GET, OURS, 500, "InternalError") => tries += 1,
        }
    }
    let given_up = renewed.elapsed();
    assert!(tries >= 3, "{tries}");
    assert!(given_up >= Duration::from_secs(6) && given_up <= PATIENCE, "{given_up:?}");
    stop.cancel();
    drop(server);
    running.await.unwrap();
}

/// Answers nothing from now on, until `over`.
async fn silence(server: &mut ApiServer, over: &Notify) {
    let mut unanswered = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = over.notified() => return,
            call = server.receive(Method::GET, OURS) => unanswered.push(call),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_counts_from_when_it_was_sent() {
    let work = Work::default();
    let (mut server, _stop, running, _) = start(&work);
    server.answer(Method::GET, OURS, 200, lease("", 0, "1")).await;
    server.answer(Method::PUT, OURS, 200, lease("me", 1, "2")).await;
    work.began.notified().await;
    server.answer(Method::GET, OURS, 200, lease("me", 1, "2")).await;
    let renewal = server.receive(Method::PUT, OURS).await;
    let sent = Instant::now();
    tokio::time::advance(Duration::from_secs(3)).await;
    renewal.answer(200, &lease("me", 3, "3"));
    silence(&mut server, &work.ended).await;
    assert!(sent.elapsed() <= PATIENCE, "{:?}", sent.elapsed());
    running.abort();
}

/// Tells when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_listen_is_over_before_anybody_else_may_begin() {
    let over = Arc::new(Notify::new());
    let work = {
        let over = Arc::clone(&over);
        move |_| {
            let dropped = Dropped(Arc::clone(&over));
            async move {
                std::future::pending::<()>().await;
                drop(dropped);
            }
            .boxed()
        }
    };
    let (mut server, stop, running, metrics) = start_with(work);
    server.answer(Method::GET, OURS, 200, lease("", 0, "1")).await;
    let taken = Instant::now();
    server.answer(Method::PUT, OURS, 200, lease("me", 1, "2")).await;
    silence(&mut server, &over).await;
    assert!(taken.elapsed() < DURATION, "{:?}", taken.elapsed());
    assert!(!leads(&metrics));
    stop.cancel();
    drop(server);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_asked_for_the_lease_again() {
    let work = Work::default();
    let (mut server, stop, running, _) = start(&work);
    let unanswered = server.receive(Method::GET, OURS).await;
    server.answer(Method::GET, OURS, 200, lease("", 0, "1")).await;
    server.answer(Method::PUT, OURS, 200, lease("me", 1, "2")).await;
    work.began.notified().await;
    drop(unanswered);
    stop.cancel();
    server.absent(Method::GET, OURS).await;
    running.await.unwrap();
}
