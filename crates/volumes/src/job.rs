//! A job is one publish at work. It belongs to the volume, not to the call that started it: calls come, wait
//! and go, and the job lives on until it is done, ended by an unpublish, or nobody asks for it any more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stowage_registry::Renewable;
use stowage_store::Principal;
use tokio::sync::watch;

use crate::PublishError;
use crate::end::{End, EndReason};
use crate::progress::Progress;
use crate::request::{Access, Arguments, PublishRequest, Published};

/// What a job came to.
pub(crate) type Outcome = Result<Published, PublishError>;

/// One publish at work, shared by the task and by every call that waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) arguments: Arguments,
    pub(crate) principal: Principal,
    /// The newest that a call has brought.
    pub(crate) credential: Renewable,
    pub(crate) started: Instant,
    pub(crate) progress: Progress,
    outcome: watch::Sender<Option<Outcome>>,
    end: End,
    waiters: AtomicUsize,
    last_call: Mutex<Instant>,
}

impl Job {
    pub(crate) fn new(request: &PublishRequest) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            arguments: request.arguments(),
            principal: request.access.principal.clone(),
            credential: Renewable::from(request.access.credential.clone()),
            started: now,
            progress: request.progress.clone(),
            outcome: watch::Sender::new(None),
            end: End::default(),
            waiters: AtomicUsize::new(0),
            last_call: Mutex::new(now),
        })
    }

    /// Takes the credential of a later call by the same principal: one that was good when the job began may end
    /// before the download does.
    pub(crate) fn renew(&self, access: &Access) {
        if let Some(credential) = access.credential.clone() {
            self.credential.renew(credential);
        }
    }

    /// Ends the job; the first reason counts.
    pub(crate) fn end(&self, reason: EndReason) {
        self.end.end(reason);
    }

    /// Why the job was ended, if it was.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.end.ended()
    }

    /// Runs `work` unless the job is ended first; see [`End::unless_ended`].
    pub(crate) async fn unless_ended<T>(
        &self,
        volume_id: &str,
        work: impl Future<Output = Result<T, PublishError>>,
    ) -> Result<T, PublishError> {
        self.end.unless_ended(volume_id, work).await?
    }

    /// Says what the job came to; every waiting call returns.
    pub(crate) fn finish(&self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }

    /// Waits until the job is done. `None` where it is still at work after `limit`.
    ///
    /// A call that waits counts as interest; so does the call itself for some minutes afterwards.
    pub(crate) async fn wait(&self, limit: Duration) -> Option<Outcome> {
        let _interest = Interest::new(self);
        tokio::time::timeout(limit, self.settled()).await.ok()
    }

    /// Waits until the job is done, without being interested in it.
    pub(crate) async fn settled(&self) -> Outcome {
        let mut outcome = self.outcome.subscribe();
        let settled = outcome.wait_for(Option::is_some).await;
        // `self` holds the sender, so the channel cannot be closed here.
        settled.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(PublishError::ShuttingDown))
    }

    /// A call has come for the volume.
    pub(crate) fn called(&self) {
        *self.last_call.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Nobody waits, and the last call is longer ago than `limit`.
    pub(crate) fn abandoned(&self, limit: Duration) -> bool {
        self.waiters.load(Ordering::Acquire) == 0
            && self.last_call.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > limit
    }
}

/// Counts one waiting call, also when its future is dropped in the middle.
struct Interest<'a>(&'a Job);

impl<'a> Interest<'a> {
    fn new(job: &'a Job) -> Self {
        job.waiters.fetch_add(1, Ordering::AcqRel);
        Self(job)
    }
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        self.0.called();
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::tests::request;

    #[tokio::test]
    async fn a_job_is_waited_for_as_long_as_the_call_says() {
        let job = Job::new(&request("a"));
        assert!(job.wait(Duration::from_millis(1)).await.is_none());
        job.finish(Err(PublishError::ShuttingDown));
        assert!(job.wait(Duration::from_secs(5)).await.is_some());
    }

    #[tokio::test]
    async fn an_ended_job_does_no_more_work() {
        let job = Job::new(&request("a"));
        job.end(EndReason::Superseded);
        let result = job.unless_ended("csi-1", async { Ok(()) }).await;
        assert!(matches!(result, Err(PublishError::Aborted { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn interest_lasts_from_the_last_call() {
        let job = Job::new(&request("a"));
        assert!(!job.abandoned(Duration::from_mins(1)));
        assert!(job.abandoned(Duration::ZERO));
        let waiting = Interest::new(&job);
        assert!(!job.abandoned(Duration::ZERO));
        drop(waiting);
        assert!(job.abandoned(Duration::ZERO));
    }
}
