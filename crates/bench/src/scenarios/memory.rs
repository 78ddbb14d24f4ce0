//! Memory of the plugin while it brings in a small and a large artifact, and under a limit.

use anyhow::{Context, Result};
use serde_json::json;

use crate::bench::Bench;
use crate::cgroup::Cgroup;
use crate::content;
use crate::disk;
use crate::docker_registry::DockerRegistry;
use crate::figures::{Row, Section, Table};
use crate::image::Image;
use crate::node::Node;
use crate::process::{Peaks, Sampler};
use crate::quantity::{GIB, MIB, bytes, rate, seconds};
use crate::svg::{Bar, Bars, Chart};

const BLOBS: u64 = 4;
/// The most anonymous and shared memory.
const MOST: u64 = 64 * MIB;
/// What the plugin gets in the row under a limit, page cache included.
const LIMIT: u64 = 512 * MIB;

/// One publish, measured.
struct Measured {
    label: String,
    size: u64,
    wall: f64,
    peaks: Peaks,
    /// The most that was charged to the cgroup, where there was one.
    charged: Option<u64>,
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let [small, large] = bench.scale.pick([2 * GIB, 20 * GIB], [256 * MIB, 768 * MIB], [4 * MIB, 8 * MIB]);
    let mut images = Vec::new();
    bench.say("hashing the zeros");
    let files = content::sparse_files(&bench.dir("new"), BLOBS, &[small / BLOBS, large / BLOBS])?;
    let registries =
        [DockerRegistry::start(&bench.dir("registry"))?, DockerRegistry::start(&bench.dir("registry-2"))?];
    for (registry, files) in registries.iter().zip(files) {
        images.push(registry.publish(files)?);
    }
    let [image, large_image] = images.as_slice() else { anyhow::bail!("two artifacts were to be made") };

    let first = publish(bench, image, bytes(small), None)?;
    let second = publish(bench, large_image, bytes(large), None)?;
    let limited = Cgroup::with_memory(&bench.cgroup_name("memory"), LIMIT)
        .context("no memory cgroup to be had")
        .and_then(|cgroup| {
            publish(bench, image, format!("{} under {}", bytes(small), bytes(LIMIT)), Some(&cgroup))
        });
    drop(registries);
    disk::remove(&bench.dir("registry"))?;
    disk::remove(&bench.dir("registry-2"))?;
    Ok(section(bench, &first, &second, &limited))
}

fn publish(bench: &Bench, image: &Image, label: String, cgroup: Option<&Cgroup>) -> Result<Measured> {
    bench.say(format!("publishing {label}"));
    disk::sync(&bench.dir(""))?;
    let measured = bench.runtime.block_on(async {
        let node = Node::start(bench, "memory", image.host(), cgroup).await?;
        let sampler = Sampler::start(vec![node.pid()], None)?;
        let request = node.request(&image.reference(), false)?;
        let wall = node.publish(&request).await;
        let peaks = sampler.stop();
        let wall = wall?;
        node.unpublish(&request).await?;
        node.stop()?;
        let charged = cgroup.and_then(Cgroup::peak);
        Ok(Measured { label, size: image.size(), wall, peaks, charged })
    });
    disk::remove(&bench.dir("store-memory"))?;
    disk::remove(&bench.short_dir("memory"))?;
    measured
}

fn section(bench: &Bench, small: &Measured, large: &Measured, limited: &Result<Measured>) -> Section {
    let full = bench.scale.is_full();
    let target = format!("<= {}", bytes(MOST));
    let growth = large.peaks.anonymous as f64 / small.peaks.anonymous.max(1) as f64;
    let peak_row = |it: &Measured| {
        let what = format!("RssAnon + RssShmem at the peak, artifact of {}", it.label);
        Row::judged(what, bytes(it.peaks.anonymous), target.as_str(), it.peaks.anonymous <= MOST)
            .note(format!(
                "in {}, {}; VmHWM {}",
                seconds(it.wall),
                rate(it.size, it.wall),
                bytes(it.peaks.rss)
            ))
            .at_full_size(full)
    };
    let mut rows = vec![
        peak_row(small),
        peak_row(large),
        Row::judged(
            format!("the same at {} against {}", large.label, small.label),
            format!("{growth:.2} x"),
            "within 10 %",
            (growth - 1.0).abs() <= 0.1,
        )
        .at_full_size(full),
    ];
    let mut all = vec![small, large];
    match limited {
        Err(why) => rows.push(Row::missing(
            format!("with {} of memory", bytes(LIMIT)),
            target.as_str(),
            format!("{why:#}"),
        )),
        Ok(limited) => {
            let slower = limited.wall / small.wall;
            let charged = limited.charged.map_or_else(|| "unknown".to_owned(), bytes);
            rows.push(
                peak_row(limited)
                    .note(format!("{slower:.2} x the time without a limit"))
                    .note(format!("{charged} charged at most, page cache included")),
            );
            all.push(limited);
        }
    }
    let columns = ["artifact", "wall", "rate", "peak anon + shmem", "VmHWM"];
    let mut table = Table::new("stowage node, one cold publish each", &columns);
    for it in &all {
        let (wall, rate) = (seconds(it.wall), rate(it.size, it.wall));
        table.line([it.label.clone(), wall, rate, bytes(it.peaks.anonymous), bytes(it.peaks.rss)]);
    }
    let raw = |it: &&Measured| {
        json!({ "label": it.label, "bytes": it.size, "wall": it.wall, "peakRss": it.peaks.rss,
                "peakAnonymous": it.peaks.anonymous, "charged": it.charged })
    };
    let raw = json!({ "runs": all.iter().map(raw).collect::<Vec<_>>() });
    let charts = vec![("memory", chart(&all))];
    Section { rows, tables: vec![table], raw, charts, ..Section::default() }
}

fn chart(all: &[&Measured]) -> Chart {
    let bar = |it: &&Measured| Bar {
        label: it.label.clone(),
        values: vec![it.peaks.anonymous as f64 / MIB as f64],
        text: bytes(it.peaks.anonymous),
        ours: true,
    };
    Chart::Bars(Bars {
        title: "Memory over the size of the artifact".to_owned(),
        subtitle: format!("stowage node, cold publish of {BLOBS} blobs; the most RssAnon + RssShmem"),
        axis: "MiB, less is better".to_owned(),
        each: all.iter().map(bar).collect(),
        limits: vec![(MOST as f64 / MIB as f64, format!("limit {}", bytes(MOST)))],
        ..Bars::default()
    })
}
