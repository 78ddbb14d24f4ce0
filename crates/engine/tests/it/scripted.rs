//! A source that does what a test tells it, and the bench around it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use stowage_artifact::digest::{Algorithm, Digest};
use stowage_engine::{Engine, EngineOptions, FetchRequest, Ticket};
use stowage_store::io::Probe;
use stowage_store::{BlobBody, BlobSource, SourceError, SourceErrorKind, Store, StoreOptions, Testing};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// The longest that any test waits for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// What the source does with one request.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    /// No body at all.
    pub(crate) refuse: Option<SourceError>,
    /// Answers with the whole blob whatever was asked.
    pub(crate) whole: bool,
    /// Breaks after so many bytes of the body.
    pub(crate) reset_after: Option<u64>,
    /// With this error, where it is not a plain reset.
    pub(crate) reset_kind: Option<SourceErrorKind>,
    /// Ends after so many bytes of the body as if that were all.
    pub(crate) end_after: Option<u64>,
    /// Sends nothing more after so many bytes of the body until the semaphore gives way.
    pub(crate) hold: Option<(u64, Arc<Semaphore>)>,
    /// Flips the byte at this offset of the blob.
    pub(crate) corrupt: Option<u64>,
    /// What it says of the total size.
    pub(crate) total: Total,
    /// Goes on with as many further bytes of nothing.
    pub(crate) extra: u64,
    /// Says that the body starts here.
    pub(crate) claims_start: Option<u64>,
    /// Who delivers in the source's place.
    pub(crate) mirror: Option<&'static str>,
    /// Once the engine has complained of that mirror it is not used, and neither is its corruption.
    pub(crate) heeds: bool,
    /// Panics.
    pub(crate) panics: bool,
}

/// What a source says of the blob's size.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Total {
    #[default]
    Truth,
    Unsaid,
    Lie(u64),
}

impl Reply {
    pub(crate) fn fail(kind: SourceErrorKind) -> Self {
        Self { refuse: Some(SourceError::new(kind, format!("scripted {kind:?}"))), ..Self::default() }
    }
}

type Behaviour = dyn Fn(usize, Option<Range<u64>>) -> Reply + Send + Sync;

/// A scripted source. Remembers what it was asked and how much it gave.
pub(crate) struct Scripted {
    name: String,
    blobs: HashMap<Digest, Bytes>,
    behaviour: Box<Behaviour>,
    requests: Mutex<Vec<Option<Range<u64>>>>,
    distrusted: Mutex<Vec<String>>,
    sent: Arc<AtomicU64>,
}

impl Scripted {
    pub(crate) fn new(
        name: &str,
        blob: &Blob,
        behaviour: impl Fn(usize, Option<Range<u64>>) -> Reply + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            blobs: HashMap::from([(blob.digest.clone(), blob.bytes.clone())]),
            behaviour: Box::new(behaviour),
            requests: Mutex::default(),
            distrusted: Mutex::default(),
            sent: Arc::default(),
        })
    }

    pub(crate) fn honest(name: &str, blob: &Blob) -> Arc<Self> {
        Self::new(name, blob, |_, _| Reply::default())
    }

    pub(crate) fn requests(&self) -> Vec<Option<Range<u64>>> {
        self.requests.lock().unwrap().clone()
    }

    /// The mirrors that the engine has complained of.
    pub(crate) fn distrusted(&self) -> Vec<String> {
        self.distrusted.lock().unwrap().clone()
    }

    /// Bytes that went out.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl BlobSource for Scripted {
    fn read<'a>(
        &'a self,
        digest: &'a Digest,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<BlobBody, SourceError>> {
        async move {
            let number = {
                let mut requests = self.requests.lock().unwrap();
                requests.push(range.clone());
                requests.len()
            };
            let mut reply = (self.behaviour)(number, range.clone());
            if reply.heeds && !self.distrusted().is_empty() {
                (reply.mirror, reply.corrupt) = (None, None);
            }
            assert!(!reply.panics, "scripted panic");
            if let Some(error) = reply.refuse.clone() {
                return Err(error);
            }
            let bytes = self.blobs[digest].clone();
            let size = bytes.len() as u64;
            let ranged = range.is_some() && !reply.whole;
            let range = range.filter(|_| ranged).unwrap_or(0..size);
            let end = (reply.total != Total::Unsaid || ranged).then(|| range.end + reply.extra);
            let total = match reply.total {
                Total::Truth => Some(size),
                Total::Unsaid => None,
                Total::Lie(total) => Some(total),
            };
            Ok(BlobBody {
                start: reply.claims_start.unwrap_or(range.start),
                end,
                total,
                ranged,
                mirror: reply.mirror.map(Arc::from),
                stream: body(bytes, range, reply, Arc::clone(&self.sent)).boxed(),
            })
        }
        .boxed()
    }

    fn describe(&self) -> String {
        format!("{}/repo", self.name)
    }

    fn host(&self) -> &str {
        &self.name
    }

    fn distrust(&self, _: &Digest, mirror: &str) {
        self.distrusted.lock().unwrap().push(mirror.to_owned());
    }
}

/// Chunks of an odd size, so that no boundary falls on a buffer's by luck.
fn body(
    bytes: Bytes,
    range: Range<u64>,
    reply: Reply,
    sent: Arc<AtomicU64>,
) -> impl futures::Stream<Item = Result<Bytes, SourceError>> {
    const CHUNK: u64 = 60_001;
    let end = range.end + reply.extra;
    let start = range.start;
    futures::stream::unfold((start, false), move |(at, over)| {
        let (bytes, reply, sent) = (bytes.clone(), reply.clone(), Arc::clone(&sent));
        async move {
            let gone = at - start;
            if over || at >= end || reply.end_after.is_some_and(|n| gone >= n) {
                return None;
            }
            if let Some((after, gate)) = &reply.hold
                && gone >= *after
            {
                gate.acquire().await.unwrap().forget();
                gate.add_permits(1);
            }
            if reply.reset_after.is_some_and(|n| gone >= n) {
                let error = SourceError::new(
                    reply.reset_kind.unwrap_or(SourceErrorKind::Unavailable),
                    "scripted reset",
                );
                return Some((Err(error), (at, true)));
            }
            let mut stop = end.min(at + CHUNK);
            for limit in
                [reply.reset_after, reply.end_after, reply.hold.as_ref().map(|h| h.0)].into_iter().flatten()
            {
                if gone < limit {
                    stop = stop.min(start + limit);
                }
            }
            let size = bytes.len() as u64;
            let mut chunk = bytes[at.min(size) as usize..stop.min(size) as usize].to_vec();
            chunk.resize((stop - at) as usize, 0);
            if let Some(byte) = reply.corrupt.filter(|byte| (at..stop).contains(byte)) {
                chunk[(byte - at) as usize] ^= 1;
            }
            sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Some((Ok(Bytes::from(chunk)), (stop, false)))
        }
    })
}

/// Bytes with their name.
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
}

impl Blob {
    /// Bytes that look random and are the same for the same seed.
    pub(crate) fn new(size: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let bytes: Vec<u8> = (0..size)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        Self { digest: Digest::of(Algorithm::Sha256, &bytes), bytes: bytes.into() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// An engine over a store in a directory of its own.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) dir: TempDir,
}

/// Small parts and short pauses.
pub(crate) fn options() -> EngineOptions {
    EngineOptions {
        part_bytes: 256 << 10,
        window_bytes: 64 << 20,
        connections_per_blob: 4,
        inactivity: Duration::from_secs(10),
        backoff_base: Duration::from_millis(2),
        backoff_cap: Duration::from_millis(10),
        ..EngineOptions::default()
    }
}

impl Bench {
    pub(crate) fn new(options: EngineOptions) -> Self {
        Self::open(options, StoreOptions::default())
    }

    /// With faults of the disk to come.
    pub(crate) fn with_probe(options: EngineOptions, probe: &Arc<Probe>) -> Self {
        let testing = Testing { probe: Some(Arc::clone(probe)), ..Testing::default() };
        Self::open(options, StoreOptions { testing, ..StoreOptions::default() })
    }

    fn open(options: EngineOptions, store: StoreOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), store).unwrap();
        Self { engine: Engine::new(store.clone(), options), store, dir }
    }

    pub(crate) fn join(&self, blob: &Blob, source: &Arc<Scripted>) -> Ticket {
        self.join_sized(blob, blob.size(), source)
    }

    pub(crate) fn join_sized(&self, blob: &Blob, size: u64, source: &Arc<Scripted>) -> Ticket {
        self.engine.join(FetchRequest {
            digest: blob.digest.clone(),
            size,
            source: Arc::clone(source) as _,
            namespace: "default".to_owned(),
            authority: None,
            decode: None,
        })
    }

    /// Waits until the engine has let go of the digest.
    pub(crate) async fn landed(&self, blob: &Blob) {
        until(|| !self.engine.is_flying(&blob.digest)).await;
    }

    /// The store has exactly these bytes.
    pub(crate) fn assert_has(&self, blob: &Blob) {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        self.store.open_blob(&blob.digest).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes == blob.bytes, "the blob in the store has other bytes");
    }
}

/// Waits for a condition, with a limit.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while !condition() {
            tick.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("the condition did not come true in time");
}

/// Waits until a ticket's flight has at least so many bytes on disk.
pub(crate) async fn until_done(ticket: &Ticket, bytes: u64) {
    let mut watch = ticket.watch();
    tokio::time::timeout(LIMIT, watch.wait_for(|progress| progress.done >= bytes))
        .await
        .expect("the bytes did not come in time")
        .unwrap();
}

/// Waits for a ticket, with a limit.
pub(crate) async fn end(mut ticket: Ticket) -> Result<stowage_engine::Fetched, stowage_engine::FetchError> {
    tokio::time::timeout(LIMIT, ticket.done()).await.expect("the ticket did not end in time")
}

/// A gate that holds until it is opened.
pub(crate) fn closed_gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// Bytes that were asked for in all requests.
pub(crate) fn asked(requests: &[Option<Range<u64>>], size: u64) -> u64 {
    requests.iter().map(|r| r.as_ref().map_or(size, |r| r.end - r.start)).sum()
}
