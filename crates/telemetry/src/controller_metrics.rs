//! Every series that the controller exports. Names and labels are API.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::Series;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    method: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StateLabel {
    state: &'static str,
}

/// How many `CachedArtifact` objects are in which state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ArtifactNumbers {
    /// On every node that it is meant for.
    pub cached: u64,
    /// On its way to some node.
    pub pulling: u64,
    /// Some node cannot have it.
    pub failing: u64,
    /// Its reference has no digest yet, or its spec cannot be read.
    pub unresolved: u64,
    /// No node is meant.
    pub no_nodes: u64,
    /// The DaemonSet cannot be made: its name is taken, or the API server refuses it.
    pub blocked: u64,
}

type Probe = Box<dyn Fn() -> ArtifactNumbers + Send + Sync>;

/// All series of the controller, cheap to clone.
#[derive(Clone)]
pub struct ControllerMetrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<MethodLabel, Histogram>,
    reconciles: Family<ResultLabel, Counter>,
    reconcile_seconds: Histogram,
    artifacts: Family<StateLabel, Gauge>,
    leader: Gauge,
    probe: Mutex<Option<Probe>>,
}

impl std::fmt::Debug for ControllerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ControllerMetrics")
    }
}

impl Default for ControllerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds() -> Histogram {
    // 1 ms to about a minute: calls have a budget of 45 s.
    Histogram::new(exponential_buckets(0.001, 3.0, 11))
}

impl ControllerMetrics {
    /// Fresh series, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("stowage_controller");
        let requests = Family::default();
        registry.register("requests", "CSI calls by method and result", requests.clone());
        let request_seconds = Family::<MethodLabel, Histogram>::new_with_constructor(seconds);
        let help = "Time of CSI calls by method";
        registry.register_with_unit("request_duration", help, Unit::Seconds, request_seconds.clone());
        let reconciles = Family::<ResultLabel, Counter>::default();
        // Of a series whose first value is 1, nobody sees the increase.
        for result in ["ok", "error"] {
            drop(reconciles.get_or_create(&ResultLabel { result }));
        }
        registry.register("reconciles", "Reconciliations of CachedArtifacts by result", reconciles.clone());
        let reconcile_seconds = seconds();
        let help = "Time of reconciliations of CachedArtifacts";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, reconcile_seconds.clone());
        let artifacts = Family::default();
        registry.register("cached_artifacts", "CachedArtifacts by state", artifacts.clone());
        let leader = Gauge::default();
        registry.register("leader", "Whether this process reconciles CachedArtifacts", leader.clone());
        Self(Arc::new(Inner {
            registry,
            requests,
            request_seconds,
            reconciles,
            reconcile_seconds,
            artifacts,
            leader,
            probe: Mutex::new(None),
        }))
    }

    /// One CSI call ended with `result` (`ok` or a gRPC code in snake case).
    pub fn request(&self, method: &'static str, result: &'static str, elapsed: Duration) {
        self.0.requests.get_or_create(&RequestLabels { method, result }).inc();
        self.0.request_seconds.get_or_create(&MethodLabel { method }).observe(elapsed.as_secs_f64());
    }

    /// One reconciliation ended with `result`: `ok` or `error`.
    pub fn reconcile(&self, result: &'static str, elapsed: Duration) {
        self.0.reconciles.get_or_create(&ResultLabel { result }).inc();
        self.0.reconcile_seconds.observe(elapsed.as_secs_f64());
    }

    /// Whether this process is the one that reconciles.
    pub fn leads(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// Asks `probe` for the states at each scrape; with `None` there are none to tell.
    pub fn watch_artifacts(&self, probe: Option<Box<dyn Fn() -> ArtifactNumbers + Send + Sync>>) {
        *self.0.probe.lock().unwrap_or_else(PoisonError::into_inner) = probe;
    }
}

impl Series for ControllerMetrics {
    fn text(&self) -> Result<String, std::fmt::Error> {
        let inner = &self.0;
        match inner.probe.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(probe) => {
                let now = probe();
                for (state, number) in [
                    ("cached", now.cached),
                    ("pulling", now.pulling),
                    ("failing", now.failing),
                    ("unresolved", now.unresolved),
                    ("no_nodes", now.no_nodes),
                    ("blocked", now.blocked),
                ] {
                    let gauge = inner.artifacts.get_or_create(&StateLabel { state });
                    gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
                }
            }
            // A replica that does not lead knows nothing, and says so by saying nothing.
            None => inner.artifacts.clear(),
        }
        let mut out = String::new();
        text::encode(&mut out, &inner.registry)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_carry_their_labels_and_only_a_leader_tells_of_artifacts() {
        let metrics = ControllerMetrics::new();
        assert!(metrics.text().unwrap().contains("stowage_controller_reconciles_total{result=\"error\"} 0"));
        metrics.request("create_volume", "ok", Duration::from_millis(3));
        metrics.request("create_volume", "internal", Duration::from_millis(3));
        metrics.reconcile("ok", Duration::from_millis(3));
        metrics.leads(true);
        assert!(!metrics.text().unwrap().contains("stowage_controller_cached_artifacts{"));
        metrics
            .watch_artifacts(Some(Box::new(|| ArtifactNumbers { cached: 2, ..ArtifactNumbers::default() })));
        let text = metrics.text().unwrap();
        for line in [
            "stowage_controller_requests_total{method=\"create_volume\",result=\"ok\"} 1",
            "stowage_controller_requests_total{method=\"create_volume\",result=\"internal\"} 1",
            "stowage_controller_request_duration_seconds_count{method=\"create_volume\"} 2",
            "stowage_controller_reconciles_total{result=\"ok\"} 1",
            "stowage_controller_reconcile_duration_seconds_count 1",
            "stowage_controller_cached_artifacts{state=\"cached\"} 2",
            "stowage_controller_cached_artifacts{state=\"failing\"} 0",
            "stowage_controller_leader 1",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
        metrics.watch_artifacts(None);
        assert!(!metrics.text().unwrap().contains("stowage_controller_cached_artifacts{"));
    }
}
