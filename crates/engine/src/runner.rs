//! The task of one flight: passes over the blob until it is committed, nobody wants it, or the store fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use stowage_artifact::Codec;
use stowage_artifact::digest::Digest;
use stowage_store::{CommitError, IngestError, IngestWriter, Store};
use tokio_util::sync::CancellationToken;

use crate::engine::{Shared, blocking};
use crate::error::FetchError;
use crate::flight::Flight;
use crate::gate::Permit;
use crate::prefix::{Hashed, Prefix};
use crate::small;
use crate::stats::Counters;
use crate::transfer::Transfer;

/// How long a shutdown waits for a digest thread that reads back a large resumed prefix.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// How a pass ended.
pub(crate) enum End {
    /// The blob is in the store; so many bytes were there before this flight.
    Committed { resumed: u64 },
    /// Nobody is interested at the moment, or the engine shuts down.
    Stopped,
    /// All bytes came and they were wrong; the flight knows whom to suspect.
    WrongBytes,
}

/// Flies until there is an end for everybody.
pub(crate) async fn run(engine: Arc<Shared>, flight: Arc<Flight>) {
    let mut landing = Landing { engine: Arc::clone(&engine), flight: Arc::clone(&flight), landed: false };
    while let Some(stop) = engine.next_pass(&flight) {
        match pass(&engine, &flight, &stop).await {
            Ok(End::Committed { resumed }) => landing.land(&Ok(resumed)),
            Err(error) => landing.land(&Err(error)),
            Ok(End::Stopped | End::WrongBytes) => continue,
        }
        return;
    }
    landing.landed = true;
}

/// Makes sure that a flight whose task dies does not stay in the map.
struct Landing {
    engine: Arc<Shared>,
    flight: Arc<Flight>,
    landed: bool,
}

impl Landing {
    fn land(&mut self, end: &Result<u64, FetchError>) {
        self.landed = true;
        self.engine.land(&self.flight, end);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.landed {
            self.land(&Err(FetchError::Died { digest: self.flight.digest.clone() }));
        }
    }
}

async fn pass(
    engine: &Arc<Shared>,
    flight: &Arc<Flight>,
    stop: &CancellationToken,
) -> Result<End, FetchError> {
    if flight.size > 0 && flight.size <= engine.options.small_blob_bytes {
        return small::pass(engine, flight, stop).await;
    }
    let Some(_slot) = first_permit(engine, flight, stop).await else {
        return Ok(End::Stopped);
    };
    let Some(ingest) = open(engine, flight).await? else {
        return Ok(End::Committed { resumed: flight.size });
    };
    let end = download(engine, flight, stop, &ingest).await;
    // Closing a journal is disk work, and the next pass needs the ingest free.
    blocking(&flight.digest, move || drop(ingest)).await?;
    end
}

/// Stands in the queue once for every namespace that waits for this flight, and takes the first turn.
async fn first_permit(engine: &Shared, flight: &Flight, stop: &CancellationToken) -> Option<Permit> {
    let mut changes = flight.changes();
    let mut places = FuturesUnordered::new();
    let mut queued: Vec<Arc<str>> = Vec::new();
    loop {
        changes.mark_unchanged();
        for name in flight.namespaces() {
            if !queued.contains(&name) {
                places.push(engine.blobs.enter(&name, None));
                queued.push(name);
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            Some(Ok(permit)) = places.next() => return Some(permit),
            _ = changes.changed() => {}
        }
    }
}

/// Begins or goes on with the ingest; none if the blob is complete already.
async fn open(engine: &Arc<Shared>, flight: &Arc<Flight>) -> Result<Option<Arc<IngestWriter>>, FetchError> {
    let (store, digest, size) = (engine.store.clone(), flight.digest.clone(), flight.size);
    let decode = flight.decode;
    let keeps = flight.keeps_encoded();
    blocking(&flight.digest, move || {
        if let Some(found) = store.blob_size(&digest) {
            return same_size(digest, size, found).map(|()| None);
        }
        if let Some(decoded) = decoded_before(&store, &digest, decode.filter(|_| !keeps))? {
            return same_size(digest, size, decoded).map(|()| None);
        }
        if size == 0 && Digest::of(digest.algorithm(), &[]) != digest {
            return Err(FetchError::DigestMismatch { host: "its descriptor".to_owned(), digest });
        }
        match store.ingest(&digest, size) {
            Ok(ingest) => {
                if let Some(codec) = decode {
                    let failed = |error| FetchError::from_ingest("decode", &digest, error);
                    ingest.decode(codec).map_err(failed)?;
                }
                Ok(Some(Arc::new(ingest)))
            }
            // Somebody else has put it there since.
            Err(IngestError::AlreadyStored(_)) => {
                let found = store.blob_size(&digest).unwrap_or(size);
                same_size(digest, size, found).map(|()| None)
            }
            Err(error) => Err(FetchError::from_ingest("begin the download of", &digest, error)),
        }
    })
    .await?
}

/// The size of a blob that was decoded before, where that is all that anybody wants of it.
fn decoded_before(store: &Store, digest: &Digest, decode: Option<Codec>) -> Result<Option<u64>, FetchError> {
    if decode.is_none() {
        return Ok(None);
    }
    let decoded = store.decoded(digest).map_err(|error| {
        FetchError::store("look for what was decoded of", digest, std::io::Error::other(error))
    })?;
    Ok(decoded.map(|decoded| decoded.size()))
}

/// A stored blob is what its digest says, so a descriptor with another size is wrong.
pub(crate) fn same_size(digest: Digest, declared: u64, found: u64) -> Result<(), FetchError> {
    if found == declared {
        return Ok(());
    }
    Err(FetchError::SizeMismatch { host: "this node's store".to_owned(), digest, declared, found })
}

async fn download(
    engine: &Arc<Shared>,
    flight: &Arc<Flight>,
    stop: &CancellationToken,
    ingest: &Arc<IngestWriter>,
) -> Result<End, FetchError> {
    let missing = {
        let ingest = Arc::clone(ingest);
        blocking(&flight.digest, move || ingest.missing()).await?
    };
    let resumed = flight.size - missing.iter().map(|range| range.end - range.start).sum::<u64>();
    flight.set_done(resumed);
    let halt = stop.child_token();
    let mut prefix = {
        let (flight, halt, size) = (Arc::clone(flight), halt.clone(), flight.size);
        Prefix::start(Arc::clone(ingest), move |hashed, last| {
            // A digest that stops before the end stops the download too.
            if last && hashed < size {
                halt.cancel();
            }
            flight.bump();
        })
    }
    .map_err(|error| FetchError::store("start the digest thread for", &flight.digest, error))?;

    let frontier = Arc::clone(&prefix.frontier);
    let transfer = Transfer::new(
        Arc::clone(engine),
        Arc::clone(flight),
        Arc::clone(ingest),
        frontier,
        halt.clone(),
        missing,
    );
    let fetched = transfer.run().await;
    if fetched.is_err() || !transfer.is_finished() {
        let hashed = close(engine, prefix).await;
        return fetched.and_then(|()| follow_up(flight, hashed)).map(|_| End::Stopped);
    }
    let hashed = tokio::select! {
        hashed = prefix.hashed() => hashed,
        () = stop.cancelled() => close(engine, prefix).await,
    };
    if !follow_up(flight, hashed)? {
        return Ok(End::Stopped);
    }
    commit(engine, flight, ingest, &transfer, resumed).await
}

/// Ends the digest thread. A shutdown does not wait for long: the thread only reads, and the process goes.
async fn close(engine: &Shared, prefix: Prefix) -> Hashed {
    if !engine.shutdown.is_cancelled() {
        return prefix.close().await;
    }
    tokio::time::timeout(SHUTDOWN_LIMIT, prefix.close()).await.unwrap_or(Hashed::Closed)
}

/// Whether the digest has every byte.
fn follow_up(flight: &Flight, hashed: Hashed) -> Result<bool, FetchError> {
    match hashed {
        Hashed::All => Ok(true),
        Hashed::Closed => Ok(false),
        Hashed::Failed(error) => Err(FetchError::from_ingest("read back", &flight.digest, error)),
        Hashed::Died => Err(FetchError::Died { digest: flight.digest.clone() }),
    }
}

async fn commit(
    engine: &Arc<Shared>,
    flight: &Arc<Flight>,
    ingest: &Arc<IngestWriter>,
    transfer: &Transfer,
    resumed: u64,
) -> Result<End, FetchError> {
    let writer = Arc::clone(ingest);
    if flight.keeps_encoded() {
        writer.keep_encoded();
    }
    match blocking(&flight.digest, move || writer.commit()).await? {
        Ok(()) => {
            Counters::add(&engine.counters.blobs_completed, 1);
            return Ok(End::Committed { resumed });
        }
        Err(CommitError::DigestMismatch { .. }) => {}
        Err(CommitError::Ingest(error)) => {
            return Err(FetchError::from_ingest("commit", &flight.digest, error));
        }
        Err(error) => return Err(FetchError::store("commit", &flight.digest, error)),
    }
    Counters::add(&engine.counters.digest_mismatches, 1);
    let (origins, mirrors) =
        (transfer.deliveries.origins(), transfer.deliveries.distrust_mirrors(&flight.digest));
    let host = [&origins[..], &mirrors[..]].concat().join(", ");
    tracing::warn!(digest = %flight.digest, from = %host, resumed, "wrong bytes, now in quarantine");
    if !mirrors.is_empty() && flight.wrong_mirrors() {
        return Ok(End::WrongBytes);
    }
    let digest = flight.digest.clone();
    let error = if transfer.overrun.load(Ordering::Relaxed) {
        FetchError::TooLong { host, digest, declared: flight.size }
    } else {
        FetchError::DigestMismatch { host, digest }
    };
    flight.wrong_bytes(&origins, resumed, &error);
    Ok(End::WrongBytes)
}
