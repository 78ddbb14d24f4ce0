//! One blob from a registry that gives each connection a limited rate, as object stores do.

use anyhow::{Context, Result};
use serde_json::json;
use stowage_testkit::throttle::Throttle;

use crate::bench::Bench;
use crate::content;
use crate::disk;
use crate::docker_registry::DockerRegistry;
use crate::figures::{Row, Section, Table};
use crate::image::Image;
use crate::peers::Peer;
use crate::process::Usage;
use crate::quantity::{GIB, MIB, bytes, megabytes_per_second, rate, seconds};
use crate::statistics::median;
use crate::svg::{Chart, Line, Lines};

/// The blob behind its limit, and what was measured of it.
struct Stage<'a> {
    bench: &'a Bench,
    image: Image,
    throttle: Throttle,
    /// Bytes a second for each connection.
    limit: u64,
    table: Table,
    raw: Vec<serde_json::Value>,
}

/// What several pulls came to.
struct Pulled {
    /// MB/s of the median.
    rate: f64,
    /// The most connections that were busy at one time in any of the runs.
    connections: usize,
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let size = bench.scale.pick(2 * GIB, 192 * MIB, 2 * MIB);
    let limit = bench.scale.pick(50_000_000, 20_000_000, 20_000_000);
    let registry = DockerRegistry::start(&bench.dir("registry"))?;
    bench.say("making the blob");
    let served = registry.publish(content::random_files(&bench.dir("new"), 2, 1, size)?)?;
    let throttle = Throttle::start(registry.host().parse()?, limit).context("cannot start the proxy")?;
    let image = served.at(throttle.address().to_string());
    let columns = ["", "runs", "rate", "wall", "busy connections", "user + system"];
    let table = Table::new("Through the proxy: medians", &columns);
    let mut stage = Stage { bench, image, throttle, limit, table, raw: Vec::new() };
    let copy = stage.copy(&registry)?;
    let digest = stage.digest(&registry)?;
    let ours = stage.stowage("stowage pull", bench.runs(3, 2), &[])?;
    let one = stage.one_stream();
    let points = stage.over_connections()?;
    stage.peers();
    let rows = vec![stage.against_bound(&ours, copy, digest), stage.against_one(&ours, one)];
    let chart = stage.chart(points, copy, digest);
    let section = Section {
        rows,
        tables: vec![stage.table],
        raw: json!({ "bytes": size, "limit": limit, "runs": stage.raw, "copyMegabytesPerSecond": copy, "digestMegabytesPerSecond": digest }),
        charts: vec![("throttled", chart)],
        ..Section::default()
    };
    drop(stage.throttle);
    drop(registry);
    disk::remove(&bench.dir("registry"))?;
    Ok(section)
}

impl Stage<'_> {
    /// The rate of a plain copy of the blob, on the disk at its end, in MB/s.
    fn copy(&mut self, registry: &DockerRegistry) -> Result<f64> {
        let mut walls = Vec::new();
        for _ in 0..self.bench.runs(3, 1) {
            let into = self.bench.dir("out");
            disk::fresh(&into)?;
            let mut cp = self.bench.clean(std::process::Command::new("cp"));
            cp.args(["--reflink=never", "--sparse=never"]).arg(registry.blob(&self.image.files()[0].digest));
            cp.arg(into.join("copy"));
            let usage = self.bench.measure(vec![cp])?;
            let started = std::time::Instant::now();
            disk::sync(&into)?;
            walls.push(usage.wall + started.elapsed().as_secs_f64());
            disk::remove(&into)?;
        }
        let wall = median(&walls).context("no copy was made")?;
        Ok(megabytes_per_second(self.image.size(), wall))
    }

    /// The rate of our digest code over the blob, in MB/s: a digest cannot be shared between threads.
    fn digest(&mut self, registry: &DockerRegistry) -> Result<f64> {
        let mut walls = Vec::new();
        for _ in 0..self.bench.runs(3, 1) {
            let mut hash = self.bench.this_program()?;
            hash.arg("hash").arg(registry.blob(&self.image.files()[0].digest));
            walls.push(self.bench.measure(vec![hash])?.wall);
        }
        Ok(megabytes_per_second(self.image.size(), median(&walls).context("nothing was hashed")?))
    }

    /// `stowage pull` into fresh stores.
    fn stowage(&mut self, name: &str, runs: u32, flags: &[String]) -> Result<Pulled> {
        let bench = self.bench;
        self.several(name, runs, |image, into| Ok(vec![bench.pull(image, &into.join("store"), flags)]))
    }

    fn several(
        &mut self,
        name: &str,
        runs: u32,
        commands: impl Fn(&Image, &std::path::Path) -> Result<Vec<std::process::Command>>,
    ) -> Result<Pulled> {
        let mut usages: Vec<Usage> = Vec::new();
        let mut connections = 0;
        for run in 0..runs {
            self.bench.say(format!("{name}: run {} of {runs}", run + 1));
            let into = self.bench.dir("out");
            disk::fresh(&into)?;
            self.throttle.reset_counts();
            usages.push(self.bench.measure(commands(&self.image, &into)?)?);
            connections = connections.max(self.throttle.most_busy());
            disk::remove(&into)?;
        }
        let middle = |of: fn(&Usage) -> f64| median(&usages.iter().map(of).collect::<Vec<_>>());
        let wall = middle(|usage| usage.wall).context("no run")?;
        self.table.line([
            name.to_owned(),
            runs.to_string(),
            rate(self.image.size(), wall),
            seconds(wall),
            connections.to_string(),
            seconds(middle(Usage::cpu).unwrap_or_default()),
        ]);
        self.raw.push(json!({ "name": name, "connections": connections, "runs": usages }));
        Ok(Pulled { rate: megabytes_per_second(self.image.size(), wall), connections })
    }

    /// Ours with one connection; where it has no flag for that, curl, which has no other way.
    fn one_stream(&mut self) -> Result<(Pulled, &'static str), String> {
        let pulled = match self.bench.connections(1) {
            Some(flags) => {
                self.stowage("stowage pull, 1 connection", 1, &flags).map(|pulled| (pulled, "stowage pull"))
            }
            None => self.peer(Peer::Curl).map(|pulled| (pulled, "curl, because stowage has no flag for it")),
        };
        pulled.map_err(|error| format!("{error:#}"))
    }

    fn peer(&mut self, peer: Peer) -> Result<Pulled> {
        let bench = self.bench;
        self.several(peer.what(), 1, |image, into| bench.peer(peer, image, into).map_err(anyhow::Error::msg))
    }

    /// The others, once each: the limit leaves nothing to chance. They all are as fast as one connection.
    fn peers(&mut self) {
        for peer in Peer::ALL {
            let known = peer == Peer::Curl && self.bench.connections(1).is_none();
            if known || (peer != Peer::Oras && !self.bench.scale.is_full()) {
                continue;
            }
            if let Err(why) = self.peer(peer) {
                self.table.failed(peer.what(), &format!("{why:#}"));
            }
        }
    }

    /// Rate over connections, in MB/s.
    fn over_connections(&mut self) -> Result<Vec<(f64, f64)>> {
        let numbers: &[usize] = self.bench.scale.pick(&[2, 4, 8, 12, 16], &[4], &[]);
        let mut points = Vec::new();
        for &number in numbers {
            if let Some(flags) = self.bench.connections(number) {
                let pulled = self.stowage(&format!("stowage pull, {number} connections"), 1, &flags)?;
                points.push((number as f64, pulled.rate));
            }
        }
        Ok(points)
    }

    fn what(&self) -> String {
        format!("one blob of {}, {} MB/s a connection", bytes(self.image.size()), self.limit / 1_000_000)
    }

    fn against_bound(&self, ours: &Pulled, copy: f64, digest: f64) -> Row {
        let network = ours.connections as f64 * self.limit as f64 / 1e6;
        let share = ours.rate / network.min(copy);
        let target = ">= 0.85 x min(connections x limit, plain copy)";
        Row::judged(self.what(), format!("{share:.2} x ({:.0} MB/s)", ours.rate), target, share >= 0.85)
            .note(format!(
                "{} busy connections: {network:.0} MB/s; cp and sync -f: {copy:.0} MB/s",
                ours.connections
            ))
            .note(format!("the digest of one blob, on one thread: {digest:.0} MB/s"))
            .at_full_size(self.bench.scale.is_full())
    }

    fn against_one(&self, ours: &Pulled, one: Result<(Pulled, &str), String>) -> Row {
        const TARGET: &str = ">= 7 x one stream";
        let what = "the same against one stream";
        match one {
            Err(why) => Row::missing(what, TARGET, why),
            Ok((one, by)) => {
                let times = ours.rate / one.rate;
                Row::judged(
                    what,
                    format!("{times:.1} x ({:.0} : {:.0} MB/s)", ours.rate, one.rate),
                    TARGET,
                    times >= 7.0,
                )
                .note(format!("one stream by {by}"))
                .at_full_size(self.bench.scale.is_full())
            }
        }
    }

    fn chart(&self, mut points: Vec<(f64, f64)>, copy: f64, digest: f64) -> Chart {
        let single = self.raw.iter().find(|run| run["name"] == "stowage pull, 1 connection");
        if let Some(wall) = single.and_then(|run| run["runs"][0]["wall"].as_f64()) {
            points.insert(0, (1.0, megabytes_per_second(self.image.size(), wall)));
        }
        let most = points.iter().map(|(number, _)| *number).fold(1.0, f64::max);
        let limit = self.limit as f64 / 1e6;
        let bound = |name: &str, points| Line { name: name.to_owned(), points, bound: true, values: false };
        // The bound bends where the disk begins to be the narrower of the two.
        let bend = (copy / limit).min(most);
        Chart::Lines(Lines {
            title: "Rate over connections".to_owned(),
            subtitle: format!("{}; docker-registry behind a proxy", self.what()),
            across: "connections for the blob".to_owned(),
            up: "MB/s, more is better".to_owned(),
            curves: vec![
                Line { name: "stowage pull".to_owned(), points, bound: false, values: true },
                bound(
                    "bound: connections x limit, plain copy",
                    vec![(0.0, 0.0), (bend, bend * limit), (most, (most * limit).min(copy))],
                ),
                Line {
                    name: "digest, one thread".to_owned(),
                    points: vec![(0.0, digest), (most, digest)],
                    bound: false,
                    values: false,
                },
            ],
        })
    }
}
