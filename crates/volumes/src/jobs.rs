//! All volumes on their way: for each the job at work, and the calls that are here for it.
//!
//! A call takes its claim before its credential is looked for, which may take as long as the call itself. Until it starts
//! or joins a job the claim keeps the volume asked for, and an unpublish ends it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::end::{End, EndReason};
use crate::job::Job;
use crate::request::{PublishRequest, VolumeKey};

/// All jobs at work, and all claims; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jobs(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    seats: HashMap<VolumeKey, Seat>,
    /// Seats that count against the limit.
    admitted: usize,
    closed: bool,
}

/// One volume.
#[derive(Debug, Default)]
struct Seat {
    job: Option<Arc<Job>>,
    /// Claims that are held.
    claims: usize,
    /// What ends them.
    end: Arc<End>,
    /// Whether it is one of those that may be on their way; true wherever there is a job.
    admitted: bool,
}

/// One call's claim to a volume.
#[derive(Debug)]
pub(crate) struct Claim {
    jobs: Jobs,
    key: VolumeKey,
    pub(crate) end: Arc<End>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.jobs.lock();
        if let Some(seat) = table.seats.get_mut(&self.key) {
            seat.claims = seat.claims.saturating_sub(1);
            if let Some(job) = &seat.job {
                job.called();
            }
        }
        table.clear(&self.key);
    }
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
    /// As many volumes as may be are on their way.
    Full(usize),
    /// The call was ended.
    Ended(EndReason),
}

impl Table {
    /// Counts the seat of `key` as one of at most `limit`; how many there are where it is too many.
    fn admit(&mut self, key: &VolumeKey, limit: usize) -> Result<(), usize> {
        let Some(seat) = self.seats.get_mut(key).filter(|seat| !seat.admitted) else { return Ok(()) };
        if self.admitted >= limit {
            return Err(self.admitted);
        }
        seat.admitted = true;
        self.admitted += 1;
        Ok(())
    }

    /// Removes the seat where nobody is on it any more.
    fn clear(&mut self, key: &VolumeKey) {
        if self.seats.get(key).is_some_and(|seat| seat.job.is_none() && seat.claims == 0)
            && let Some(seat) = self.seats.remove(key)
        {
            self.admitted -= usize::from(seat.admitted);
        }
    }
}

impl Jobs {
    /// The claim of a call that has come for a volume.
    pub(crate) fn claim(&self, key: &VolumeKey) -> Claim {
        let mut table = self.lock();
        let closed = table.closed;
        let seat = table.seats.entry(key.clone()).or_default();
        seat.claims += 1;
        if closed {
            seat.end.end(EndReason::ShuttingDown);
        }
        Claim { jobs: self.clone(), key: key.clone(), end: Arc::clone(&seat.end) }
    }

    /// Lets the volume of a claim be one of at most `limit` on their way; how many there are where it is too many.
    pub(crate) fn admit(&self, claim: &Claim, limit: usize) -> Result<(), usize> {
        self.lock().admit(&claim.key, limit)
    }

    /// The job for a call: the running one, or a new one of at most `limit`.
    pub(crate) fn enter(&self, claim: &Claim, request: &PublishRequest, limit: usize) -> Entry {
        let mut table = self.lock();
        if let Some(reason) = claim.end.ended() {
            return Entry::Ended(reason);
        }
        if let Err(waiting) = table.admit(&claim.key, limit) {
            return Entry::Full(waiting);
        }
        let seat = table.seats.entry(claim.key.clone()).or_default();
        let Some(job) = seat.job.clone() else {
            let job = Job::new(request);
            seat.job = Some(Arc::clone(&job));
            return Entry::Started(job);
        };
        // What is about to end is in nobody's way.
        if job.ended().is_some() {
            Entry::Superseded(job)
        } else if job.arguments != request.arguments() {
            Entry::Conflict(job)
        } else if job.principal != request.access.principal {
            job.end(EndReason::Superseded);
            Entry::Superseded(job)
        } else {
            job.renew(&request.access);
            Entry::Joined(job)
        }
    }

    /// The job at work for a volume.
    pub(crate) fn get(&self, key: &VolumeKey) -> Option<Arc<Job>> {
        self.lock().seats.get(key).and_then(|seat| seat.job.clone())
    }

    /// Whether a job is at work for a volume, or a call is here for it.
    pub(crate) fn is_asked_for(&self, key: &VolumeKey) -> bool {
        self.lock().seats.contains_key(key)
    }

    /// Ends the calls that are here for a volume, and the job at work for it, which is returned to be waited for.
    pub(crate) fn end(&self, key: &VolumeKey, reason: EndReason) -> Option<Arc<Job>> {
        let mut table = self.lock();
        let seat = table.seats.get_mut(key)?;
        // Those that come from now on are not meant.
        std::mem::take(&mut seat.end).end(reason);
        let job = seat.job.clone()?;
        job.end(reason);
        Some(job)
    }

    /// Forgets `job`, whose task has ended.
    pub(crate) fn leave(&self, key: &VolumeKey, job: &Arc<Job>) {
        let mut table = self.lock();
        if let Some(seat) = table.seats.get_mut(key)
            && seat.job.as_ref().is_some_and(|current| Arc::ptr_eq(current, job))
        {
            seat.job = None;
        }
        table.clear(key);
    }

    /// The jobs that no call is here for, and none came for in `limit`.
    pub(crate) fn abandoned(&self, limit: Duration) -> Vec<(VolumeKey, Arc<Job>)> {
        let table = self.lock();
        let unclaimed = table.seats.iter().filter(|(_, seat)| seat.claims == 0);
        let jobs = unclaimed.filter_map(|(key, seat)| Some((key, seat.job.as_ref()?)));
        jobs.filter(|(_, job)| job.abandoned(limit))
            .map(|(key, job)| (key.clone(), Arc::clone(job)))
            .collect()
    }

    /// Ends everything, and lets nothing start from now on.
    pub(crate) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        for seat in table.seats.values() {
            seat.end.end(EndReason::ShuttingDown);
            if let Some(job) = &seat.job {
                job.end(EndReason::ShuttingDown);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use stowage_artifact::VolumeAttributes;
    use stowage_registry::Credential;

    use super::*;
    use crate::progress::Progress;
    use crate::request::Access;

    pub(crate) fn request(name: &str) -> PublishRequest {
        let attributes = BTreeMap::from([("reference".to_owned(), format!("r.example/{name}:v1"))]);
        PublishRequest {
            volume_id: "csi-1".to_owned(),
            target: "/t".into(),
            readonly: false,
            capability: "mount/SINGLE_NODE_WRITER".to_owned(),
            attributes: VolumeAttributes::parse(&attributes).unwrap(),
            namespace: "team".to_owned(),
            access: Access::of(None),
            wait: Duration::ZERO,
            progress: Progress::default(),
        }
    }

    fn started(jobs: &Jobs, name: &str) -> Arc<Job> {
        let request = request(name);
        match jobs.enter(&jobs.claim(&request.key()), &request, 8) {
            Entry::Started(job) => job,
            _ => panic!("no job started"),
        }
    }

    fn enter(jobs: &Jobs, request: &PublishRequest, limit: usize) -> Entry {
        jobs.enter(&jobs.claim(&request.key()), request, limit)
    }

    #[test]
    fn calls_with_the_same_arguments_share_a_job() {
        let jobs = Jobs::default();
        let job = started(&jobs, "a");
        assert!(matches!(enter(&jobs, &request("a"), 8), Entry::Joined(_)));
        assert!(matches!(enter(&jobs, &request("b"), 8), Entry::Conflict(_)));
        jobs.leave(&request("a").key(), &job);
        assert!(jobs.get(&request("a").key()).is_none());
        assert!(!jobs.is_asked_for(&request("a").key()));
    }

    #[test]
    fn another_principal_ends_the_job() {
        let jobs = Jobs::default();
        let job = started(&jobs, "a");
        let other = |name: &str| PublishRequest {
            access: Access::of(Some(Credential::password("u", "p"))),
            ..request(name)
        };
        assert!(matches!(enter(&jobs, &other("a"), 8), Entry::Superseded(_)));
        assert_eq!(job.ended(), Some(EndReason::Superseded));
        // What ends is waited for, also by a call with other arguments.
        assert!(matches!(enter(&jobs, &other("b"), 8), Entry::Superseded(_)));
    }

    #[test]
    fn an_unpublish_ends_the_calls_that_are_here_and_none_that_come_later() {
        let jobs = Jobs::default();
        let request = request("a");
        let here = jobs.claim(&request.key());
        assert!(jobs.end(&request.key(), EndReason::Unpublished).is_none(), "there is no job");
        let later = jobs.claim(&request.key());
        assert!(matches!(jobs.enter(&here, &request, 8), Entry::Ended(EndReason::Unpublished)));
        assert!(matches!(jobs.enter(&later, &request, 8), Entry::Started(_)));
    }

    #[test]
    fn a_call_that_is_here_keeps_its_volume_asked_for() {
        let jobs = Jobs::default();
        let job = started(&jobs, "a");
        let key = request("a").key();
        let claim = jobs.claim(&key);
        assert!(jobs.abandoned(Duration::ZERO).is_empty());
        drop(claim);
        assert_eq!(jobs.abandoned(Duration::ZERO).len(), 1);
        assert!(!job.abandoned(Duration::from_mins(1)));
        jobs.leave(&key, &job);
        let claim = jobs.claim(&key);
        assert!(jobs.is_asked_for(&key));
        drop(claim);
        assert!(!jobs.is_asked_for(&key));
    }

    #[test]
    fn the_table_is_bounded_by_what_was_admitted_and_closes() {
        let jobs = Jobs::default();
        assert!(matches!(enter(&jobs, &request("a"), 0), Entry::Full(0)));
        let looking = PublishRequest { volume_id: "csi-2".to_owned(), ..request("a") };
        let claim = jobs.claim(&looking.key());
        jobs.admit(&claim, 1).unwrap();
        assert!(matches!(enter(&jobs, &request("a"), 1), Entry::Full(1)));
        drop(claim);
        assert!(matches!(enter(&jobs, &request("a"), 1), Entry::Started(_)));
        let here = jobs.claim(&looking.key());
        jobs.close();
        assert!(matches!(jobs.enter(&here, &looking, 8), Entry::Ended(EndReason::ShuttingDown)));
        assert!(matches!(enter(&jobs, &request("b"), 8), Entry::Ended(EndReason::ShuttingDown)));
    }
}
