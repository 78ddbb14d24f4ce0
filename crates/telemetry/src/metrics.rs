//! Every series that the node plugin exports. Names and labels are API.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Every result that a publish ends with. They begin at 0: of a series whose first value is 1, nobody sees the increase.
const PUBLISH_RESULTS: [&str; 13] = [
    "ok",
    "invalid_argument",
    "deadline_exceeded",
    "unavailable",
    "resource_exhausted",
    "unauthenticated",
    "permission_denied",
    "not_found",
    "data_loss",
    "already_exists",
    "failed_precondition",
    "aborted",
    "internal",
];
/// The same of an unpublish.
const UNPUBLISH_RESULTS: [&str; 4] = ["ok", "invalid_argument", "unavailable", "internal"];

/// What an RPC was and how it ended (`ok`, or the gRPC code in lower case).
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabel {
    result: String,
}

/// Whether a publish had to fetch anything: `hit` or `miss`.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CacheLabel {
    cache: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct BackingLabel {
    backing: String,
}

/// Numbers of the store at one moment; all sizes in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreNumbers {
    /// Committed blobs.
    pub blobs: u64,
    /// Bytes of committed blobs.
    pub bytes: u64,
    /// Downloads with bytes on disk that are not complete.
    pub ingests: u64,
    /// Views that are ready to be mounted.
    pub views: u64,
    /// Volumes with a record.
    pub volumes: u64,
    /// Free bytes of the filesystem.
    pub free: u64,
    /// Flights that run now.
    pub flights: u64,
    /// Bytes received from registries since the start.
    pub fetched: u64,
}

type Probe = Box<dyn Fn() -> StoreNumbers + Send + Sync>;

/// All series, cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    publishes: Family<ResultLabel, Counter>,
    unpublishes: Family<ResultLabel, Counter>,
    publish_seconds: Family<CacheLabel, Histogram>,
    unpublish_seconds: Histogram,
    bytes_fetched: Counter,
    bytes_cached: Counter,
    collections: Counter,
    collected_bytes: Counter,
    store_blobs: Gauge,
    store_bytes: Gauge,
    store_free: Gauge,
    ingests: Gauge,
    views: Gauge,
    volumes: Gauge,
    flights: Gauge,
    erofs: Family<BackingLabel, Gauge>,
    events: Family<ResultLabel, Counter>,
    configuration_valid: Gauge,
    credential_providers_valid: Gauge,
    probe: Mutex<Option<Probe>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn at_zero(results: &[&str]) -> Family<ResultLabel, Counter> {
    let family = Family::default();
    for result in results {
        drop(family.get_or_create(&ResultLabel { result: (*result).to_owned() }));
    }
    family
}

fn seconds() -> Histogram {
    // 1 ms to about 70 minutes: a cached publish and a cold 500 GB model in one histogram.
    Histogram::new(exponential_buckets(0.001, 4.0, 12))
}

impl Metrics {
    /// Fresh series, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("stowage");
        let publishes = at_zero(&PUBLISH_RESULTS);
        registry.register("publishes", "NodePublishVolume calls by result", publishes.clone());
        let unpublishes = at_zero(&UNPUBLISH_RESULTS);
        registry.register("unpublishes", "NodeUnpublishVolume calls by result", unpublishes.clone());
        let publish_seconds = Family::<CacheLabel, Histogram>::new_with_constructor(seconds);
        registry.register_with_unit(
            "publish_duration",
            "Time from the first publish call of a volume to its mount",
            Unit::Seconds,
            publish_seconds.clone(),
        );
        let unpublish_seconds = seconds();
        registry.register_with_unit(
            "unpublish_duration",
            "Time of NodeUnpublishVolume calls",
            Unit::Seconds,
            unpublish_seconds.clone(),
        );
        let mut counter = |name, help| {
            let metric = Counter::default();
            registry.register(name, help, metric.clone());
            metric
        };
        let bytes_fetched = counter("fetched_bytes", "Bytes of blobs received from registries");
        let bytes_cached = counter("cached_bytes", "Bytes of blobs that publishes found in the store");
        let collections = counter("collections", "Garbage collections that removed something");
        let collected_bytes = counter("collected_bytes", "Bytes freed by garbage collection");
        let mut gauge = |name, help| {
            let metric = Gauge::default();
            registry.register(name, help, metric.clone());
            metric
        };
        let store_blobs = gauge("store_blobs", "Committed blobs in the store");
        let store_bytes = gauge("store_bytes", "Bytes of committed blobs in the store");
        let store_free = gauge("store_free_bytes", "Free bytes on the filesystem of the store");
        let ingests = gauge("store_ingests", "Incomplete downloads with bytes on disk");
        let views = gauge("store_views", "Views ready to be mounted");
        let volumes = gauge("volumes", "Volumes with a record");
        let flights = gauge("flights", "Downloads running now");
        let configuration_valid =
            gauge("configuration_valid", "Whether the configuration file can be used as it is now");
        configuration_valid.set(1);
        let credential_providers_valid = gauge(
            "credential_providers_valid",
            "Whether the credential providers' configuration could be used when it was last read",
        );
        credential_providers_valid.set(1);
        let erofs = Family::default();
        registry.register("erofs", "How files out of tars are mounted on this node", erofs.clone());
        let events = Family::default();
        registry.register("events", "Pod events by what became of them", events.clone());
        Self(Arc::new(Inner {
            registry,
            publishes,
            unpublishes,
            publish_seconds,
            unpublish_seconds,
            bytes_fetched,
            bytes_cached,
            collections,
            collected_bytes,
            store_blobs,
            store_bytes,
            store_free,
            ingests,
            views,
            volumes,
            flights,
            erofs,
            events,
            configuration_valid,
            credential_providers_valid,
            probe: Mutex::new(None),
        }))
    }

    /// Asks `probe` for the numbers of the store at each scrape.
    pub fn watch_store(&self, probe: impl Fn() -> StoreNumbers + Send + Sync + 'static) {
        *self.0.probe.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(probe));
    }

    /// Files out of tars are mounted through `backing`: `file`, `loop`, or `none` where the kernel cannot.
    pub fn erofs(&self, backing: &str) {
        self.0.erofs.get_or_create(&BackingLabel { backing: backing.to_owned() }).set(1);
    }

    /// Whether the configuration file can be used as it is now. It can until somebody says otherwise.
    pub fn configuration_valid(&self, valid: bool) {
        self.0.configuration_valid.set(i64::from(valid));
    }

    /// Whether the credential providers' configuration could be used when it was last read, as long as there is one.
    pub fn credential_providers_valid(&self, valid: bool) {
        self.0.credential_providers_valid.set(i64::from(valid));
    }

    /// One `NodePublishVolume` call ended with `result` (`ok` or a gRPC code).
    pub fn publish(&self, result: &str) {
        self.0.publishes.get_or_create(&ResultLabel { result: result.to_owned() }).inc();
    }

    /// A volume was mounted `elapsed` after its first publish call, with `cached` bytes from the store.
    pub fn mounted(&self, elapsed: Duration, fetched: u64, cached: u64) {
        let cache = if fetched == 0 { "hit" } else { "miss" };
        self.0.publish_seconds.get_or_create(&CacheLabel { cache }).observe(elapsed.as_secs_f64());
        self.0.bytes_cached.inc_by(cached);
    }

    /// One `NodeUnpublishVolume` call ended with `result`.
    pub fn unpublish(&self, result: &str, elapsed: Duration) {
        self.0.unpublishes.get_or_create(&ResultLabel { result: result.to_owned() }).inc();
        self.0.unpublish_seconds.observe(elapsed.as_secs_f64());
    }

    /// One garbage collection freed `bytes`.
    pub fn collected(&self, bytes: u64) {
        self.0.collections.inc();
        self.0.collected_bytes.inc_by(bytes);
    }

    /// `count` pod events were `written`, `dropped` before the API server was asked, or `failed` there.
    pub fn events(&self, result: &str, count: u64) {
        self.0.events.get_or_create(&ResultLabel { result: result.to_owned() }).inc_by(count);
    }

    /// The Prometheus text format of all series. Reads the store, so it may block for a moment.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let inner = &self.0;
        if let Some(probe) = inner.probe.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let now = probe();
            for (metric, value) in [
                (&inner.store_blobs, now.blobs),
                (&inner.store_bytes, now.bytes),
                (&inner.store_free, now.free),
                (&inner.ingests, now.ingests),
                (&inner.views, now.views),
                (&inner.volumes, now.volumes),
                (&inner.flights, now.flights),
            ] {
                metric.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
            let seen = inner.bytes_fetched.get();
            inner.bytes_fetched.inc_by(now.fetched.saturating_sub(seen));
        }
        let mut out = String::new();
        text::encode(&mut out, &inner.registry)?;
        Ok(out)
    }
}

impl crate::Series for Metrics {
    fn text(&self) -> Result<String, std::fmt::Error> {
        self.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_there_before_the_first_of_them() {
        let text = Metrics::new().render().unwrap();
        for line in [
            "stowage_publishes_total{result=\"ok\"} 0",
            "stowage_publishes_total{result=\"data_loss\"} 0",
            "stowage_publishes_total{result=\"resource_exhausted\"} 0",
            "stowage_publishes_total{result=\"unavailable\"} 0",
            "stowage_unpublishes_total{result=\"internal\"} 0",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn series_carry_their_labels_and_the_probe_is_asked_at_each_scrape() {
        let metrics = Metrics::new();
        metrics.publish("ok");
        metrics.publish("deadline_exceeded");
        metrics.mounted(Duration::from_millis(3), 0, 4096);
        metrics.unpublish("ok", Duration::from_millis(1));
        metrics.collected(10);
        metrics.events("dropped", 3);
        assert!(metrics.render().unwrap().contains("stowage_configuration_valid 1"));
        assert!(metrics.render().unwrap().contains("stowage_credential_providers_valid 1"));
        metrics.configuration_valid(false);
        metrics.credential_providers_valid(false);
        metrics.watch_store(|| StoreNumbers { blobs: 7, fetched: 99, ..StoreNumbers::default() });
        let first = metrics.render().unwrap();
        let second = metrics.render().unwrap();
        for line in [
            "stowage_publishes_total{result=\"ok\"} 1",
            "stowage_publishes_total{result=\"deadline_exceeded\"} 1",
            "stowage_publish_duration_seconds_count{cache=\"hit\"} 1",
            "stowage_cached_bytes_total 4096",
            "stowage_fetched_bytes_total 99",
            "stowage_store_blobs 7",
            "stowage_collections_total 1",
            "stowage_events_total{result=\"dropped\"} 3",
            "stowage_configuration_valid 0",
            "stowage_credential_providers_valid 0",
        ] {
            assert!(first.contains(line), "{line} not in\n{first}");
            assert!(second.contains(line), "{line} counted twice in\n{second}");
        }
    }
}
