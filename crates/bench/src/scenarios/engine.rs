//! The engine without network: made-up blobs into a store, in a process of its own.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::content;
use crate::disk;
use crate::figures::{Row, Section, Table};
use crate::process::Usage;
use crate::quantity::{GIB, MIB, bytes, rate, seconds};
use crate::svg::{Chart, Line, Lines};

const BLOBS: u64 = 4;
const MEMORY: u64 = 64 * MIB;

/// One size, measured.
struct Measured {
    size: u64,
    /// Seconds in the engine alone.
    inside: f64,
    usage: Usage,
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let sizes = bench.scale.pick([2 * GIB, 20 * GIB], [256 * MIB, GIB], [4 * MIB, 8 * MIB]);
    let each = sizes.map(|size| size / BLOBS);
    bench.say("hashing the zeros");
    let files = content::sparse_files(&bench.dir("zeros"), BLOBS, &each)?;
    disk::remove(&bench.dir("zeros"))?;
    let mut measured = Vec::new();
    for (size, files) in sizes.into_iter().zip(files) {
        bench.say(format!("{} through the engine", bytes(size)));
        let store = bench.dir("store-engine");
        disk::remove(&store)?;
        let mut command = bench.this_program()?;
        command.arg("engine").arg("--store").arg(&store).args(["--size", &(size / BLOBS).to_string()]);
        command.args(files.iter().flat_map(|(file, _)| ["--digest", file.digest.as_str()]));
        let usage = bench.measure(vec![command])?;
        let said: Value = serde_json::from_str(bench.said()?.trim()).context("the engine printed no JSON")?;
        let inside = said["seconds"].as_f64().context("the engine did not say how long it took")?;
        disk::remove(&store)?;
        measured.push(Measured { size, inside, usage });
    }
    let [small, large] = measured.as_slice() else { anyhow::bail!("two sizes were to be measured") };
    Ok(section(bench, small, large))
}

fn section(bench: &Bench, small: &Measured, large: &Measured) -> Section {
    let full = bench.scale.is_full();
    let (less, more) = (small.usage.peak_anonymous, large.usage.peak_anonymous);
    let growth = more as f64 / less.max(1) as f64;
    let rows = vec![
        Row::shown(format!("{} through the engine alone", bytes(large.size)), rate(large.size, large.inside))
            .note(format!("{} user, {} system", seconds(large.usage.user), seconds(large.usage.system)))
            .note(format!("{}: {}", bytes(small.size), rate(small.size, small.inside))),
        Row::judged(
            "its memory (RssAnon + RssShmem)",
            bytes(more),
            format!("<= {}", bytes(MEMORY)),
            more <= MEMORY,
        )
        .at_full_size(full),
        Row::judged(
            format!("its memory at {} against {}", bytes(large.size), bytes(small.size)),
            format!("{growth:.2} x ({} : {})", bytes(more), bytes(less)),
            "<= 1.1 x",
            growth <= 1.1,
        )
        .at_full_size(full),
    ];
    let mut table = Table::new(
        "The engine alone",
        &["size", "rate", "wall", "user", "system", "peak RSS", "peak anon + shmem"],
    );
    for it in [small, large] {
        table.line([
            bytes(it.size),
            rate(it.size, it.inside),
            seconds(it.inside),
            seconds(it.usage.user),
            seconds(it.usage.system),
            bytes(it.usage.peak_rss),
            bytes(it.usage.peak_anonymous),
        ]);
    }
    let raw_run = |it: &Measured| json!({ "bytes": it.size, "seconds": it.inside, "usage": it.usage });
    let raw = json!({ "runs": [raw_run(small), raw_run(large)] });
    let charts = vec![("engine-memory", chart(large))];
    Section { rows, tables: vec![table], raw, charts, ..Section::default() }
}

/// Memory over time; a point for each pixel or so is enough.
fn chart(large: &Measured) -> Chart {
    let timeline = &large.usage.timeline;
    let step = (timeline.len() / 400).max(1);
    let points: Vec<(f64, f64)> =
        timeline.iter().step_by(step).map(|(at, bytes)| (*at, *bytes as f64 / MIB as f64)).collect();
    let end = points.last().map_or(1.0, |(at, _)| *at);
    let limit = MEMORY as f64 / MIB as f64;
    Chart::Lines(Lines {
        title: "Memory of the engine over time".to_owned(),
        subtitle: format!("{} in {BLOBS} blobs from a made-up source", bytes(large.size)),
        across: "seconds".to_owned(),
        up: "RssAnon + RssShmem, MiB".to_owned(),
        curves: vec![
            Line { name: "engine".to_owned(), points, bound: false, values: false },
            Line {
                name: "limit".to_owned(),
                points: vec![(0.0, limit), (end, limit)],
                bound: true,
                values: false,
            },
        ],
    })
}
