//! A tar of very many members: its image, the memory for it, and publishing it from the cache.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::stage::{Pushed, Stage, check};
use crate::bench::Bench;
use crate::disk;
use crate::figures::{Row, Section};
use crate::quantity::{MIB, about_bytes, bytes, seconds};
use crate::scenarios::publish::{Calls, bare, one_by_one};
use crate::statistics::{median, most};

/// Bytes for each member, and for all else.
const EACH: u64 = 200;
const BESIDES: u64 = 4 * MIB;
const PUBLISH: &str = "<= 5 ms";

/// What one process said of itself.
struct Built {
    seconds: f64,
    /// Bytes by which it grew at most.
    grown: u64,
    image: u64,
}

/// Calls that publish from the cache.
struct Cached {
    first: Calls,
    clone: Calls,
    /// Of a tar with one file: what the number of members costs.
    small: Calls,
    bare: Calls,
}

pub(super) fn measure(stage: &Stage<'_>, pushed: &Pushed, why_not: Option<&str>) -> Result<Section> {
    let bench = stage.bench;
    bench.runtime.block_on(stage.bring(pushed))?;
    let rounds = bench.runs(5, 3);
    let warm: Vec<Built> = (0..rounds).map(|_| build(stage, pushed, true)).collect::<Result<_>>()?;
    let cold = build(stage, pushed, false)?;
    let mut rows = rows_of_image(bench, pushed, &warm, &cold);
    let times: Vec<f64> = warm.iter().map(|built| built.seconds).collect();
    let grown: Vec<u64> = warm.iter().map(|built| built.grown).collect();
    let mut raw = json!({
        "members": pushed.members.files, "tarBytes": pushed.size, "imageBytes": cold.image, "seconds": times,
        "secondsCold": cold.seconds, "grown": grown,
    });
    let mut tables = Vec::new();
    if let Some(why) = why_not {
        rows.push(Row::missing("publish of it from the cache, p99", PUBLISH, why));
    } else {
        let cached = bench.runtime.block_on(publish(stage, pushed))?;
        rows.extend(rows_of_publish(bench, &cached));
        let title = format!("Calls for the tar of {} files, one after the other", pushed.members.files);
        tables.push(Calls::table(&title, &[&cached.first, &cached.clone, &cached.small, &cached.bare]));
        raw["publishFirst"] = json!(cached.first.times);
        raw["publishClone"] = json!(cached.clone.times);
        raw["publishSmall"] = json!(cached.small.times);
        raw["bare"] = json!(cached.bare.times);
    }
    Ok(Section { rows, tables, raw, ..Section::default() })
}

fn build(stage: &Stage<'_>, pushed: &Pushed, warm: bool) -> Result<Built> {
    let bench = stage.bench;
    bench.say(format!("the image of {} files", pushed.members.files));
    stage.forget_views()?;
    let blob = stage.blob(pushed);
    if warm {
        disk::warm(&blob)?;
    } else {
        disk::sync(&blob)?;
        disk::forget(&blob)?;
    }
    let mut command = bench.this_program()?;
    command.arg("view").arg("--store").arg(stage.store());
    command.args(["--digest", pushed.digest.as_str(), "--size", &pushed.size.to_string()]);
    bench.measure(vec![command])?;
    let said: Value = serde_json::from_str(bench.said()?.trim()).context("the process printed no JSON")?;
    let number = |name: &str| said[name].as_u64().with_context(|| format!("the process did not say {name}"));
    Ok(Built {
        seconds: said["seconds"].as_f64().context("the process did not say how long it took")?,
        grown: number("grown")?,
        image: number("imageBytes")?,
    })
}

fn rows_of_image(bench: &Bench, pushed: &Pushed, warm: &[Built], cold: &Built) -> Vec<Row> {
    let full = bench.scale.is_full();
    let files = pushed.members.files;
    let times: Vec<f64> = warm.iter().map(|built| built.seconds).collect();
    let took = median(&times).unwrap_or_default();
    let grown = warm.iter().map(|built| built.grown).max().unwrap_or_default();
    let each = grown as f64 / files as f64;
    vec![
        Row::judged(
            format!("tar of {files} members: index, merge, image on the disk"),
            seconds(took),
            "<= 1 s",
            took <= 1.0,
        )
        .note(format!("median of {}, at most {}", times.len(), seconds(most(&times).unwrap_or_default())))
        .note(format!("with the tar on the disk and not in memory: {}", seconds(cold.seconds)))
        .note(format!("an image of {} for a tar of {}", bytes(cold.image), bytes(pushed.size)))
        .at_full_size(full),
        Row::judged(
            "memory for it",
            format!("{} ({} a member)", bytes(grown), about_bytes(each)),
            format!("<= {EACH} bytes a member + {}", bytes(BESIDES)),
            grown <= EACH * files + BESIDES,
        )
        .note(format!("by how much VmHWM grew while the view was built, the most of {}", warm.len()))
        .at_full_size(full),
    ]
}

async fn publish(stage: &Stage<'_>, pushed: &Pushed) -> Result<Cached> {
    let bench = stage.bench;
    let count = bench.runs(1000, 200) as usize;
    let bare = bare(bench, count)?;
    let node = stage.used_node().await?;
    // The view is there from here on, and nothing is mounted.
    let cold = node.request(&pushed.reference, false)?;
    node.publish(&cold).await?;
    check(&cold, pushed.members)?;
    node.unpublish(&cold).await?;
    let (first, _) = one_by_one(bench, &node, &pushed.reference, count, false).await?;
    let first = Calls { name: "publish, no other volume of the view", ..first };
    let other = node.request(&pushed.reference, false)?;
    node.publish(&other).await?;
    let (clone, _) = one_by_one(bench, &node, &pushed.reference, count, false).await?;
    let clone = Calls { name: "publish, a clone of another volume", ..clone };
    node.unpublish(&other).await?;
    let (small, _) = one_by_one(bench, &node, &stage.small(), count, false).await?;
    let small = Calls { name: "publish of a tar with one file", ..small };
    stage.end(node)?;
    Ok(Cached { first, clone, small, bare })
}

fn rows_of_publish(bench: &Bench, cached: &Cached) -> Vec<Row> {
    let full = bench.scale.is_full();
    let Cached { first, clone, small, bare } = cached;
    let slower = if first.at(99) > clone.at(99) { first } else { clone };
    let times = slower.at(50) / bare.at(50);
    vec![
        Row::judged(
            "publish of it from the cache, p99",
            seconds(slower.at(99)),
            PUBLISH,
            slower.at(99) <= 5e-3,
        )
        .note(format!("{}: {}", first.name, first.describe()))
        .note(format!("{}: {}", clone.name, clone.describe()))
        .note(format!("{}, no other volume of its view: {}", small.name, small.describe()))
        .at_full_size(full),
        Row::judged(
            "the same against a bare open_tree + move_mount, p50",
            format!("{times:.1} x ({} : {})", seconds(slower.at(50)), seconds(bare.at(50))),
            "<= 5 x",
            times <= 5.0,
        )
        .note(format!("{}: {:.1} x", clone.name, clone.at(50) / bare.at(50)))
        .note(format!("p99: {:.1} x", slower.at(99) / bare.at(99)))
        .at_full_size(full),
    ]
}
