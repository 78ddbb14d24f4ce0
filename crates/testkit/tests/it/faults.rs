use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::{self, BlobData};
use stowage_testkit::registry::{At, RetryAfter, Rule, WrongRange};
use stowage_testkit::{Fault, Registry, Target};

use crate::{blob_url, client, manifest_url};

const SIZE: u64 = 500_000;
const LIMIT: Duration = Duration::from_secs(20);

struct Served {
    registry: Registry,
    digest: Digest,
    blob: BlobData,
    url: String,
    client: reqwest::Client,
}

async fn served() -> Served {
    let registry = Registry::builder().start().await.unwrap();
    let blob = BlobData::generated(9, SIZE);
    let digest = blob.digest(Algorithm::Sha256).unwrap();
    registry.put_blob("a", &digest, blob.clone());
    let url = blob_url(&registry, "a", &digest);
    let client = client(&registry);
    Served { registry, digest, blob, url, client }
}

impl Served {
    async fn get(&self, range: Option<&str>) -> reqwest::Response {
        let mut request = self.client.get(&self.url);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.send().await.unwrap()
    }

    /// What arrives of a body, and whether it ended well.
    async fn read(&self, range: Option<&str>) -> (Vec<u8>, bool) {
        let mut stream = self.get(range).await.bytes_stream();
        let mut got = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(bytes) => got.extend_from_slice(&bytes),
                Err(_) => return (got.to_vec(), false),
            }
        }
        (got.to_vec(), true)
    }

    fn next(&self, fault: Fault) {
        self.registry.faults().next(1, Target::Blobs, fault);
    }

    fn expected(&self, upto: u64) -> Vec<u8> {
        self.blob.read_range(0..upto).unwrap().to_vec()
    }
}

#[tokio::test]
async fn refusals_say_when_to_come_back() {
    let served = served().await;
    served.next(Fault::Status(429, RetryAfter::Seconds(7)));
    served.next(Fault::Status(429, RetryAfter::Date(Duration::from_secs(90))));
    served.next(Fault::Status(429, RetryAfter::Silent));
    served.next(Fault::status(503));
    served.next(Fault::Unauthorized);
    let first = served.get(None).await;
    assert_eq!((first.status().as_u16(), first.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    let second = served.get(None).await;
    assert!(second.headers()["retry-after"].to_str().unwrap().ends_with("GMT"));
    assert!(!served.get(None).await.headers().contains_key("retry-after"));
    assert_eq!(served.get(None).await.status(), 503);
    assert_eq!(served.get(None).await.status(), 401);
    assert_eq!(served.get(None).await.status(), 200);
}

#[tokio::test]
async fn a_body_is_cut_exactly_where_told() {
    let served = served().await;
    served.next(Fault::Truncate(At::Blob(200_001)));
    assert_eq!(served.read(None).await, (served.expected(200_001), false));
    served.next(Fault::Truncate(At::Body(0)));
    assert_eq!(served.read(None).await, (vec![], false));
    // A part that does not hold the byte is left alone.
    served.next(Fault::Truncate(At::Blob(100)));
    assert!(served.read(Some("bytes=200-300")).await.1);
    assert!(!served.read(Some("bytes=50-300")).await.1);
    assert_eq!(served.read(None).await, (served.expected(SIZE), true));
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_an_end() {
    let served = served().await;
    served.next(Fault::Reset(At::Blob(100_000)));
    let mut stream = served.get(None).await.bytes_stream();
    let mut got = 0;
    let error = loop {
        match stream.next().await {
            Some(Ok(bytes)) => got += bytes.len(),
            Some(Err(error)) => break error,
            None => panic!("the body ended well"),
        }
    };
    assert!(got <= 100_000);
    assert!(format!("{error:?}").contains("ConnectionReset"), "{error:?}");
    assert_eq!(served.registry.bytes_served(&served.digest), 100_000);
}

#[tokio::test]
async fn a_stall_lasts_until_it_is_released() {
    let served = served().await;
    served.next(Fault::Stall(At::Blob(1000)));
    let mut stream = served.get(None).await.bytes_stream();
    let mut got = Vec::new();
    while got.len() < 1000 {
        got.extend_from_slice(&stream.next().await.unwrap().unwrap());
    }
    assert_eq!(got, served.expected(1000));
    assert_eq!(served.registry.traffic().open_downloads(), 1);
    assert!(served.registry.faults().until_stalled(1, LIMIT).await);
    served.registry.faults().release();
    while let Some(chunk) = stream.next().await {
        got.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(got, served.expected(SIZE));

    served.next(Fault::Silence);
    let mut waiting = Box::pin(served.get(None));
    let faults = served.registry.faults();
    tokio::select! {
        _ = &mut waiting => panic!("answered in silence"),
        stalled = faults.until_stalled(1, LIMIT) => assert!(stalled),
    }
    faults.release();
    assert_eq!(waiting.await.status(), 200);
}

#[tokio::test]
async fn ranges_go_wrong_in_every_way() {
    let served = served().await;
    let range = Some("bytes=100-199");
    served.next(Fault::IgnoreRange);
    let whole = served.get(range).await;
    assert_eq!((whole.status().as_u16(), whole.content_length()), (200, Some(SIZE)));
    assert!(!whole.headers().contains_key("content-range"));
    let wrong = [
        (WrongRange::Starts(5), Some("bytes 105-199/500000")),
        (WrongRange::Ends(5), Some("bytes 100-204/500000")),
        (WrongRange::Total(7), Some("bytes 100-199/7")),
        (WrongRange::Garbage, Some("bytes some-of/them")),
        (WrongRange::Missing, None),
    ];
    for (fault, expected) in wrong {
        served.next(Fault::ContentRange(fault));
        let response = served.get(range).await;
        assert_eq!(response.status(), 206);
        assert_eq!(response.headers().get("content-range").map(|value| value.to_str().unwrap()), expected);
    }
    served.next(Fault::RangeNotSatisfiable);
    assert_eq!(served.get(None).await.status(), 200);
    assert_eq!(served.get(range).await.status(), 416);
}

#[tokio::test]
async fn bodies_are_longer_slower_corrupt_and_gzipped() {
    let served = served().await;
    served.next(Fault::TooLong(10));
    let (long, _) = served.read(None).await;
    assert_eq!(long.len() as u64, SIZE + 10);

    served.next(Fault::Endless);
    let endless = served.get(None).await;
    assert_eq!(endless.content_length(), None);
    let mut stream = endless.bytes_stream();
    let mut got = 0;
    while got < 2 * SIZE as usize {
        got += stream.next().await.expect("an endless body ended").unwrap().len();
    }
    drop(stream);

    served.next(Fault::Corrupt(At::Blob(300_000)));
    let (corrupt, _) = served.read(None).await;
    let differing: Vec<usize> = corrupt
        .iter()
        .zip(served.expected(SIZE))
        .enumerate()
        .filter(|(_, (a, b))| **a != *b)
        .map(|(i, _)| i)
        .collect();
    assert_eq!(differing, [300_000]);

    served.next(Fault::Gzip);
    let zipped = served.get(None).await;
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    assert_eq!(zipped.bytes().await.unwrap()[..2], [0x1f, 0x8b]);

    served.next(Fault::Drip(4_000_000));
    let started = std::time::Instant::now();
    assert!(served.read(None).await.1);
    assert!(started.elapsed() >= Duration::from_millis(80), "{:?}", started.elapsed());
}

#[tokio::test]
async fn redirects_expire_loop_and_point_anywhere() {
    let served = served().await;
    served.registry.faults().always(Target::Blobs, Fault::Presigned { uses: Some(1), lifetime: None });
    let location = |response: &reqwest::Response| response.headers()["location"].to_str().unwrap().to_owned();
    let first = location(&served.get(None).await);
    assert!(first.contains(&served.registry.storage_host()));
    assert_eq!(served.client.get(&first).send().await.unwrap().bytes().await.unwrap().len() as u64, SIZE);
    assert_eq!(served.client.get(&first).send().await.unwrap().status(), 403);
    let second = location(&served.get(None).await);
    served.registry.expire_presigned();
    assert_eq!(served.client.get(&second).send().await.unwrap().status(), 403);
    // A fault of the body strikes at the host that serves the body.
    let third = location(&served.get(None).await);
    served.next(Fault::Truncate(At::Blob(5)));
    assert!(served.client.get(&third).send().await.unwrap().bytes().await.is_err());
    served.registry.faults().clear();
    served.next(Fault::RedirectLoop);
    assert_eq!(location(&served.get(None).await), served.url);
    served.next(Fault::Redirect("http://169.254.169.254/latest".into()));
    assert_eq!(location(&served.get(None).await), "http://169.254.169.254/latest");
}

#[tokio::test]
async fn manifests_lie_grow_and_move() {
    let registry = Registry::builder().start().await.unwrap();
    let one = registry.push("a", Some("v1"), &artifacts::oras_files([("f", "1")]).build().unwrap());
    let two = registry.push("a", None, &artifacts::oras_files([("f", "2")]).build().unwrap());
    let client = client(&registry);
    let url = manifest_url(&registry, "a", "v1");
    let get = || async { client.get(&url).send().await.unwrap() };
    let digest = |response: &reqwest::Response| {
        response.headers()["docker-content-digest"].to_str().unwrap().to_owned()
    };

    registry.faults().next(1, Target::Manifests, Fault::wrong_digest(&two));
    assert_eq!(digest(&get().await), two.to_string());
    registry.faults().next(1, Target::Manifests, Fault::Header("content-type".into(), "text/plain".into()));
    assert_eq!(get().await.headers()["content-type"], "text/plain");
    registry.faults().next(1, Target::Manifests, Fault::Padded(5 << 20));
    assert_eq!(get().await.bytes().await.unwrap().len(), 5 << 20);
    registry.faults().next(1, Target::Manifests, Fault::MoveTag(two.clone()));
    assert_eq!(digest(&get().await), one.to_string());
    assert_eq!(digest(&get().await), two.to_string());
}

#[tokio::test]
async fn a_lying_registry_says_yes_to_every_head() {
    let registry = Registry::builder().start().await.unwrap();
    let stranger = Digest::of(Algorithm::Sha256, b"a stranger's");
    registry.faults().add(Rule::new(Target::Everything, Fault::YesToHead(12)));
    let url = blob_url(&registry, "a", &stranger);
    let head = client(&registry).head(&url).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "12"));
    assert_eq!(client(&registry).get(&url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn every_connection_can_be_reset_at_once() {
    let served = served().await;
    served.next(Fault::Stall(At::Blob(10)));
    let mut stream = served.get(None).await.bytes_stream();
    stream.next().await.unwrap().unwrap();
    served.registry.reset_connections();
    assert!(stream.next().await.unwrap().is_err());
    assert!(served.read(None).await.1);
}
