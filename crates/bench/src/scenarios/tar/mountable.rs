//! From a tar whose bytes are there to its files: a view and a mount, or unpacking.

use anyhow::{Context, Result};
use serde_json::json;

use super::stage::{Pushed, Stage, check};
use crate::bench::Bench;
use crate::disk;
use crate::figures::{Row, Section, Table};
use crate::process::Usage;
use crate::quantity::{bytes, seconds, significant};
use crate::statistics::{median, median_ratio, most};
use crate::svg::{Bar, Bars, Chart};
use crate::tarball::Members;

/// What it may take.
const MOST: f64 = 0.1;
/// Bytes on the disk for each byte of the tar.
const DISK: f64 = 1.01;
const TARGET: &str = "<= 100 ms";

/// A program that unpacks.
struct Unpacker {
    name: &'static str,
    /// It runs in every n-th round.
    every: u32,
    runs: Vec<Run>,
    failed: Option<String>,
}

struct Run {
    usage: Usage,
    /// Seconds until its files are on the disk too.
    sync: f64,
    /// Seconds of ours in the same round.
    ours: f64,
}

impl Unpacker {
    fn new(name: &'static str, every: u32) -> Self {
        Self { name, every, runs: Vec::new(), failed: None }
    }

    /// Seconds of each run, with those until all is on the disk or without.
    fn walls(&self, synced: bool) -> Vec<f64> {
        self.runs.iter().map(|run| run.usage.wall + if synced { run.sync } else { 0.0 }).collect()
    }

    /// How many times ours it takes.
    fn times(&self, synced: bool) -> String {
        let ours: Vec<f64> = self.runs.iter().map(|run| run.ours).collect();
        let times = median_ratio(&self.walls(synced), &ours).unwrap_or_default();
        format!("{} x ours", significant(times))
    }
}

/// Seconds of each run of ours.
#[derive(Default)]
struct Ours {
    /// The tar in the page cache, as after a download.
    warm: Vec<f64>,
    /// The tar on the disk only.
    cold: Vec<f64>,
    /// Bytes on the disk.
    disk: u64,
}

pub(super) fn missing(members: Members, why: &str) -> Vec<Row> {
    vec![Row::missing(what(members), TARGET, why), Row::missing("disk used after", target_of_disk(), why)]
}

fn what(members: Members) -> String {
    let megabytes = members.data() / 1_000_000;
    format!("{megabytes} MB tar of {} files, once its bytes are there: mounted after", members.files)
}

fn target_of_disk() -> String {
    format!("<= {DISK} x the tar")
}

pub(super) fn measure(stage: &Stage<'_>, pushed: &Pushed) -> Result<Section> {
    let bench = stage.bench;
    bench.runtime.block_on(stage.bring(pushed))?;
    let mut ours = Ours::default();
    let mut unpackers = [Unpacker::new("tar x", 1), Unpacker::new("umoci raw unpack", 3)];
    let rounds = bench.runs(5, 3);
    for round in 0..rounds {
        bench.say(format!("mounting and unpacking, round {} of {rounds}", round + 1));
        let wall = bench.runtime.block_on(publish(stage, pushed, true, &mut ours.disk))?;
        ours.warm.push(wall);
        for unpacker in &mut unpackers {
            if unpacker.failed.is_some() || round % unpacker.every != 0 {
                continue;
            }
            match unpack(stage, pushed, unpacker.name) {
                Ok((usage, sync)) => unpacker.runs.push(Run { usage, sync, ours: wall }),
                Err(why) => {
                    bench.say(format!("{}: {why:#}", unpacker.name));
                    unpacker.failed = Some(format!("{why:#}"));
                }
            }
        }
        ours.cold.push(bench.runtime.block_on(publish(stage, pushed, false, &mut ours.disk))?);
    }
    Ok(section(bench, pushed, &ours, &unpackers))
}

/// Seconds from the request to the answer, with no view of the tar; takes the bytes on the disk down.
async fn publish(stage: &Stage<'_>, pushed: &Pushed, warm: bool, used: &mut u64) -> Result<f64> {
    stage.forget_views()?;
    let node = stage.used_node().await?;
    disk::sync(&stage.store())?;
    let blob = stage.blob(pushed);
    if warm {
        disk::warm(&blob)?;
    } else {
        disk::forget(&blob)?;
    }
    let request = node.request(&pushed.reference, false)?;
    let wall = node.publish(&request).await?;
    check(&request, pushed.members)?;
    node.unpublish(&request).await?;
    stage.end(node)?;
    disk::sync(&stage.store())?;
    *used = disk::used(&stage.store())?;
    Ok(wall)
}

/// One run, and the seconds until its files are on the disk too.
fn unpack(stage: &Stage<'_>, pushed: &Pushed, name: &str) -> Result<(Usage, f64)> {
    let bench = stage.bench;
    let program = name.split(' ').next().unwrap_or(name);
    let mut command = bench.program(program).map_err(anyhow::Error::msg)?;
    let into = bench.dir("out");
    disk::fresh(&into)?;
    if program == "umoci" {
        let layout = stage.oci_layout(pushed)?;
        command.args(["raw", "unpack", "--image"]).arg(format!("{}:v1", layout.display()));
        command.arg(into.join("rootfs"));
    } else {
        command.arg("-xf").arg(&pushed.path).arg("-C").arg(&into);
    }
    disk::warm(&pushed.path)?;
    let usage = bench.measure(vec![command])?;
    let started = std::time::Instant::now();
    disk::sync(&into)?;
    let sync = started.elapsed().as_secs_f64();
    for left in ["out", "layout"] {
        disk::remove(&bench.dir(left)).context("cannot remove what was unpacked")?;
    }
    Ok((usage, sync))
}

fn section(bench: &Bench, pushed: &Pushed, ours: &Ours, unpackers: &[Unpacker]) -> Section {
    let full = bench.scale.is_full();
    let middle = |times: &[f64]| median(times).unwrap_or_default();
    let wall = middle(&ours.warm);
    let share = ours.disk as f64 / pushed.size as f64;
    let mut rows = vec![
        Row::judged(what(pushed.members), seconds(wall), TARGET, wall <= MOST)
            .note(format!(
                "median of {}, at most {}",
                ours.warm.len(),
                seconds(most(&ours.warm).unwrap_or_default())
            ))
            .note(format!("with the tar on the disk and not in memory: {}", seconds(middle(&ours.cold))))
            .at_full_size(full),
    ];
    let mut table = Table::new(
        "From the bytes to the files: medians",
        &["", "runs", "wall", "wall with sync", "user + system"],
    );
    for (name, times) in
        [("stowage, publish", &ours.warm), ("stowage, publish, tar not in memory", &ours.cold)]
    {
        let wall = seconds(middle(times));
        table.line([name.to_owned(), times.len().to_string(), wall.clone(), wall, String::new()]);
    }
    let mut bars = vec![bar("stowage, publish", wall, true)];
    for unpacker in unpackers {
        let what = format!("unpacking it by {}", unpacker.name);
        if let Some(why) = &unpacker.failed {
            table.failed(unpacker.name, why);
            rows.push(Row::missing(what, "", why));
            continue;
        }
        let [plain, synced] = [false, true].map(|synced| unpacker.walls(synced));
        let text = |walls, synced| format!("{}, {}", seconds(middle(walls)), unpacker.times(synced));
        rows.push(
            Row::shown(what, text(&plain, false))
                .note(format!("until it is on the disk {}", text(&synced, true))),
        );
        let cpu: Vec<f64> = unpacker.runs.iter().map(|run| run.usage.cpu()).collect();
        let [wall, with_sync, cpu] = [&plain, &synced, &cpu].map(|times| seconds(middle(times)));
        table.line([unpacker.name.to_owned(), plain.len().to_string(), wall, with_sync, cpu]);
        bars.push(bar(unpacker.name, middle(&plain), false));
        bars.push(bar(&format!("{}, and sync", unpacker.name), middle(&synced), false));
    }
    rows.push(
        Row::judged("disk used after", format!("{share:.4} x"), target_of_disk(), share <= DISK)
            .note(format!("{} for a tar of {}", bytes(ours.disk), bytes(pushed.size)))
            .note("tar, image and all else of the store; an unpacked copy comes on top of the tar")
            .at_full_size(full),
    );
    let run = |unpacker: &Unpacker| {
        let runs: Vec<_> = unpacker
            .runs
            .iter()
            .map(|run| json!({ "usage": run.usage, "sync": run.sync, "ours": run.ours }))
            .collect();
        json!({ "name": unpacker.name, "runs": runs, "failed": unpacker.failed })
    };
    let raw = json!({
        "bytes": pushed.size, "files": pushed.members.files, "disk": ours.disk,
        "publish": ours.warm, "publishCold": ours.cold, "unpackers": unpackers.iter().map(run).collect::<Vec<_>>(),
    });
    let chart = Chart::Bars(Bars {
        title: "From a tar to its files".to_owned(),
        subtitle: format!("{}, {} files, its bytes in memory", bytes(pushed.size), pushed.members.files),
        axis: "seconds, less is better".to_owned(),
        each: bars,
        ..Bars::default()
    });
    Section { rows, tables: vec![table], raw, charts: vec![("tar-mountable", chart)], ..Section::default() }
}

fn bar(name: &str, wall: f64, ours: bool) -> Bar {
    Bar { label: name.to_owned(), values: vec![wall], text: seconds(wall), ours }
}
