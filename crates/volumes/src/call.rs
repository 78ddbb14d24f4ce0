//! A publish call before it has begun: its credential is still to be found, which may take a while.
//!
//! ```text
//! announce -> look: mounted? refused? room in the queue? -> (the caller finds a credential) -> begin, or join
//! ```
//!
//! From the announcement on the volume is asked for: its download goes on, its record stays, and an unpublish ends the
//! call as it ends a job.

use std::time::Duration;

use crate::Volumes;
use crate::error::PublishError;
use crate::job::Outcome;
use crate::jobs::{Claim, Entry};
use crate::publish::{Found, conflict};
use crate::request::{Access, PublishRequest};
use crate::work::Work;

/// A publish call that was announced. Dropped, it has not come to anything.
#[derive(Debug)]
pub struct Call {
    volumes: Volumes,
    request: PublishRequest,
    claim: Claim,
}

/// What a call finds before a credential is looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// The volume is mounted as asked for: there is nothing left to do.
    Mounted,
    /// The administrator's rules refuse the reference: [`Call::begin`] fails, whoever asks.
    Refused,
    /// Something is to be done.
    Open,
}

impl Volumes {
    /// Publishes a volume, or joins the publish that is at work for it.
    ///
    /// Returns when the volume is mounted, or after `request.wait` with [`PublishError::InProgress`] while the
    /// work goes on. Dropping the future does not stop the work.
    pub async fn publish(&self, request: PublishRequest) -> Outcome {
        self.begin(request).await?.wait().await
    }

    /// Starts to publish a volume, or finds the publish that is at work for it. The work goes on also when the
    /// answer is dropped.
    pub async fn begin(&self, request: PublishRequest) -> Result<Work, PublishError> {
        let (access, wait) = (request.access.clone(), request.wait);
        self.announce(request).begin(access, wait).await
    }

    /// Announces a publish call whose credential is still to be found; `request.access` does not count.
    pub fn announce(&self, request: PublishRequest) -> Call {
        let key = request.key();
        let claim = self.inner.jobs.claim(&key);
        // The time in which nobody asks begins anew with each call.
        self.inner.idle.forget(&key);
        Call { volumes: self.clone(), request, claim }
    }
}

impl Call {
    /// What was asked for.
    pub fn request(&self) -> &PublishRequest {
        &self.request
    }

    /// Whether a credential is needed at all. Fails where the call was ended, or the queue is full.
    pub async fn look(&self) -> Result<Look, PublishError> {
        if self.is_mounted().await? {
            return Ok(Look::Mounted);
        }
        let inner = &self.volumes.inner;
        if inner.policy().check(&self.request.attributes.reference).is_err() {
            return Ok(Look::Refused);
        }
        let limit = inner.options.max_pending_volumes;
        let admitted = inner.jobs.admit(&self.claim, limit);
        admitted.map_err(|waiting| PublishError::QueueFull { waiting, limit })?;
        Ok(Look::Open)
    }

    /// Whether the volume is mounted as asked for. Fails where the call was ended.
    pub async fn is_mounted(&self) -> Result<bool, PublishError> {
        let found = self.unless_ended(self.volumes.inner.find(&self.request)).await?;
        // What cannot be looked at is told by the work itself.
        Ok(matches!(found, Ok(Found::Mounted(_))))
    }

    /// Runs `work`, which may be dropped at any await, unless an unpublish or a shutdown ends the call first.
    pub async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Result<T, PublishError> {
        self.claim.end.unless_ended(&self.request.volume_id, work).await
    }

    /// The publish with the same arguments that is at work for the volume, whose own access counts.
    pub fn join(&self, wait: Duration) -> Option<Work> {
        let job = self.volumes.inner.jobs.get(&self.request.key())?;
        let joined = job.ended().is_none() && job.arguments == self.request.arguments();
        joined.then(|| Work::new(&job, &self.request, wait, false))
    }

    /// Starts to publish the volume, or finds the publish that is at work for it. The work goes on also when the
    /// answer is dropped.
    pub async fn begin(self, access: Access, wait: Duration) -> Result<Work, PublishError> {
        let Self { volumes, mut request, claim } = self;
        request.access = access;
        request.wait = wait;
        let limit = volumes.inner.options.max_pending_volumes;
        // At most twice: once more after a job with another credential has been ended.
        loop {
            match volumes.inner.jobs.enter(&claim, &request, limit) {
                Entry::Started(job) => {
                    let work = Work::new(&job, &request, wait, true);
                    volumes.start(request.key(), job, request);
                    return Ok(work);
                }
                Entry::Joined(job) => return Ok(Work::new(&job, &request, wait, false)),
                Entry::Superseded(job) => drop(job.settled().await),
                Entry::Conflict(job) => {
                    return Err(conflict(&request.key(), &job.arguments, &request.arguments()));
                }
                Entry::Full(waiting) => return Err(PublishError::QueueFull { waiting, limit }),
                Entry::Ended(reason) => return Err(reason.error(&request.volume_id)),
            }
        }
    }
}
