//! When the registry does what wrong: faults are set, counted and removed while it runs.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use stowage_artifact::Digest;
use tokio::sync::watch;

use super::fault::Fault;
use super::traffic::Place;

/// Which requests a fault is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every request.
    Everything,
    /// `GET /v2/`.
    Ping,
    /// The token endpoint.
    Token,
    /// Manifests, by tag or digest.
    Manifests,
    /// Blobs, at either host.
    Blobs,
    /// One blob or manifest.
    Digest(Digest),
    /// Everything in one repository.
    Repository(String),
    /// Lists of referrers.
    Referrers,
    /// Uploads of blobs.
    Uploads,
}

/// What a fault may be chosen by.
pub(super) struct Request<'a> {
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) method: &'a Method,
    pub(super) repository: Option<&'a str>,
    pub(super) digest: Option<&'a Digest>,
    /// Asked for with a `Range` that can be satisfied.
    pub(super) ranged: bool,
    /// The bytes of the blob or manifest that the right answer holds.
    pub(super) range: Option<Range<u64>>,
    /// Asked for by tag.
    pub(super) tag: bool,
}

/// The kinds of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ping,
    Token,
    Manifest,
    Blob,
    Upload,
    Tags,
    Referrers,
}

impl Target {
    fn covers(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Everything => true,
            Self::Ping => request.kind == Kind::Ping,
            Self::Token => request.kind == Kind::Token,
            Self::Manifests => request.kind == Kind::Manifest,
            Self::Blobs => request.kind == Kind::Blob,
            Self::Digest(digest) => request.digest == Some(digest),
            Self::Repository(name) => request.repository == Some(name),
            Self::Referrers => request.kind == Kind::Referrers,
            Self::Uploads => request.kind == Kind::Upload,
        }
    }
}

/// A fault in force.
#[derive(Clone, Debug)]
pub struct Rule {
    target: Target,
    fault: Fault,
    method: Option<Method>,
    skip: u32,
    times: Option<u32>,
}

impl Rule {
    /// Every fitting request, until the rule is removed.
    pub fn new(target: Target, fault: Fault) -> Self {
        Self { target, fault, method: None, skip: 0, times: None }
    }

    /// Only the next `times` fitting requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Not the first `skip` fitting requests.
    #[must_use]
    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Only requests of one method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }
}

/// Names a rule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(usize);

struct Armed {
    id: RuleId,
    rule: Rule,
}

#[derive(Default)]
struct Rules {
    armed: Vec<Armed>,
    /// How often each rule struck, by its id.
    struck: Vec<u64>,
}

/// The switches: faults are set, counted and removed while the registry runs.
#[derive(Clone)]
pub struct Faults {
    rules: Arc<Mutex<Rules>>,
    released: watch::Sender<u64>,
    stalled: watch::Sender<usize>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { rules: Arc::default(), released: watch::Sender::new(0), stalled: watch::Sender::new(0) }
    }
}

/// Counts a stall for as long as it lasts, also where the client goes away.
struct Stalled<'a>(&'a watch::Sender<usize>);

impl<'a> Stalled<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Faults {
    /// Puts a rule in force. Of the fitting rules the first that replaces the answer strikes alone; where
    /// there is none, all strike.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut rules = self.rules();
        let id = RuleId(rules.struck.len());
        rules.struck.push(0);
        rules.armed.push(Armed { id, rule });
        id
    }

    /// Every fitting request takes the fault.
    pub fn always(&self, target: Target, fault: Fault) -> RuleId {
        self.add(Rule::new(target, fault))
    }

    /// The next `times` fitting requests take the fault.
    pub fn next(&self, times: u32, target: Target, fault: Fault) -> RuleId {
        self.add(Rule::new(target, fault).times(times))
    }

    /// How often a rule struck; also after it ran out or was removed.
    pub fn struck(&self, id: RuleId) -> u64 {
        self.rules().struck.get(id.0).copied().unwrap_or(0)
    }

    /// Takes one rule out of force.
    pub fn remove(&self, id: RuleId) {
        self.rules().armed.retain(|armed| armed.id != id);
    }

    /// Takes all rules out of force. Bodies that stall go on stalling.
    pub fn clear(&self) {
        self.rules().armed.clear();
    }

    /// Lets everything that stalls now go on.
    pub fn release(&self) {
        self.released.send_modify(|round| *round += 1);
    }

    /// Answers and bodies that stall now.
    pub fn stalled(&self) -> usize {
        *self.stalled.borrow()
    }

    /// Waits until `count` answers or bodies stall, at most for `limit`; says whether it came to that. A
    /// [`Faults::release`] before that would be missed by those that are still to come.
    pub async fn until_stalled(&self, count: usize, limit: Duration) -> bool {
        let mut stalled = self.stalled.subscribe();
        let wait = stalled.wait_for(|now| *now >= count);
        matches!(tokio::time::timeout(limit, wait).await, Ok(Ok(_)))
    }

    /// Stalls until the next [`Faults::release`].
    pub(super) async fn stall(&self) {
        let mut releases = self.released.subscribe();
        let _counted = Stalled::new(&self.stalled);
        // `self` keeps the sender, so the wait ends by a release only.
        let _ = releases.changed().await;
    }

    /// The faults of one request: the first that replaces the answer, else all that change it.
    pub(super) fn strike(&self, request: &Request<'_>) -> Vec<Fault> {
        let mut rules = self.rules();
        let Rules { armed, struck } = &mut *rules;
        let mut hits = Vec::new();
        for (index, Armed { rule, .. }) in armed.iter_mut().enumerate() {
            let fits = rule.target.covers(request)
                && rule.method.as_ref().is_none_or(|method| method == request.method)
                && rule.fault.fits(request);
            if !fits {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.fault.replaces_the_answer() {
                hits = vec![index];
                break;
            } else {
                hits.push(index);
            }
        }
        let faults = hits.iter().map(|&index| {
            let Armed { id, rule } = &mut armed[index];
            struck[id.0] += 1;
            rule.times = rule.times.map(|times| times.saturating_sub(1));
            rule.fault.clone()
        });
        let faults = faults.collect();
        armed.retain(|armed| armed.rule.times != Some(0));
        faults
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::At;

    fn blob(method: &Method, range: Range<u64>, ranged: bool) -> Request<'_> {
        Request {
            place: Place::Registry,
            kind: Kind::Blob,
            method,
            repository: Some("a/b"),
            digest: None,
            ranged,
            range: Some(range),
            tag: false,
        }
    }

    #[test]
    fn a_rule_strikes_after_its_skips_and_as_often_as_told() {
        let faults = Faults::default();
        let id = faults.add(Rule::new(Target::Blobs, Fault::status(503)).skip(1).times(2));
        let request = blob(&Method::GET, 0..10, false);
        let strikes: Vec<usize> = (0..5).map(|_| faults.strike(&request).len()).collect();
        assert_eq!(strikes, [0, 1, 1, 0, 0]);
        assert_eq!(faults.struck(id), 2);
    }

    #[test]
    fn a_rule_waits_for_a_request_that_it_fits() {
        let faults = Faults::default();
        faults.next(1, Target::Blobs, Fault::Reset(At::Blob(50)));
        assert!(faults.strike(&blob(&Method::GET, 0..50, false)).is_empty());
        assert!(faults.strike(&blob(&Method::HEAD, 0..100, false)).is_empty());
        assert!(matches!(faults.strike(&blob(&Method::GET, 50..60, true))[..], [Fault::Reset(_)]));
        assert!(faults.strike(&blob(&Method::GET, 50..60, true)).is_empty());
    }

    #[test]
    fn a_refusal_leaves_the_other_faults_for_later() {
        let faults = Faults::default();
        faults.next(1, Target::Blobs, Fault::Drip(1));
        faults.next(1, Target::Blobs, Fault::status(500));
        faults.next(1, Target::Blobs, Fault::IgnoreRange);
        let request = blob(&Method::GET, 0..10, true);
        assert!(matches!(faults.strike(&request)[..], [Fault::Status(500, _)]));
        assert!(matches!(faults.strike(&request)[..], [Fault::Drip(1), Fault::IgnoreRange]));
        assert!(faults.strike(&request).is_empty());
    }
}
