//! Tokens: how many are asked for, when, and what becomes of a read whose token ends.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use stowage_artifact::{Algorithm, Digest};
use stowage_registry::{Registry, RegistryError};
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::registry::{At, BearerOptions, RegistryBuilder, RetryAfter};
use stowage_testkit::{Fault, Registry as Server, Target};

use crate::stage::{LIMIT, NAME, SIZE, Stage, TRIES, ada, drain, failure, impatient, open, options, within};

fn bearer(options: BearerOptions) -> RegistryBuilder {
    Server::builder().bearer(options).user("ada", "open sesame")
}

async fn stage() -> Stage {
    Stage::new(bearer(BearerOptions::default()), options()).await
}

async fn read_in_parallel(stage: &Stage) {
    let repositories = [stage.signed_in(ada()), stage.signed_in(ada())];
    let reads = (0..16_usize).map(|n| {
        let from = n as u64 * 1000;
        let repository = &repositories[n % 2];
        async move { repository.read_range(&stage.digest, from..from + 1000).await }
    });
    let parts: Vec<Bytes> = within(join_all(reads)).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(parts.concat(), stage.expected(0..16_000));
}

#[tokio::test]
async fn parallel_reads_share_one_token_request_and_one_renewal() {
    let stage = stage().await;
    read_in_parallel(&stage).await;
    assert_eq!(stage.server.tokens_issued(), 1);
    stage.server.expire_tokens();
    read_in_parallel(&stage).await;
    assert_eq!(stage.server.tokens_issued(), 2);
}

#[tokio::test]
async fn two_credentials_and_two_repositories_share_no_token() {
    let stage = Stage::new(bearer(BearerOptions::default()).user("bob", "b").public("*"), options()).await;
    stage.server.put_blob("other", &stage.digest, stage.blob.clone());
    let bob = Some(stowage_registry::Credential::password("bob", "b"));
    let other = open(&stage.client, &stage.server, "other", Some(ada()));
    for repository in [stage.signed_in(ada()), stage.signed_in(bob), stage.anonymous(), other] {
        within(repository.read_range(&stage.digest, 0..10)).await.unwrap();
    }
    assert_eq!(stage.server.tokens_issued(), 4);
}

#[tokio::test]
async fn a_token_that_ends_in_mid_blob_is_replaced_and_the_read_goes_on() {
    let stage = stage().await;
    let repository = stage.signed_in(ada());
    // Signed in, so that the fault meets the body and not the challenge.
    within(repository.head_blob(&stage.digest)).await.unwrap();
    stage.next(Fault::Reset(At::Blob(200_000)));
    let body = within(repository.read(&stage.digest, Some(0..SIZE))).await.unwrap();
    let (mut bytes, end) = drain(body).await;
    assert_eq!(end.unwrap_err().kind, SourceErrorKind::Unavailable);
    stage.server.expire_tokens();
    let body = within(repository.read(&stage.digest, Some(bytes.len() as u64..SIZE))).await.unwrap();
    let (rest, end) = drain(body).await;
    assert_eq!(end, Ok(()));
    bytes.extend(rest);
    assert!(bytes == stage.expected(0..SIZE));
    assert_eq!(stage.server.tokens_issued(), 2);
}

#[tokio::test]
async fn a_stream_that_runs_outlives_its_token() {
    let stage = stage().await;
    let repository = stage.signed_in(ada());
    within(repository.head_blob(&stage.digest)).await.unwrap();
    stage.next(Fault::Stall(At::Blob(100_000)));
    let body = within(repository.read(&stage.digest, None)).await.unwrap();
    let reading = drain(body);
    let ending = async {
        assert!(stage.server.faults().until_stalled(1, LIMIT).await);
        stage.server.expire_tokens();
        stage.server.faults().release();
    };
    let ((bytes, end), ()) = tokio::join!(reading, ending);
    assert_eq!(end, Ok(()));
    assert!(bytes == stage.expected(0..SIZE));
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end() {
    let short = BearerOptions { lifetime: Duration::from_secs(2), ..BearerOptions::default() };
    let stage = Stage::new(bearer(short), options()).await;
    let repository = stage.signed_in(ada());
    let renewed = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while stage.server.tokens_issued() < 2 {
            tick.tick().await;
            assert_eq!(repository.head_blob(&stage.digest).await.unwrap(), Some(SIZE));
        }
    };
    within(renewed).await;
    let refused = stage.server.traffic().count(|request| request.status == 401);
    assert_eq!(refused, 1, "the first request alone met a 401");
}

#[tokio::test]
async fn a_token_server_in_trouble_is_asked_again_by_short_reads_and_by_blobs() {
    let stage = stage().await;
    stage.server.faults().next(TRIES - 1, Target::Token, Fault::status(503));
    assert_eq!(within(stage.signed_in(ada()).head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
    stage.server.expire_tokens();
    stage.server.faults().next(TRIES - 1, Target::Token, Fault::status(502));
    let body = within(stage.signed_in(ada()).read(&stage.digest, Some(0..9))).await.unwrap();
    assert_eq!(drain(body).await, (stage.expected(0..9), Ok(())));
}

#[tokio::test]
async fn a_token_server_that_stays_broken_is_left_with_the_right_kind() {
    let json = |body: &str| Fault::Answer {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    let huge = format!(r#"{{"token":"{}"}}"#, "a".repeat(2 << 20));
    let table = [
        ("5xx", Fault::status(500), SourceErrorKind::Unavailable),
        ("429", Fault::Status(429, RetryAfter::Seconds(60)), SourceErrorKind::RateLimited),
        ("404", Fault::status(404), SourceErrorKind::Protocol),
        ("no json", json("<html>"), SourceErrorKind::Protocol),
        ("no token", json(r#"{"token":""}"#), SourceErrorKind::Protocol),
        ("a header of its own", json(r#"{"token":"a\r\nX-Evil: b"}"#), SourceErrorKind::Protocol),
        ("huge", json(&huge), SourceErrorKind::Protocol),
    ];
    let first = stage().await;
    for (name, fault, kind) in table {
        let stage = first.beside(bearer(BearerOptions::default())).await;
        stage.server.faults().always(Target::Token, fault);
        let blob = within(stage.signed_in(ada()).read(&stage.digest, None)).await.err().unwrap();
        assert_eq!(blob.kind, kind, "{name}: {blob}");
        let head = failure(stage.signed_in(ada()).head_blob(&stage.digest)).await;
        assert_eq!(head.source_kind(), kind, "{name}: {head}");
        let asked = stage.server.traffic().count(|request| request.path == "/token");
        assert!(asked <= 2 * TRIES as usize, "{name}: {asked} token requests");
    }
}

#[tokio::test]
async fn a_silent_token_server_is_given_up() {
    let stage = Stage::new(bearer(BearerOptions::default()), impatient()).await;
    stage.server.faults().always(Target::Token, Fault::Silence);
    let error = failure(stage.signed_in(ada()).head_blob(&stage.digest)).await;
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_request_ends_for_the_others_when_the_first_who_wanted_it_leaves() {
    let stage = stage().await;
    stage.server.faults().next(1, Target::Token, Fault::Silence);
    let repository = stage.signed_in(ada());
    let mut first = Box::pin(repository.read(&stage.digest, Some(0..9)));
    tokio::select! {
        _ = &mut first => panic!("there is no token yet"),
        stalled = stage.server.faults().until_stalled(1, LIMIT) => assert!(stalled),
    }
    let mut second = Box::pin(repository.read(&stage.digest, Some(0..9)));
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    let release = stage.server.traffic().until(LIMIT, |traffic| {
        // The second has met its own challenge and waits for the same token.
        traffic.count(|request| request.status == 401) == 2
    });
    let (mut second, ()) = tokio::join!(
        async {
            let body = within(second).await.unwrap();
            body.stream
        },
        async {
            assert!(release.await);
            stage.server.faults().release();
        }
    );
    assert_eq!(second.next().await.unwrap().unwrap(), stage.expected(0..9));
    assert_eq!(stage.server.tokens_issued(), 1);
}

#[test]
fn a_token_request_that_was_torn_down_with_its_runtime_is_made_again() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = bearer(BearerOptions::default()).start_blocking().unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"weights");
    server.put_blob(NAME, &digest, "weights");
    server.faults().next(1, Target::Token, Fault::Silence);
    let repository = open(&Registry::new(options()).unwrap(), &server, NAME, Some(ada()));
    runtime().block_on(async {
        tokio::select! {
            _ = repository.head_blob(&digest) => panic!("there is no token yet"),
            stalled = server.faults().until_stalled(1, LIMIT) => assert!(stalled),
        }
    });
    let size = runtime().block_on(within(repository.head_blob(&digest)));
    assert_eq!(size, Ok(Some(7)));
}
