//! Which of several replicas reconciles: the one that holds a Lease (coordination.k8s.io/v1).
//!
//! Clocks of other machines are not trusted: a lease has run out when it has not changed, while we looked, for as long as
//! it says of itself.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use stowage_telemetry::ControllerMetrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long others wait after our last renewal.
const DURATION: Duration = Duration::from_secs(15);
/// How long renewing may fail before the work is given up.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long work may take to end once the lease is lost.
const ENDING: Duration = Duration::from_secs(4);
/// How long the API server may take for one try.
const REQUEST: Duration = Duration::from_secs(4);

// Our work is over before anybody else's begins.
const _: () = assert!(PATIENCE.as_secs() + ENDING.as_secs() < DURATION.as_secs());

/// Settings of the election.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Where the lease is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are: different in every replica.
    pub identity: String,
    /// How long others wait after our last renewal. Whole seconds.
    pub duration: Duration,
    /// How long renewing may fail before the work is given up; at least 5 s shorter than `duration`.
    pub patience: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl LeaseOptions {
    /// The usual times: 15 s, 8 s, 2 s.
    pub fn new(namespace: String, name: String, identity: String) -> Self {
        Self {
            namespace,
            name,
            identity,
            duration: DURATION,
            patience: PATIENCE,
            retry: Duration::from_secs(2),
        }
    }
}

/// One replica that wants the lease.
pub struct LeaderElection {
    leases: Api<Lease>,
    options: LeaseOptions,
    metrics: ControllerMetrics,
    /// What the lease said when it last changed, and when that was.
    seen: Option<(Option<String>, Option<MicroTime>, Instant)>,
}

/// How a term ended.
enum End {
    /// The work is over, and the lease is ours still.
    Done,
    /// Somebody else may have the lease.
    Lost,
}

impl LeaderElection {
    /// A replica that has not asked yet.
    pub fn new(client: Client, options: LeaseOptions, metrics: ControllerMetrics) -> Self {
        Self { leases: Api::namespaced(client, &options.namespace), options, metrics, seen: None }
    }

    /// Works while the lease is ours, again and again, until `stop`. The work is told by its token when the lease is lost.
    pub async fn run(
        mut self,
        stop: CancellationToken,
        work: impl Fn(CancellationToken) -> BoxFuture<'static, ()>,
    ) {
        while let Some(renewed) = self.acquire(&stop).await {
            tracing::info!(lease = self.options.name, identity = self.options.identity, "leading");
            self.metrics.leads(true);
            let term = stop.child_token();
            let mut working = work(term.clone());
            let end = tokio::select! {
                () = &mut working => End::Done,
                () = self.renew_until_lost(renewed) => End::Lost,
            };
            term.cancel();
            self.metrics.leads(false);
            match end {
                End::Done => {
                    self.release().await;
                    // Work that cannot even begin must not ask the API server without a pause.
                    tokio::select! {
                        () = tokio::time::sleep(self.options.retry) => {}
                        () = stop.cancelled() => return,
                    }
                }
                End::Lost => {
                    tracing::warn!(lease = self.options.name, "the lease is lost; another replica goes on");
                    if tokio::time::timeout(ENDING, working).await.is_err() {
                        tracing::warn!("work did not end within {} s and was dropped", ENDING.as_secs());
                    }
                }
            }
        }
    }

    /// Waits until the lease is ours, and says since when; nothing when told to stop before.
    async fn acquire(&mut self, stop: &CancellationToken) -> Option<Instant> {
        loop {
            let asked = Instant::now();
            tokio::select! {
                taken = tokio::time::timeout(REQUEST, self.take()) => match taken {
                    Ok(Ok(true)) => return Some(asked),
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, lease = self.options.name, "cannot ask for the lease");
                    }
                    Err(_) => tracing::warn!("cannot ask for the lease: the API server does not answer"),
                },
                () = stop.cancelled() => return None,
            }
            tokio::select! {
                () = tokio::time::sleep(self.options.retry) => {}
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Ends when the lease is somebody else's, or could not be renewed for too long. What counts is when a renewal was sent:
    /// others may have seen it from then on.
    async fn renew_until_lost(&mut self, mut renewed: Instant) {
        let patience = self.options.patience;
        loop {
            let left = patience.saturating_sub(renewed.elapsed());
            tokio::time::sleep(self.options.retry.min(left)).await;
            let left = patience.saturating_sub(renewed.elapsed());
            if left.is_zero() {
                return;
            }
            let asked = Instant::now();
            match tokio::time::timeout(left.min(REQUEST), self.take()).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the lease"),
                Err(_) => tracing::warn!("cannot renew the lease: the API server does not answer"),
            }
        }
    }

    /// Takes or renews the lease; `false` where it is somebody else's.
    async fn take(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.options.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.options.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.ours(None)),
            };
            return won(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        if !self.is_free(&spec) {
            return Ok(false);
        }
        lease.spec = Some(self.ours(Some(&spec)));
        // The object's version goes with it: whoever is second is told so.
        won(self.leases.replace(&self.options.name, &PostParams::default(), &lease).await)
    }

    /// Whether the lease is ours, nobody's, or has run out.
    fn is_free(&mut self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.options.identity {
            return true;
        }
        let now = Instant::now();
        let unchanged = self.seen.as_ref().is_some_and(|(holder, renewed, _)| {
            *holder == spec.holder_identity && *renewed == spec.renew_time
        });
        if !unchanged {
            self.seen = Some((spec.holder_identity.clone(), spec.renew_time.clone(), now));
        }
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(self.options.duration, Duration::from_secs);
        self.seen.as_ref().is_some_and(|(_, _, since)| now.duration_since(*since) >= duration)
    }

    fn ours(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let own = |spec: &&LeaseSpec| spec.holder_identity.as_ref() == Some(&self.options.identity);
        let acquired = before.filter(own).and_then(|spec| spec.acquire_time.clone());
        let transitions = before.map_or(0, |spec| spec.lease_transitions.unwrap_or(0));
        LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: i32::try_from(self.options.duration.as_secs()).ok(),
            lease_transitions: Some(transitions + i32::from(before.is_some() && acquired.is_none())),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    /// Gives the lease away, so that another replica need not wait. What fails here runs out by itself.
    async fn release(&mut self) {
        let releasing = async {
            let Some(mut lease) = self.leases.get_opt(&self.options.name).await? else { return Ok(false) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() != Some(&self.options.identity) {
                return Ok(false);
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            won(self.leases.replace(&self.options.name, &PostParams::default(), &lease).await)
        };
        match tokio::time::timeout(self.options.retry, releasing).await {
            Ok(Ok(true)) => tracing::info!(lease = self.options.name, "the lease is given away"),
            Ok(Ok(false)) => tracing::info!(lease = self.options.name, "the lease is not ours to give away"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot give the lease away"),
            Err(_) => tracing::warn!("cannot give the lease away: the API server does not answer"),
        }
    }
}

/// A conflict means that another replica was first.
fn won(answer: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match answer {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
