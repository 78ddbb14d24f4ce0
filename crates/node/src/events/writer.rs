//! The one task that tells the API server. Whoever reports something never waits for it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use stowage_telemetry::Metrics;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::allowance::Allowance;
use super::ledger::{Ledger, Writing};
use super::{Told, object};
use crate::kubernetes::{Backoff, CallError, Warnings, call};

/// While the API server is away.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Writes what it is told of, one object at a time.
pub(super) struct Writer {
    client: Client,
    node: String,
    metrics: Metrics,
    ledger: Ledger,
    allowance: Allowance,
    backoff: Backoff,
    /// Before this the API server is left alone.
    rest: Instant,
    warnings: Warnings,
}

impl Writer {
    pub(super) fn new(client: Client, node: &str, metrics: Metrics) -> Self {
        let now = Instant::now();
        Self {
            client,
            node: node.to_owned(),
            metrics,
            ledger: Ledger::default(),
            allowance: Allowance::new(now),
            backoff: BACKOFF,
            rest: now,
            warnings: Warnings::about("write a pod event"),
        }
    }

    /// Works until `stop`, or until nobody can report any more. What waits then is not written.
    pub(super) async fn run(mut self, mut told: mpsc::Receiver<Told>, stop: CancellationToken) {
        let work = async {
            loop {
                let due = self.ledger.next_due().map(|due| due.max(self.rest).max(self.allowance.ready()));
                tokio::select! {
                    // First: what is newer takes the place of what waits.
                    biased;
                    told = told.recv() => match told {
                        Some(told) => self.enter(told),
                        None => return,
                    },
                    () = at(due) => self.write_next().await,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    fn enter(&mut self, told: Told) {
        match told {
            Told::Happened(notice) => {
                let dropped = self.ledger.enter(notice, Instant::now());
                self.metrics.events("dropped", dropped);
            }
            Told::Unpublished(place) => self.ledger.end(&place),
        }
    }

    async fn write_next(&mut self) {
        let (writing, stale) = self.ledger.take(Instant::now());
        self.metrics.events("dropped", stale);
        let Some(mut writing) = writing else { return };
        let written = self.write(&mut writing).await;
        let now = Instant::now();
        match written {
            Ok(count) => {
                self.metrics.events("written", 1);
                self.backoff.reset();
                self.ledger.written(&writing, count, now);
            }
            Err(error) => {
                self.metrics.events("failed", 1);
                if error.is_transient() {
                    self.warnings.warn(&error, "trying again; volumes are mounted all the same");
                    self.rest = now + self.backoff.pause();
                    self.ledger.put_back(writing, self.rest);
                } else {
                    // A pod that goes with its namespace needs no events.
                    if !matches!(error, CallError::Ending(_) | CallError::NotFound(_)) {
                        self.warnings.warn(&error, "it is left out; volumes are mounted all the same");
                    }
                    self.ledger.give_up(&writing);
                }
            }
        }
    }

    /// Creates the object or patches it; returns how many occurrences it has then.
    async fn write(&mut self, writing: &mut Writing) -> Result<i32, CallError> {
        let namespace = &writing.subject.namespace;
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let name = object::name(&writing.subject, writing.reason);
        if writing.known {
            match self.patch(&events, &name, &object::patch(writing, writing.count)).await {
                // Events expire, after an hour unless the cluster says otherwise.
                Err(CallError::NotFound(_)) => {}
                patched => return patched.map(|_| writing.count),
            }
        }
        let whole = object::whole(writing, &self.node);
        self.allowance.spend(Instant::now());
        match call(events.create(&PostParams::default(), &whole)).await {
            Err(CallError::Exists) => {}
            created => return created.map(|_| writing.count),
        }
        // An earlier life of this plugin has made it, or a call of which no answer came. A patch that changes nothing shows
        // which, without the right to read events.
        let found = self.patch(&events, &name, &json!({})).await?;
        if !object::is_of(&found, writing) {
            writing.count = found.count.unwrap_or(0).saturating_add(writing.count);
        }
        // From now on a call that is repeated says the same.
        writing.known = true;
        self.patch(&events, &name, &object::patch(writing, writing.count)).await.map(|_| writing.count)
    }

    async fn patch(&mut self, events: &Api<Event>, name: &str, patch: &Value) -> Result<Event, CallError> {
        self.allowance.spend(Instant::now());
        call(events.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await
    }
}

/// Ends at `due`; never where nothing is.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
