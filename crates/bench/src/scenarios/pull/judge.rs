//! What the runs of a cold pull come to.

use serde_json::{Value, json};

use super::{Contestant, Kind, Part, Run};
use crate::bench::Bench;
use crate::figures::{Row, Section, Table};
use crate::image::Image;
use crate::peers::Peer;
use crate::process::Usage;
use crate::quantity::{about_bytes, bytes, megabytes_per_second, rate, seconds};
use crate::statistics::{median, median_ratio};
use crate::svg::{Bar, Bars, Chart};

/// The most anonymous memory, as for every pull.
const MEMORY: u64 = 64 << 20;

pub(super) fn section(bench: &Bench, image: &Image, contestants: &[Contestant]) -> Section {
    let found = Found { contestants, image, full: bench.scale.is_full() };
    Section {
        rows: found.rows(),
        tables: found.tables(),
        raw: found.raw(),
        charts: vec![("pull-wall", found.wall_chart()), ("pull-cpu", found.cpu_chart())],
        ..Section::default()
    }
}

struct Found<'a> {
    contestants: &'a [Contestant],
    image: &'a Image,
    full: bool,
}

impl Found<'_> {
    fn runs(&self, kind: Kind) -> &[Run] {
        self.contestants.iter().find(|contestant| contestant.kind == kind).map_or(&[], |found| &found.runs)
    }

    fn all(&self, kind: Kind, of: impl Fn(&Run) -> f64) -> Vec<f64> {
        self.runs(kind).iter().map(of).collect()
    }

    fn median(&self, kind: Kind, of: impl Fn(&Run) -> f64) -> Option<f64> {
        median(&self.all(kind, of))
    }

    fn part_cpu(&self, part: Part) -> Option<f64> {
        self.median(Kind::Part(part), |run| run.usage.cpu())
    }

    /// The cheapest of the digest programs that come with a system.
    fn sha256_cpu(&self) -> Option<f64> {
        let found = [Part::Sha256sum, Part::Openssl].into_iter().filter_map(|part| self.part_cpu(part));
        found.reduce(f64::min)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows =
            vec![self.wall_row(), self.synced_row(), self.cpu_row(), self.disk_row(), self.memory_row()];
        rows.extend(self.copy_row());
        rows
    }

    fn wall_row(&self) -> Row {
        const TARGET: &str = "<= 1.0 x oras pull";
        let what =
            format!("cold pull of {} x {}", self.image.files().len(), bytes(self.image.files()[0].size));
        let ours = self.all(Kind::Stowage, |run| run.usage.wall);
        let oras = self.all(Kind::Peer(Peer::Oras), |run| run.usage.wall);
        let Some(ratio) = median_ratio(&ours, &oras) else {
            return Row::missing(what, TARGET, self.why_not(&[Kind::Stowage, Kind::Peer(Peer::Oras)]));
        };
        let pairs = ours.len().min(oras.len());
        let [ours, oras] = [ours, oras].map(|walls| median(&walls).unwrap_or_default());
        let measured = format!("{ratio:.2} x ({} : {})", seconds(ours), seconds(oras));
        Row::judged(what, measured, TARGET, ratio <= 1.0)
            .note(format!(
                "median of {pairs} interleaved pairs{}",
                if pairs < 9 { ", where 9 are wanted" } else { "" }
            ))
            .note("ours has synced blobs and directories before it ends, oras has not")
            .at_full_size(self.full)
    }

    fn synced_row(&self) -> Row {
        let what = "the same, both with the bytes on the disk (sync -f after each)";
        let synced = |run: &Run| run.usage.wall + run.sync;
        let ours = self.all(Kind::Stowage, synced);
        let oras = self.all(Kind::Peer(Peer::Oras), synced);
        match median_ratio(&ours, &oras) {
            None => Row::missing(what, "", self.why_not(&[Kind::Stowage, Kind::Peer(Peer::Oras)])),
            Some(ratio) => {
                let [ours, oras] = [ours, oras].map(|walls| seconds(median(&walls).unwrap_or_default()));
                Row::shown(what, format!("{ratio:.2} x ({ours} : {oras})"))
            }
        }
    }

    fn cpu_row(&self) -> Row {
        const TARGET: &str = "<= 1.2 x (sha256 + copy + curl)";
        let parts = (self.sha256_cpu(), self.part_cpu(Part::Copy), self.part_cpu(Part::CurlToNull));
        let ours = self.median(Kind::Stowage, |run| run.usage.cpu());
        let (Some(ours), (Some(sha), Some(copy), Some(curl))) = (ours, parts) else {
            let needed = [Part::Sha256sum, Part::Copy, Part::CurlToNull].map(Kind::Part);
            return Row::missing("its CPU", TARGET, self.why_not(&[&[Kind::Stowage], &needed[..]].concat()));
        };
        let ratio = ours / (sha + copy + curl);
        let user = self.median(Kind::Stowage, |run| run.usage.user).unwrap_or_default();
        let row = Row::judged("its CPU", format!("{ratio:.2} x ({})", seconds(ours)), TARGET, ratio <= 1.2);
        let row = row.note(format!("{} user, {} system", seconds(user), seconds(ours - user))).note(format!(
            "sha256 {}, copy {}, curl {}",
            seconds(sha),
            seconds(copy),
            seconds(curl)
        ));
        match self.part_cpu(Part::OurDigest) {
            Some(digest) => row.note(format!("our digest code alone {}", seconds(digest))),
            None => row,
        }
        .at_full_size(self.full)
    }

    fn disk_row(&self) -> Row {
        const TARGET: &str = "<= 1.001 x the artifact";
        let Some(used) = self.median(Kind::Stowage, |run| run.disk as f64) else {
            return Row::missing("disk used after", TARGET, self.why_not(&[Kind::Stowage]));
        };
        let size = self.image.size() as f64;
        let row = Row::judged(
            "disk used after",
            format!("{:.5} x ({} more)", used / size, about_bytes((used - size).max(0.0))),
            TARGET,
            used / size <= 1.001,
        );
        row.note("everything in the store against the sum of the blobs").at_full_size(self.full)
    }

    fn memory_row(&self) -> Row {
        let target = format!("<= {}", bytes(MEMORY));
        match self.median(Kind::Stowage, |run| run.usage.peak_anonymous as f64) {
            None => Row::missing("its memory (RssAnon + RssShmem)", target, self.why_not(&[Kind::Stowage])),
            Some(peak) => Row::judged(
                "its memory (RssAnon + RssShmem)",
                about_bytes(peak),
                target,
                peak <= MEMORY as f64,
            ),
        }
    }

    fn copy_row(&self) -> Option<Row> {
        let wall = self.median(Kind::Part(Part::Copy), |run| run.usage.wall)?;
        let synced = self.copy_seconds()?;
        let size = self.image.size();
        Some(
            Row::shown("a plain copy on this disk", rate(size, synced))
                .note(format!("cp and sync -f; {} without the sync", rate(size, wall))),
        )
    }

    fn copy_seconds(&self) -> Option<f64> {
        self.median(Kind::Part(Part::Copy), |run| run.usage.wall + run.sync)
    }

    /// The first reason among these why there is nothing.
    fn why_not(&self, kinds: &[Kind]) -> String {
        let of = self.contestants.iter().filter(|contestant| kinds.contains(&contestant.kind));
        let mut reasons = of.filter_map(|it| Some(format!("{}: {}", it.name, it.failed.as_ref()?)));
        reasons.next().unwrap_or_else(|| "it did not run".to_owned())
    }

    fn tables(&self) -> Vec<Table> {
        let columns =
            ["", "runs", "wall", "+ sync", "user", "system", "peak RSS", "peak anon + shmem", "disk"];
        let mut pulls = Table::new("Pulls: medians", &columns);
        let mut parts = Table::new("What a pull cannot do without, on its own: medians", &columns);
        for contestant in self.contestants {
            let part = matches!(contestant.kind, Kind::Part(_));
            let table = if part { &mut parts } else { &mut pulls };
            let name = match contestant.kind {
                Kind::Peer(peer) => peer.what(),
                Kind::Stowage => "stowage pull",
                Kind::Part(_) => contestant.name,
            };
            if let Some(why) = &contestant.failed {
                table.failed(name, why);
                continue;
            }
            let middle = |of: &dyn Fn(&Run) -> f64| {
                median(&contestant.runs.iter().map(of).collect::<Vec<_>>()).unwrap_or_default()
            };
            table.line([
                name.to_owned(),
                contestant.runs.len().to_string(),
                seconds(middle(&|run| run.usage.wall)),
                seconds(middle(&|run| run.usage.wall + run.sync)),
                seconds(middle(&|run| run.usage.user)),
                seconds(middle(&|run| run.usage.system)),
                about_bytes(middle(&|run| run.usage.peak_rss as f64)),
                about_bytes(middle(&|run| run.usage.peak_anonymous as f64)),
                about_bytes(middle(&|run| run.disk as f64)),
            ]);
        }
        vec![pulls, parts, self.threads()]
    }

    /// Where the processor time of ours goes, by the last run.
    fn threads(&self) -> Table {
        let mut table = Table::new("stowage pull by thread, one run", &["threads", "processor time"]);
        let last = self.runs(Kind::Stowage).last();
        let mut threads: Vec<(&String, &f64)> = last.iter().flat_map(|run| &run.usage.threads).collect();
        threads.sort_by(|a, b| b.1.total_cmp(a.1));
        for (name, time) in threads {
            table.line([name.clone(), seconds(*time)]);
        }
        table
    }

    fn raw(&self) -> Value {
        let contestants: serde_json::Map<String, Value> = self
            .contestants
            .iter()
            .map(|contestant| {
                let runs: Vec<Value> = contestant.runs.iter().map(raw_run).collect();
                (contestant.name.to_owned(), json!({ "runs": runs, "failed": contestant.failed }))
            })
            .collect();
        json!({
            "bytes": self.image.size(),
            "copyMegabytesPerSecond": self.copy_seconds().map(|s| megabytes_per_second(self.image.size(), s)),
            "programs": contestants,
        })
    }

    fn subtitle(&self) -> String {
        let (count, size) = (self.image.files().len(), bytes(self.image.files()[0].size));
        format!("{count} blobs of {size} from docker-registry over loopback; medians")
    }

    fn wall_chart(&self) -> Chart {
        let pulls =
            self.contestants.iter().filter(|it| !matches!(it.kind, Kind::Part(_)) && !it.runs.is_empty());
        let bars = pulls.map(|it| {
            let wall =
                median(&it.runs.iter().map(|run| run.usage.wall).collect::<Vec<_>>()).unwrap_or_default();
            let sync = median(&it.runs.iter().map(|run| run.sync).collect::<Vec<_>>()).unwrap_or_default();
            Bar {
                label: if it.kind == Kind::Peer(Peer::Curl) { "curl (no digest)" } else { it.name }
                    .to_owned(),
                values: vec![wall, sync],
                text: format!("{} + {}", seconds(wall), seconds(sync)),
                ours: it.kind == Kind::Stowage,
            }
        });
        Chart::Bars(Bars {
            title: "Cold pull: wall time".to_owned(),
            subtitle: self.subtitle(),
            axis: "seconds, less is better".to_owned(),
            pieces: vec!["until it says done".to_owned(), "until it is on the disk (sync -f)".to_owned()],
            each: bars.collect(),
            limits: Vec::new(),
        })
    }

    fn cpu_chart(&self) -> Chart {
        let bar = |label: &str, kind: Kind, ours: bool| {
            let usage = |of: fn(&Usage) -> f64| self.median(kind, |run| of(&run.usage)).unwrap_or_default();
            let (user, system) = (usage(|usage| usage.user), usage(|usage| usage.system));
            Bar { label: label.to_owned(), values: vec![user, system], text: seconds(user + system), ours }
        };
        let mut bars: Vec<Bar> = self
            .contestants
            .iter()
            .filter(|it| !it.runs.is_empty())
            .map(|it| bar(it.name, it.kind, it.kind == Kind::Stowage))
            .collect();
        bars.sort_by_key(|bar| !bar.ours);
        let parts = [self.sha256_cpu(), self.part_cpu(Part::Copy), self.part_cpu(Part::CurlToNull)];
        let sum: Option<f64> = parts.into_iter().sum();
        Chart::Bars(Bars {
            title: "Cold pull: processor time by part".to_owned(),
            subtitle: self.subtitle(),
            axis: "processor seconds, less is better".to_owned(),
            pieces: vec!["user".to_owned(), "system".to_owned()],
            each: bars,
            limits: sum.map(|sum| (1.2 * sum, "1.2 x (sha256 + cp + curl)".to_owned())).into_iter().collect(),
        })
    }
}

fn raw_run(run: &Run) -> Value {
    json!({ "usage": run.usage, "syncSeconds": run.sync, "diskBytes": run.disk })
}
