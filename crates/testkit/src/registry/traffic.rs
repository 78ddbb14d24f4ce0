//! What the registry saw and sent: for assertions on bytes, connections and leaked headers.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method};
use stowage_artifact::Digest;
use tokio::sync::watch;

/// Which of the registry's two listeners took a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The registry itself.
    Registry,
    /// The other host, to which blobs are redirected.
    Storage,
}

/// One request as it came in, and how it was answered.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// Which listener took it.
    pub place: Place,
    /// Number of the connection, unique over both listeners.
    pub connection: u64,
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query.
    pub query: Option<String>,
    /// Every header, credentials too.
    pub headers: HeaderMap,
    /// The blob or manifest that was asked for by digest.
    pub digest: Option<Digest>,
    /// The part of the blob that was asked for and exists.
    pub range: Option<Range<u64>>,
    /// The status of the answer; 0 while there is none.
    pub status: u16,
    /// Bytes of the body handed to the connection so far.
    pub sent: u64,
}

impl RequestRecord {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// One connection and what went over it.
#[derive(Clone, Debug)]
pub struct ConnectionRecord {
    /// Its number.
    pub id: u64,
    /// Which listener took it.
    pub place: Place,
    /// Requests on it.
    pub requests: u64,
    /// Bytes of bodies sent on it.
    pub bytes: u64,
    /// Whether it is open.
    pub open: bool,
}

#[derive(Default)]
struct Ledger {
    requests: Vec<RequestRecord>,
    /// Requests that were dropped from the front of the log.
    forgotten: usize,
    connections: HashMap<u64, ConnectionRecord>,
    served: HashMap<Digest, u64>,
    open_downloads: usize,
    peak_downloads: usize,
}

impl Ledger {
    fn request_mut(&mut self, ticket: &Ticket) -> Option<&mut RequestRecord> {
        self.requests.get_mut(ticket.number.checked_sub(self.forgotten)?)
    }
}

/// The registry's books.
#[derive(Clone)]
pub struct Traffic {
    ledger: Arc<Mutex<Ledger>>,
    changed: watch::Sender<u64>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { ledger: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Traffic {
    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.ledger().requests.clone()
    }

    /// Number of requests that a predicate picks.
    pub fn count(&self, mut picks: impl FnMut(&RequestRecord) -> bool) -> usize {
        self.ledger().requests.iter().filter(|request| picks(request)).count()
    }

    /// Bytes sent of one blob or manifest, over all connections and ranges.
    pub fn bytes_served(&self, digest: &Digest) -> u64 {
        self.ledger().served.get(digest).copied().unwrap_or(0)
    }

    /// Bytes sent of all blobs and manifests.
    pub fn total_bytes_served(&self) -> u64 {
        self.ledger().served.values().sum()
    }

    /// Every connection so far.
    pub fn connections(&self) -> Vec<ConnectionRecord> {
        let mut all: Vec<_> = self.ledger().connections.values().cloned().collect();
        all.sort_by_key(|connection| connection.id);
        all
    }

    /// Bodies of blobs and manifests that are being sent now.
    pub fn open_downloads(&self) -> usize {
        self.ledger().open_downloads
    }

    /// The most bodies that were sent at one time.
    pub fn peak_downloads(&self) -> usize {
        self.ledger().peak_downloads
    }

    /// Forgets requests and bytes; connections stay.
    pub fn reset(&self) {
        let mut ledger = self.ledger();
        ledger.forgotten += ledger.requests.len();
        ledger.requests.clear();
        ledger.served.clear();
        ledger.peak_downloads = ledger.open_downloads;
        ledger.connections.values_mut().for_each(|connection| {
            connection.requests = 0;
            connection.bytes = 0;
        });
    }

    /// Waits until a condition on the books holds, at most for `limit`; says whether it came true.
    pub async fn until(&self, limit: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let mut changes = self.changed.subscribe();
        let wait = async {
            loop {
                changes.borrow_and_update();
                // The sender lives as long as `self`, so an error cannot come.
                if holds(self) || changes.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    pub(super) fn request(&self, record: RequestRecord) -> Ticket {
        let mut ledger = self.ledger();
        if let Some(connection) = ledger.connections.get_mut(&record.connection) {
            connection.requests += 1;
        }
        let ticket = Ticket {
            number: ledger.forgotten + ledger.requests.len(),
            connection: record.connection,
            digest: record.digest.clone(),
        };
        ledger.requests.push(record);
        drop(ledger);
        self.announce();
        ticket
    }

    pub(super) fn answered(&self, ticket: &Ticket, status: u16) {
        if let Some(request) = self.ledger().request_mut(ticket) {
            request.status = status;
        }
        self.announce();
    }

    pub(super) fn asked_for(&self, ticket: &Ticket, range: Range<u64>) {
        if let Some(request) = self.ledger().request_mut(ticket) {
            request.range = Some(range);
        }
    }

    pub(super) fn download_begins(&self, ticket: Ticket) -> Download {
        let mut ledger = self.ledger();
        ledger.open_downloads += 1;
        ledger.peak_downloads = ledger.peak_downloads.max(ledger.open_downloads);
        drop(ledger);
        self.announce();
        Download { traffic: self.clone(), ticket }
    }

    pub(super) fn connection_opened(&self, id: u64, place: Place) {
        let record = ConnectionRecord { id, place, requests: 0, bytes: 0, open: true };
        self.ledger().connections.insert(id, record);
        self.announce();
    }

    pub(super) fn connection_closed(&self, id: u64) {
        if let Some(connection) = self.ledger().connections.get_mut(&id) {
            connection.open = false;
        }
        self.announce();
    }

    fn announce(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names one entry of the log.
#[derive(Clone)]
pub(super) struct Ticket {
    number: usize,
    connection: u64,
    digest: Option<Digest>,
}

impl Ticket {
    /// The same entry, with its bytes booked under a digest that the request did not name.
    pub(super) fn for_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }
}

/// A body on its way out; counted as open until it is dropped.
pub(super) struct Download {
    traffic: Traffic,
    ticket: Ticket,
}

impl Download {
    pub(super) fn sent(&self, bytes: u64) {
        let mut ledger = self.traffic.ledger();
        if let Some(digest) = &self.ticket.digest {
            *ledger.served.entry(digest.clone()).or_default() += bytes;
        }
        if let Some(connection) = ledger.connections.get_mut(&self.ticket.connection) {
            connection.bytes += bytes;
        }
        if let Some(request) = ledger.request_mut(&self.ticket) {
            request.sent += bytes;
        }
        drop(ledger);
        self.traffic.announce();
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.traffic.ledger().open_downloads -= 1;
        self.traffic.announce();
    }
}
