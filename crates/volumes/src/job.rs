//! A job is one publish at work. It belongs to the volume, not to the call that started it: calls come, wait
//! and go, and the job lives on until it is done, ended by an unpublish, or nobody asks for it any more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use stowage_store::Principal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::request::{Arguments, Published, VolumeKey};
use crate::{PublishError, progress::Progress};

/// Why a job was ended from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EndReason {
    /// An unpublish for the same volume and target.
    Unpublished,
    /// A publish that brought another credential.
    Superseded,
    /// Nobody asked for the volume for too long.
    Abandoned,
    /// The process is about to exit.
    ShuttingDown,
}

impl EndReason {
    pub(crate) fn error(self, volume_id: &str) -> PublishError {
        let reason = match self {
            Self::ShuttingDown => return PublishError::ShuttingDown,
            Self::Unpublished => "the volume was unpublished while it was being pulled",
            Self::Superseded => "another publish call brought a changed credential",
            Self::Abandoned => "no publish call came for it for several minutes",
        };
        PublishError::Aborted { volume_id: volume_id.to_owned(), reason }
    }
}

/// What a job came to.
pub(crate) type Outcome = Result<Published, PublishError>;

/// One publish at work, shared by the task and by every call that waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) arguments: Arguments,
    pub(crate) principal: Principal,
    pub(crate) started: Instant,
    pub(crate) progress: Progress,
    outcome: watch::Sender<Option<Outcome>>,
    ended: OnceLock<EndReason>,
    cancel: CancellationToken,
    waiters: AtomicUsize,
    last_call: Mutex<Instant>,
}

impl Job {
    pub(crate) fn new(arguments: Arguments, principal: Principal, progress: Progress) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            arguments,
            principal,
            started: now,
            progress,
            outcome: watch::Sender::new(None),
            ended: OnceLock::new(),
            cancel: CancellationToken::new(),
            waiters: AtomicUsize::new(0),
            last_call: Mutex::new(now),
        })
    }

    /// Ends the job; the first reason counts.
    pub(crate) fn end(&self, reason: EndReason) {
        let _ = self.ended.set(reason);
        self.cancel.cancel();
    }

    /// Why the job was ended, if it was.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.ended.get().copied()
    }

    /// Runs `work` unless the job is ended first. Only for work that may be dropped at any await: never for a
    /// step that changes the disk or the mount table.
    pub(crate) async fn unless_ended<T>(
        &self,
        volume_id: &str,
        work: impl Future<Output = Result<T, PublishError>>,
    ) -> Result<T, PublishError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {
                Err(self.ended().unwrap_or(EndReason::ShuttingDown).error(volume_id))
            }
            result = work => result,
        }
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
        *self.0.last_call.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}

/// All jobs at work.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    jobs: HashMap<VolumeKey, Arc<Job>>,
    closed: bool,
}

/// What [`Jobs::enter`] found for a call.
pub(crate) enum Entry {
    /// A new job, which the caller must start.
    Started(Arc<Job>),
    /// A job with the same arguments and principal, to wait for.
    Joined(Arc<Job>),
    /// A job with the same arguments and another principal; it was ended and will settle soon.
    Superseded(Arc<Job>),
    /// A job with other arguments.
    Conflict(Arc<Job>),
    /// As many jobs as may be.
    Full(usize),
    /// No job is started any more.
    Closed,
}

impl Jobs {
    /// The job for `key`: the running one, or a new one of at most `limit`.
    pub(crate) fn enter(
        &self,
        key: &VolumeKey,
        arguments: &Arguments,
        principal: &Principal,
        progress: &Progress,
        limit: usize,
    ) -> Entry {
        let mut table = self.lock();
        if let Some(job) = table.jobs.get(key) {
            let job = Arc::clone(job);
            // What is about to end is in nobody's way.
            return if job.ended().is_some() {
                Entry::Superseded(job)
            } else if job.arguments != *arguments {
                Entry::Conflict(job)
            } else if job.principal != *principal {
                job.end(EndReason::Superseded);
                Entry::Superseded(job)
            } else {
                Entry::Joined(job)
            };
        }
        if table.closed {
            return Entry::Closed;
        }
        if table.jobs.len() >= limit {
            return Entry::Full(table.jobs.len());
        }
        let job = Job::new(arguments.clone(), principal.clone(), progress.clone());
        table.jobs.insert(key.clone(), Arc::clone(&job));
        Entry::Started(job)
    }

    pub(crate) fn get(&self, key: &VolumeKey) -> Option<Arc<Job>> {
        self.lock().jobs.get(key).cloned()
    }

    /// Forgets `job`, whose task has ended.
    pub(crate) fn leave(&self, key: &VolumeKey, job: &Arc<Job>) {
        let mut table = self.lock();
        if table.jobs.get(key).is_some_and(|current| Arc::ptr_eq(current, job)) {
            table.jobs.remove(key);
        }
    }

    pub(crate) fn all(&self) -> Vec<(VolumeKey, Arc<Job>)> {
        self.lock().jobs.iter().map(|(key, job)| (key.clone(), Arc::clone(job))).collect()
    }

    /// Lets no job start from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn key() -> VolumeKey {
        VolumeKey { volume_id: "csi-1".to_owned(), target: "/t".into() }
    }

    fn arguments(reference: &str) -> Arguments {
        Arguments {
            attributes: BTreeMap::from([("reference".to_owned(), reference.to_owned())]),
            capability: "mount/SINGLE_NODE_WRITER".to_owned(),
            readonly: false,
        }
    }

    #[tokio::test]
    async fn calls_with_the_same_arguments_share_a_job() {
        let jobs = Jobs::default();
        let Entry::Started(job) =
            jobs.enter(&key(), &arguments("a"), &Principal::Anonymous, &Progress::default(), 8)
        else {
            panic!("no job started")
        };
        assert!(matches!(
            jobs.enter(&key(), &arguments("a"), &Principal::Anonymous, &Progress::default(), 8),
            Entry::Joined(_)
        ));
        assert!(matches!(
            jobs.enter(&key(), &arguments("b"), &Principal::Anonymous, &Progress::default(), 8),
            Entry::Conflict(_)
        ));
        assert!(job.wait(Duration::from_millis(1)).await.is_none());
        job.finish(Err(PublishError::ShuttingDown));
        assert!(job.wait(Duration::from_secs(5)).await.is_some());
        jobs.leave(&key(), &job);
        assert!(jobs.get(&key()).is_none());
    }

    #[tokio::test]
    async fn another_principal_ends_the_job_and_an_ended_job_does_no_more_work() {
        let jobs = Jobs::default();
        let Entry::Started(job) =
            jobs.enter(&key(), &arguments("a"), &Principal::Anonymous, &Progress::default(), 8)
        else {
            panic!("no job started")
        };
        let other = Principal::Administrator;
        assert!(matches!(
            jobs.enter(&key(), &arguments("a"), &other, &Progress::default(), 8),
            Entry::Superseded(_)
        ));
        // What ends is waited for, also by a call with other arguments.
        assert!(matches!(
            jobs.enter(&key(), &arguments("b"), &other, &Progress::default(), 8),
            Entry::Superseded(_)
        ));
        let result = job.unless_ended("csi-1", async { Ok(()) }).await;
        assert!(matches!(result, Err(PublishError::Aborted { .. })), "{result:?}");
    }

    #[test]
    fn the_table_is_bounded_and_closes() {
        let jobs = Jobs::default();
        assert!(matches!(
            jobs.enter(&key(), &arguments("a"), &Principal::Anonymous, &Progress::default(), 0),
            Entry::Full(0)
        ));
        jobs.close();
        assert!(matches!(
            jobs.enter(&key(), &arguments("a"), &Principal::Anonymous, &Progress::default(), 8),
            Entry::Closed
        ));
    }

    #[tokio::test]
    async fn interest_lasts_from_the_last_call() {
        let job = Job::new(arguments("a"), Principal::Anonymous, Progress::default());
        assert!(!job.abandoned(Duration::from_mins(1)));
        assert!(job.abandoned(Duration::ZERO));
        let waiting = Interest::new(&job);
        assert!(!job.abandoned(Duration::ZERO));
        drop(waiting);
        assert!(job.abandoned(Duration::ZERO));
    }
}
