//! Events of pods: what becomes of their volumes, for `kubectl describe pod`.
//!
//! Our own writer of core/v1 events: one object for each pod, volume and reason, which is patched when the same
//! happens again.
//!
//! ```text
//! RPC, follow ──report──► queue (bounded) ──► writer: ledger, allowance ──► API server
//! ```
//!
//! Reporting never waits: what finds the queue full is dropped and counted. Each publish at work has a task that follows
//! it, because downloads outlive the calls that start them.

mod allowance;
mod due;
mod follow;
mod ledger;
mod message;
mod object;
mod reason;
mod subject;
mod writer;

use std::path::Path;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use stowage_telemetry::Metrics;
use stowage_volumes::{PublishError, Work};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use reason::Reason;
use subject::Place;
pub(crate) use subject::Subject;
use writer::Writer;

/// What may wait for the writer.
const QUEUE: usize = 1024;

/// Where volumes report what becomes of them; cheap to clone. The default is off.
#[derive(Clone, Debug, Default)]
pub struct Events(Option<Queue>);

#[derive(Clone, Debug)]
struct Queue {
    told: mpsc::Sender<Told>,
    metrics: Metrics,
}

/// What the writer is told.
#[derive(Debug)]
enum Told {
    Happened(Notice),
    Unpublished(Place),
}

/// One thing that has happened.
#[derive(Debug)]
struct Notice {
    subject: Subject,
    reason: Reason,
    message: String,
    at: Timestamp,
}

impl Events {
    /// Nobody is told anything.
    pub fn off() -> Self {
        Self::default()
    }

    /// Events in the name of `node`, until `stop`.
    pub(crate) fn start(client: Client, node: &str, metrics: Metrics, stop: CancellationToken) -> Self {
        let (told, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(Writer::new(client, node, metrics.clone()).run(waiting, stop));
        Self(Some(Queue { told, metrics }))
    }

    /// Tells of a publish that has just begun, to its end.
    pub(crate) fn follow(&self, subject: Subject, work: Work) {
        if self.0.is_some() {
            tokio::spawn(follow::follow(self.clone(), subject, work));
        }
    }

    /// A publish came to nothing; the event says what the call is answered.
    pub(crate) fn failed(&self, subject: &Subject, error: &PublishError) {
        if let Some(reason) = Reason::of_error(error) {
            self.report(subject, reason, error.to_string());
        }
    }

    /// A request was refused before it was looked into.
    pub(crate) fn refused(&self, subject: &Subject, status: &Status) {
        self.report(subject, Reason::of_refusal(status.code()), status.message().to_owned());
    }

    /// The volume at `target` is gone.
    pub(crate) fn unpublished(&self, target: &Path) {
        if let (Some(queue), Some(place)) = (&self.0, Place::of(target)) {
            // Where the queue is full the volume is forgotten later, as the quietest one.
            let _ = queue.told.try_send(Told::Unpublished(place));
        }
    }

    fn report(&self, subject: &Subject, reason: Reason, message: String) {
        let Some(queue) = &self.0 else { return };
        let message = message::cut(message);
        let notice = Notice { subject: subject.clone(), reason, message, at: Timestamp::now() };
        if queue.told.try_send(Told::Happened(notice)).is_err() {
            queue.metrics.events("dropped", 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn place(pod_uid: &str) -> Place {
        Place { pod_uid: pod_uid.to_owned(), volume: "model".to_owned() }
    }

    pub(super) fn subject(pod_uid: &str) -> Subject {
        Subject { place: place(pod_uid), namespace: "team".to_owned(), pod: "web-0".to_owned(), inline: true }
    }

    pub(super) fn notice(pod_uid: &str, reason: Reason, message: &str) -> Notice {
        Notice { subject: subject(pod_uid), reason, message: message.to_owned(), at: Timestamp::now() }
    }
}
