//! The engine over the real client, against a registry that does everything wrong that registries do: what can be
//! got over is got over with hardly a byte fetched twice, and what cannot ends with the right word.

use std::sync::Arc;
use std::time::Duration;

use stowage_artifact::{Algorithm, Digest, Reference};
use stowage_engine::{EngineOptions, FetchError, FetchRequest, Ticket};
use stowage_registry::{Backoff, Credential, PlainHttp, Registry, RegistryOptions};
use stowage_store::SourceErrorKind;
use stowage_testkit::artifacts::BlobData;
use stowage_testkit::registry::{At, BearerOptions, Place, RegistryBuilder, RetryAfter, Rule, WrongRange};
use stowage_testkit::{Fault, Registry as Server, Target};

use crate::scripted::{Bench, end, options, until};

const NAME: &str = "team/model";
const PART: u64 = 512 << 10;
const SIZE: u64 = 6 * PART + 12_345;
/// In the middle of the third part.
const MIDDLE: u64 = 2 * PART + 200_000;
/// Long for a server on the same machine, short for a test.
const SILENCE: Duration = Duration::from_millis(700);

/// A registry with one blob, an engine, and the way from one to the other.
struct Scene {
    server: Server,
    bench: Bench,
    client: Registry,
    digest: Digest,
}

impl Scene {
    async fn new(builder: RegistryBuilder) -> Self {
        let server = builder.start().await.unwrap();
        let blob = BlobData::generated(77, SIZE);
        let digest = blob.digest(Algorithm::Sha256).unwrap();
        server.put_blob(NAME, &digest, blob);
        let client = Registry::new(RegistryOptions {
            plain_http: PlainHttp { hosts: vec!["127.0.0.1".parse().unwrap()], loopback: false },
            backoff: Backoff { base: Duration::from_millis(2), cap: Duration::from_millis(8) },
            inactivity: SILENCE,
            ..RegistryOptions::default()
        })
        .unwrap();
        let bench = Bench::new(EngineOptions { part_bytes: PART, inactivity: SILENCE, ..options() });
        Self { server, bench, client, digest }
    }

    fn join(&self, credential: Option<Credential>) -> Ticket {
        let reference: Reference = self.server.reference(NAME, "v1").parse().unwrap();
        self.bench.engine.join(FetchRequest {
            digest: self.digest.clone(),
            size: SIZE,
            source: Arc::new(self.client.repository(&reference, credential)),
            namespace: "default".to_owned(),
            authority: None,
            decode: None,
        })
    }

    /// The blob is in the store, and so many of its bytes were sent more than once at the most.
    fn assert_whole(&self, what: &str, twice: u64) {
        assert_eq!(self.bench.store.blob_size(&self.digest), Some(SIZE), "{what}");
        let served = self.server.bytes_served(&self.digest);
        assert!(served <= SIZE + twice, "{what}: {} bytes were sent twice, {twice} may be", served - SIZE);
    }
}

/// What passes: how often it happens, and how many bytes may be sent twice for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_costs_no_more_than_what_was_under_way() {
    const ALWAYS: u32 = u32::MAX;
    // What a broken connection held in its sockets is lost; the parts beside it are not.
    const UNDER_WAY: u64 = 4 * PART;
    let later = RetryAfter::Seconds(1);
    let cases: Vec<(&str, Fault, u32, u64)> = vec![
        ("nothing", Fault::Header("x-nothing".into(), "is wrong".into()), ALWAYS, 0),
        ("reset at byte N", Fault::Reset(At::Blob(MIDDLE)), 1, UNDER_WAY),
        ("reset at byte N, again and again", Fault::Reset(At::Body(100_000)), 5, 2 * UNDER_WAY),
        ("closed early", Fault::Truncate(At::Blob(MIDDLE)), 1, 0),
        ("stalled", Fault::Stall(At::Blob(MIDDLE)), 1, UNDER_WAY),
        ("no answer", Fault::Silence, 1, 0),
        ("slow", Fault::Drip(4 << 20), ALWAYS, 0),
        ("no ranges at all", Fault::IgnoreRange, ALWAYS, UNDER_WAY),
        ("no range once", Fault::IgnoreRange, 1, UNDER_WAY),
        ("range starts late", Fault::ContentRange(WrongRange::Starts(7)), 1, UNDER_WAY),
        ("range always starts late", Fault::ContentRange(WrongRange::Starts(7)), ALWAYS, UNDER_WAY),
        ("range ends late", Fault::ContentRange(WrongRange::Ends(7)), 1, UNDER_WAY),
        ("no Content-Range", Fault::ContentRange(WrongRange::Missing), 1, UNDER_WAY),
        ("unreadable Content-Range", Fault::ContentRange(WrongRange::Garbage), ALWAYS, UNDER_WAY),
        ("another total in Content-Range", Fault::ContentRange(WrongRange::Total(7)), ALWAYS, UNDER_WAY),
        ("416 once", Fault::RangeNotSatisfiable, 1, 0),
        ("416 always", Fault::RangeNotSatisfiable, ALWAYS, 0),
        ("no Content-Length", Fault::NoLength, ALWAYS, 0),
        ("500", Fault::status(500), 1, 0),
        ("502 five times", Fault::status(502), 5, 0),
        ("503 with seconds", Fault::Status(503, later), 1, 0),
        ("429 without a time", Fault::status(429), 1, 0),
        ("429 with seconds", Fault::Status(429, later), 1, 0),
        ("429 with a date", Fault::Status(429, RetryAfter::Date(Duration::from_secs(1))), 1, 0),
        ("another digest, once", Fault::Corrupt(At::Blob(MIDDLE)), 1, SIZE + UNDER_WAY),
    ];
    for (what, fault, times, twice) in cases {
        let scene = Scene::new(Server::builder()).await;
        let rule = Rule::new(Target::Blobs, fault);
        let rule = scene.server.faults().add(if times == ALWAYS { rule } else { rule.times(times) });
        let fetched = end(scene.join(None)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(fetched.whole_by_me, "{what}");
        assert!(scene.server.faults().struck(rule) > 0, "{what} did not happen");
        scene.assert_whole(what, twice);
        scene.server.faults().release();
    }
}

/// What does not pass: everyone who waits hears why.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_ends_with_the_right_word() {
    type Word = fn(&FetchError) -> bool;
    let protocol: Word =
        |error| matches!(error, FetchError::Source(e) if e.kind == SourceErrorKind::Protocol);
    let cases: Vec<(&str, Fault, Word)> = vec![
        (
            "404",
            Fault::status(404),
            |e| matches!(e, FetchError::Source(e) if e.kind == SourceErrorKind::NotFound),
        ),
        (
            "403",
            Fault::status(403),
            |e| matches!(e, FetchError::Source(e) if e.kind == SourceErrorKind::Forbidden),
        ),
        ("500 for ever", Fault::status(500), |e| matches!(e, FetchError::Unavailable { .. })),
        ("429 for ever", Fault::Status(429, RetryAfter::Seconds(0)), |e| {
            matches!(e, FetchError::RateLimited { .. })
        }),
        ("redirects in a circle", Fault::RedirectLoop, protocol),
        ("gzip that nobody asked for", Fault::Header("content-encoding".into(), "gzip".into()), protocol),
        ("other bytes", Fault::Corrupt(At::Blob(MIDDLE)), |e| matches!(e, FetchError::DigestMismatch { .. })),
    ];
    for (what, fault, word) in cases {
        let scene = Scene::new(Server::builder()).await;
        scene.server.faults().always(Target::Blobs, fault);
        let error = end(scene.join(None)).await.expect_err(what);
        assert!(word(&error), "{what}: {error:?}");
        assert_eq!(scene.bench.store.blob_size(&scene.digest), None, "{what}");
    }
}

/// Stops the download in the middle of a part, changes something at the registry, and lets it go on.
async fn changed_in_mid_blob(
    scene: &Scene,
    credential: Option<Credential>,
    change: impl FnOnce(&Server),
) -> Ticket {
    scene.server.faults().next(1, Target::Blobs, Fault::Stall(At::Blob(MIDDLE)));
    let ticket = scene.join(credential);
    assert!(scene.server.faults().until_stalled(1, crate::scripted::LIMIT).await);
    change(&scene.server);
    scene.server.reset_connections();
    scene.server.faults().release();
    ticket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_mid_blob_is_renewed() {
    let bearer = Server::builder().bearer(BearerOptions::default()).user("ada", "open sesame");
    let scene = Scene::new(bearer).await;
    let ada = Credential::password("ada", "open sesame");
    let ticket = changed_in_mid_blob(&scene, Some(ada), Server::expire_tokens).await;
    assert!(end(ticket).await.unwrap().whole_by_me);
    assert!(scene.server.tokens_issued() >= 2);
    scene.assert_whole("an expired token", 4 * PART);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_expires_in_mid_blob_is_asked_for_again() {
    let scene = Scene::new(Server::builder().redirect_blobs(None, None)).await;
    let ticket = changed_in_mid_blob(&scene, None, Server::expire_presigned).await;
    end(ticket).await.unwrap();
    let redirects =
        scene.server.traffic().count(|r| r.place == Place::Registry && r.path.contains("/blobs/"));
    assert!(redirects >= 2, "{redirects}");
    scene.assert_whole("an expired link", 4 * PART);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_work_once_are_asked_for_once_a_part() {
    let scene = Scene::new(Server::builder().redirect_blobs(Some(1), None)).await;
    end(scene.join(None)).await.unwrap();
    scene.assert_whole("links that work once", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_deleted_in_mid_download_ends_it() {
    let scene = Scene::new(Server::builder()).await;
    let digest = scene.digest.clone();
    let ticket = changed_in_mid_blob(&scene, None, |server| {
        assert!(server.delete_blob(NAME, &digest));
    })
    .await;
    let error = end(ticket).await.unwrap_err();
    assert!(matches!(&error, FetchError::Source(e) if e.kind == SourceErrorKind::NotFound), "{error}");
    until(|| !scene.bench.engine.is_flying(&scene.digest)).await;
}
