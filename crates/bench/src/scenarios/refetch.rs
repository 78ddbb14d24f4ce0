//! Bytes that are fetched again after a download was killed, and after a power cut.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use stowage_artifact::Digest;
use stowage_engine::{Engine, EngineOptions, FetchRequest};
use stowage_store::{Store, StoreOptions, Testing};
use stowage_testkit::{BlobData, Registry, artifacts};

use crate::bench::Bench;
use crate::disk;
use crate::engine_alone::store_options;
use crate::figures::{Row, Section, Table};
use crate::image::{File, Image};
use crate::quantity::{MIB, about_bytes, bytes, seconds};
use crate::source::MadeUp;

const SEED: u64 = 4;
/// The most that a kill may cost, whatever the number of connections.
const MOST: u64 = 64 * MIB;
/// How long a download may take until it is killed.
const LIMIT: Duration = Duration::from_mins(5);

/// The registry in this process, which counts what it sends.
struct Stage<'a> {
    bench: &'a Bench,
    registry: Registry,
    image: Image,
    /// The blob.
    digest: Digest,
    size: u64,
}

/// What a kill cost.
struct Kill {
    /// Bytes that had been sent when it came.
    at: u64,
    /// Bytes that were sent twice.
    again: u64,
    connections: usize,
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let size = bench.scale.pick(512 * MIB, 192 * MIB, 4 * MIB);
    let rate = bench.scale.pick(10 * MIB, 20 * MIB, 20 * MIB);
    let stage = Stage::set(bench, size)?;
    let shares: &[u64] = bench.scale.pick(&[5, 20, 35, 50, 65, 80, 95], &[30, 80], &[50]);

    // At a rate that the client keeps up with, next to nothing lies in socket buffers when it dies.
    stage.registry.set_rate(Some(rate));
    let paced: Vec<Kill> = shares.iter().map(|share| stage.kill_at(*share)).collect::<Result<_>>()?;
    let cut = stage.power_cut()?;
    stage.registry.set_rate(None);
    let unlimited: Vec<Kill> = shares.iter().map(|share| stage.kill_at(*share)).collect::<Result<_>>()?;

    let full = bench.scale.is_full();
    let paced_name = format!("{} a second and connection", bytes(rate));
    let mut table =
        Table::new("Killed in mid-download", &["", "sent before", "sent again", "busy connections"]);
    for (name, kills) in [(paced_name.as_str(), &paced), ("no limit", &unlimited)] {
        for kill in kills {
            let (at, again) = (bytes(kill.at), bytes(kill.again));
            table.line([name.to_owned(), at, again, kill.connections.to_string()]);
        }
    }
    let connections = paced.iter().map(|kill| kill.connections).max().unwrap_or_default();
    let allowed = (connections as u64 * MIB).min(MOST);
    let worst = |kills: &[Kill]| kills.iter().map(|kill| kill.again).max().unwrap_or_default();
    let rows = vec![
        Row::judged(
            "fetched again after SIGKILL, the worst of several moments",
            bytes(worst(&paced)),
            format!("<= 1 MiB x {connections} connections"),
            worst(&paced) <= allowed,
        )
        .note("by the registry's own count, what lay in socket buffers included")
        .note(format!("without a rate limit, where those are full: {}", bytes(worst(&unlimited))))
        .at_full_size(full),
        cut.row().at_full_size(full),
    ];
    let raw = |kills: &[Kill]| -> Vec<_> {
        kills
            .iter()
            .map(|it| json!({ "at": it.at, "again": it.again, "connections": it.connections }))
            .collect()
    };
    let raw = json!({
        "bytes": size, "paced": raw(&paced), "unlimited": raw(&unlimited),
        "powerCut": { "arrived": cut.arrived, "lost": cut.lost, "bytesPerSecond": cut.rate },
    });
    Ok(Section { rows, tables: vec![table], raw, ..Section::default() })
}

impl<'a> Stage<'a> {
    fn set(bench: &'a Bench, size: u64) -> Result<Self> {
        let registry = Registry::builder().start_blocking().context("cannot start testkit's registry")?;
        bench.say("hashing the blob");
        let artifact = artifacts::oras_files([("model.bin", BlobData::generated(SEED, size))]).build()?;
        registry.push(crate::image::REPOSITORY, Some("v1"), &artifact);
        let (digest, _) = artifact.blobs().last().context("the artifact has no blob")?.clone();
        let file = File { name: "model.bin".to_owned(), digest: digest.clone(), size };
        let image = Image::new(registry.host(), vec![file]);
        Ok(Self { bench, registry, image, digest, size })
    }

    fn sent(&self) -> u64 {
        self.registry.bytes_served(&self.digest)
    }

    /// Kills a pull into a new store once this share of the blob, in per cent, was sent; the seconds it ran.
    fn interrupt(&self, share: u64) -> Result<f64> {
        disk::remove(&self.store())?;
        self.registry.traffic().reset();
        let started = Instant::now();
        let mut pull = self.spawn()?;
        while self.sent() < self.size * share / 100 {
            if let Some(status) = pull.try_wait()? {
                bail!("stowage pull ended before it could be killed: {status}");
            }
            if started.elapsed() > LIMIT {
                let _ = pull.kill();
                let _ = pull.wait();
                bail!("stowage pull did not get to {share} % within {LIMIT:?}");
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        pull.kill()?;
        pull.wait()?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn kill_at(&self, share: u64) -> Result<Kill> {
        self.bench.say(format!("killing at {share} %"));
        self.interrupt(share)?;
        let (at, connections) = (self.sent(), self.registry.traffic().peak_downloads());
        let status = self.spawn()?.wait()?;
        if !status.success() {
            bail!("stowage pull did not go on after it was killed: {status}");
        }
        let again = self.sent().saturating_sub(self.size);
        disk::remove(&self.store())?;
        Ok(Kill { at, again, connections })
    }

    fn spawn(&self) -> Result<Child> {
        let mut pull = self.bench.pull(&self.image, &self.store(), &[]);
        let pull = pull.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        pull.spawn().context("cannot start stowage pull")
    }

    fn store(&self) -> std::path::PathBuf {
        self.bench.dir("store-refetch")
    }

    /// A kill, and then a store that believes that the machine was started anew: of what had arrived, it trusts only what the
    /// journal calls durable. That the disk keeps that promise is shown by the store's own replay of power cuts.
    fn power_cut(&self) -> Result<PowerCut> {
        self.bench.say("a power cut");
        let took = self.interrupt(60)?;
        let arrived = self.sent();
        let testing =
            Testing { boot_id: Some("another start of the machine".to_owned()), ..Testing::default() };
        let options = StoreOptions { testing, ..store_options() };
        let fetched = self.bench.runtime.block_on(async {
            let store = Store::open(&self.store(), options).context("cannot open the store")?;
            let engine = Engine::new(store, EngineOptions::default());
            let mut ticket = engine.join(FetchRequest {
                digest: self.digest.clone(),
                size: self.size,
                source: Arc::new(MadeUp::random(SEED, self.size)),
                namespace: String::new(),
                authority: None,
                decode: None,
            });
            let fetched = ticket.done().await.context("the download did not go on")?;
            engine.shutdown();
            engine.closed().await;
            anyhow::Ok(fetched)
        })?;
        disk::remove(&self.store())?;
        Ok(PowerCut { arrived, lost: arrived.saturating_sub(fetched.resumed), rate: arrived as f64 / took })
    }
}

/// What a power cut cost.
struct PowerCut {
    /// Bytes that had been sent.
    arrived: u64,
    /// Those of them that were fetched again.
    lost: u64,
    /// Bytes a second before.
    rate: f64,
}

impl PowerCut {
    fn row(&self) -> Row {
        let allowed = MOST as f64 + 5.0 * self.rate;
        Row::judged(
            "fetched again after a power cut",
            format!("{} of {}", bytes(self.lost), bytes(self.arrived)),
            format!("<= 64 MiB + 5 s of traffic ({})", about_bytes(allowed)),
            self.lost as f64 <= allowed,
        )
        .note("simulated: SIGKILL, then the store is told of another boot and trusts only what its journal calls durable")
        .note("that the disk then has those bytes is shown by the test `power_cut` of stowage-store")
        .note(format!("killed after {}", seconds(self.arrived as f64 / self.rate)))
    }
}
