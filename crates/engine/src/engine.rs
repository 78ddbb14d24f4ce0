//! The engine itself: the map of flights, and what all flights share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stowage_artifact::digest::Digest;
use stowage_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::batch::Batches;
use crate::buffer::BufferPool;
use crate::byte_rate::ByteRate;
use crate::error::FetchError;
use crate::flight::Flight;
use crate::gate::{Gate, Limits};
use crate::health::QuietHosts;
use crate::options::EngineOptions;
use crate::runner;
use crate::stats::{Counters, EngineStats};
use crate::ticket::{FetchRequest, Outcome, Progress, Ticket};
use crate::writer::Writers;

/// The download engine of a node. Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

/// What the flights of one engine share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) options: EngineOptions,
    pub(crate) blobs: Gate,
    pub(crate) connections: Gate,
    pub(crate) byte_rate: ByteRate,
    pub(crate) batches: Batches,
    pub(crate) writers: Writers,
    pub(crate) buffers: Arc<BufferPool>,
    pub(crate) quiet: QuietHosts,
    pub(crate) counters: Counters,
    pub(crate) shutdown: CancellationToken,
    /// More than one flight of a digest only where callers believe in different sizes.
    flights: Mutex<HashMap<Digest, Vec<Arc<Flight>>>>,
    tasks: TaskTracker,
    tickets: AtomicU64,
}

impl Engine {
    /// An engine over a store. Starts the writer threads.
    pub fn new(store: Store, options: EngineOptions) -> Self {
        let options = options.sane();
        Self(Arc::new(Shared {
            blobs: Gate::new(Limits {
                permits: options.max_blobs,
                per_namespace: options.max_blobs_per_namespace,
                per_host: options.max_blobs,
            }),
            connections: Gate::new(Limits {
                permits: options.max_connections,
                per_namespace: options.max_connections_per_namespace,
                per_host: options.max_connections_per_registry,
            }),
            byte_rate: ByteRate::new(options.max_bytes_per_second),
            batches: Batches::new(store.clone()),
            writers: Writers::start(options.writers),
            buffers: Arc::default(),
            quiet: QuietHosts::default(),
            counters: Counters::default(),
            shutdown: CancellationToken::new(),
            flights: Mutex::default(),
            tasks: TaskTracker::new(),
            tickets: AtomicU64::new(0),
            options,
            store,
        }))
    }

    /// Joins the flight of this digest, or starts it. The caller's interest and its source count from now on.
    ///
    /// Must be called within a tokio runtime.
    pub fn join(&self, request: FetchRequest) -> Ticket {
        let shared = &self.0;
        let id = shared.tickets.fetch_add(1, Ordering::Relaxed);
        let mut flights = shared.flights();
        if shared.shutdown.is_cancelled() {
            return Ticket {
                id,
                flight: None,
                digest: request.digest,
                progress: watch::Sender::new(Progress { total: request.size, ..Progress::default() })
                    .subscribe(),
                outcome: Outcome::Known(Err(FetchError::ShuttingDown)),
            };
        }
        let same_digest = flights.entry(request.digest.clone()).or_default();
        if let Some(flight) = same_digest.iter().find(|flight| flight.size == request.size) {
            return flight.join(id, request);
        }
        let flight = Arc::new(Flight::new(request.digest.clone(), request.size, request.decode));
        same_digest.push(Arc::clone(&flight));
        let ticket = flight.join(id, request);
        shared.tasks.spawn(runner::run(Arc::clone(shared), flight));
        ticket
    }

    /// Whether the digest is on its way.
    pub fn is_flying(&self, digest: &Digest) -> bool {
        self.0.flights().contains_key(digest)
    }

    /// Begins to stop: tickets end with [`FetchError::ShuttingDown`], what has arrived stays resumable.
    pub fn shutdown(&self) {
        // Under the lock, so that no flight starts after this.
        let _flights = self.0.flights();
        self.0.shutdown.cancel();
        self.0.tasks.close();
    }

    /// Waits, after [`Engine::shutdown`], until the last flight has let go of its ingest.
    pub async fn closed(&self) {
        self.0.tasks.wait().await;
    }

    /// The counters now.
    pub fn stats(&self) -> EngineStats {
        let shared = &self.0;
        let (buffer_bytes, buffer_bytes_peak) = shared.buffers.bytes_out();
        EngineStats {
            bytes_fetched: Counters::get(&shared.counters.bytes_fetched),
            blobs_completed: Counters::get(&shared.counters.blobs_completed),
            retries: Counters::get(&shared.counters.retries),
            digest_mismatches: Counters::get(&shared.counters.digest_mismatches),
            flights: shared.flights().values().map(Vec::len).sum::<usize>() as u64,
            flights_running: shared.blobs.in_use() as u64,
            connections: shared.connections.in_use() as u64,
            buffer_bytes,
            buffer_bytes_peak,
        }
    }
}

impl Shared {
    /// Begins a pass of a flight. Without anybody interested, or in a shutdown, the flight is over instead.
    pub(crate) fn next_pass(&self, flight: &Arc<Flight>) -> Option<CancellationToken> {
        let mut flights = self.flights();
        if !self.shutdown.is_cancelled()
            && let Some(stop) = flight.begin_pass(&self.shutdown)
        {
            return Some(stop);
        }
        self.forget(&mut flights, flight);
        flight.settle(&Err(FetchError::ShuttingDown));
        None
    }

    /// Ends a flight for all who wait for it; who comes later starts another.
    pub(crate) fn land(&self, flight: &Arc<Flight>, end: &Result<u64, FetchError>) {
        let mut flights = self.flights();
        self.forget(&mut flights, flight);
        flight.settle(end);
    }

    fn forget(&self, flights: &mut HashMap<Digest, Vec<Arc<Flight>>>, flight: &Arc<Flight>) {
        if let Some(same_digest) = flights.get_mut(&flight.digest) {
            same_digest.retain(|other| !Arc::ptr_eq(other, flight));
            if same_digest.is_empty() {
                flights.remove(&flight.digest);
            }
        }
        if flights.is_empty() {
            self.buffers.shrink();
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Digest, Vec<Arc<Flight>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a blocking call of the store off the async workers; a panic in it ends the flight, not the engine.
pub(crate) async fn blocking<T: Send + 'static>(
    digest: &Digest,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(call).await.map_err(|_| FetchError::Died { digest: digest.clone() })
}
