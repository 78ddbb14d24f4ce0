//! Reading the files of a tar in order: from its volume, and unpacked on the same disk.

mod files;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use stowage_sys::{ErofsBacking, ErofsOptions, Mounter, TargetRoot};

use super::stage::{Pushed, Stage, check};
use crate::cli::Scale;
use crate::disk;
use crate::figures::{Row, Section, Table};
use crate::quantity::{bytes, rate};
use crate::statistics::{median, median_ratio};
use crate::svg::{Bar, Bars, Chart};

/// The read-ahead that volumes get, in KiB.
const CHOSEN: u32 = 1024;
/// Others, to see what it is worth.
const AHEAD: &[u32] = &[128, CHOSEN, 16 * 1024];
const NATIVE: &str = "unpacked";
const VOLUME: &str = "volume";

/// The files of one tar at one place.
struct Place {
    name: String,
    root: PathBuf,
    /// Seconds for all files, from the disk.
    cold: Vec<f64>,
    /// And from memory.
    warm: Vec<f64>,
    /// Why there is nothing.
    failed: Option<String>,
}

impl Place {
    fn new(name: impl Into<String>, root: PathBuf) -> Self {
        Self { name: name.into(), root, cold: Vec::new(), warm: Vec::new(), failed: None }
    }
}

/// One tar, read everywhere.
struct Read {
    what: String,
    bytes: u64,
    places: Vec<Place>,
    /// How the volume is mounted.
    options: String,
    /// How memory was emptied.
    emptied: &'static str,
}

pub(super) fn measure(stage: &Stage<'_>, all: &[&Pushed]) -> Result<Section> {
    let mut section = Section::default();
    let (mut raw, mut bars) = (Vec::new(), Vec::new());
    for pushed in all {
        let read = stage.bench.runtime.block_on(read(stage, pushed))?;
        section.rows.extend(rows(&read));
        section.tables.push(table(&read));
        raw.push(json(&read));
        bars.extend(bars_of(&read));
    }
    section.raw = Value::Array(raw);
    let chart = Bars {
        title: "Reading the files of a tar in order".to_owned(),
        subtitle: "one thread, 1 MiB at a time".to_owned(),
        axis: "MB/s, more is better".to_owned(),
        each: bars,
        ..Bars::default()
    };
    section.charts.push(("tar-reading", Chart::Bars(chart)));
    Ok(section)
}

async fn read(stage: &Stage<'_>, pushed: &Pushed) -> Result<Read> {
    let bench = stage.bench;
    let unpacked = bench.dir(NATIVE);
    disk::fresh(&unpacked)?;
    let mut tar = bench.program("tar").map_err(anyhow::Error::msg)?;
    tar.arg("-xf").arg(&pushed.path).arg("-C").arg(&unpacked);
    bench.measure(vec![tar])?;
    disk::sync(&unpacked)?;

    stage.bring(pushed).await?;
    let node = stage.node().await?;
    let request = node.request(&pushed.reference, false)?;
    node.publish(&request).await?;
    check(&request, pushed.members)?;
    let mut places = vec![Place::new(NATIVE, unpacked.clone()), Place::new(VOLUME, request.target.clone())];
    places.extend(others(stage, pushed)?);
    let options = options_of(&request.target)?;

    let rounds = bench.runs(5, 2);
    // A tiny run is a test, which leaves the rest of the machine alone.
    let with_all = bench.scale != Scale::Tiny;
    let mut emptied = "";
    for round in 0..rounds {
        bench.say(format!("reading {} files, round {} of {rounds}", pushed.members.files, round + 1));
        // What is not on the disk yet would stay in memory.
        disk::sync(&stage.store())?;
        // Forwards and backwards in turn: what comes first is first on a disk at rest.
        places.reverse();
        for place in places.iter_mut().filter(|place| place.failed.is_none()) {
            emptied = files::empty_memory(&[&place.root, &stage.blob(pushed)], with_all)?;
            for times in [&mut place.cold, &mut place.warm] {
                let (read, seconds) = files::read_all(&place.root)?;
                if read != pushed.members.data() {
                    bail!("{} has {read} bytes of files, not {}", place.name, pushed.members.data());
                }
                times.push(seconds);
            }
        }
    }
    if rounds % 2 == 1 {
        places.reverse();
    }
    for place in &places[2..] {
        if place.failed.is_none() {
            stowage_sys::unmount(&place.root).context("cannot unmount an image")?;
        }
    }
    node.unpublish(&request).await?;
    stage.end(node)?;
    disk::remove(&unpacked)?;
    disk::remove(&bench.short_dir("images"))?;
    let what = match pushed.members.files {
        1 => format!("one file of {}", bytes(pushed.members.bytes)),
        files => format!("{files} files of {}", bytes(pushed.members.bytes)),
    };
    Ok(Read { what, bytes: pushed.members.data(), places, options, emptied })
}

/// The image of the only view, mounted in all the ways that there are.
fn others(stage: &Stage<'_>, pushed: &Pushed) -> Result<Vec<Place>> {
    let views = stage.views()?;
    let [view] = views.as_slice() else { bail!("there are {} views and not one", views.len()) };
    let image = view.join("image.erofs");
    let directory = stage.bench.short_dir("images");
    disk::fresh(&directory)?;
    let root = TargetRoot::open(&directory)?;
    let ahead = stage.bench.scale.pick(AHEAD, &[CHOSEN], &[CHOSEN]);
    let mut places = Vec::new();
    for direct_io in [false, true] {
        for &ahead in ahead {
            let way = if direct_io { "direct I/O" } else { "buffered" };
            let name = format!("{way}, read-ahead of {ahead} KiB");
            let target = directory.join(format!("{direct_io}-{ahead}"));
            let options = ErofsOptions {
                direct_io,
                read_ahead_kib: Some(ahead),
                ..ErofsOptions::new(ErofsBacking::File)
            };
            let mounted = Mounter::default()
                .erofs(&image, &[stage.blob(pushed)], &options)
                .map_err(anyhow::Error::from)
                .and_then(|mount| Ok(mount.attach(&root.prepare(&target)?)?));
            let failed = match mounted {
                Err(why) => Some(format!("{why:#}")),
                Ok(_) if direct_io && !options_of(&target)?.contains("direct") => {
                    stowage_sys::unmount(&target).context("cannot unmount an image")?;
                    Some("this kernel or this disk takes no direct I/O".to_owned())
                }
                Ok(_) => None,
            };
            places.push(Place { failed, ..Place::new(name, target) });
        }
    }
    Ok(places)
}

/// How a volume is mounted, in a few words.
fn options_of(target: &Path) -> Result<String> {
    let table = stowage_sys::mount_table().context("cannot read the mount table")?;
    let mount = table.iter().rfind(|mount| mount.mount_point == target).context("nothing is mounted")?;
    let options = mount.superblock_options.to_string_lossy().into_owned();
    let direct = options.split(',').any(|option| option == "directio");
    Ok(format!("{}, {}", mount.fs_type, if direct { "direct I/O" } else { "buffered" }))
}

fn rows(read: &Read) -> Vec<Row> {
    let [native, volume] = &read.places[..2] else { return Vec::new() };
    [("from the disk", &volume.cold, &native.cold), ("from memory", &volume.warm, &native.warm)]
        .map(|(how, ours, theirs)| {
            let times = median_ratio(theirs, ours).unwrap_or_default();
            let [mine, other] =
                [ours, theirs].map(|times| rate(read.bytes, median(times).unwrap_or_default()));
            let row = Row::shown(
                format!("reading {} {how}, against the same unpacked", read.what),
                format!("{times:.2} x ({mine} : {other})"),
            );
            if how == "from memory" {
                row
            } else {
                row.note(format!("{}, read-ahead of {CHOSEN} KiB", read.options))
                    .note(format!("memory was emptied by {}", read.emptied))
            }
        })
        .into()
}

fn table(read: &Read) -> Table {
    let title = format!("Reading {} in order: medians", read.what);
    let mut table = Table::new(title, &["", "runs", "from the disk", "from memory"]);
    for place in &read.places {
        if let Some(why) = &place.failed {
            table.failed(&place.name, why);
        } else {
            let [cold, warm] =
                [&place.cold, &place.warm].map(|times| rate(read.bytes, median(times).unwrap_or_default()));
            table.line([place.name.clone(), place.cold.len().to_string(), cold, warm]);
        }
    }
    table
}

fn json(read: &Read) -> Value {
    let place = |place: &Place| json!({ "name": place.name, "cold": place.cold, "warm": place.warm, "failed": place.failed });
    let places: Vec<Value> = read.places.iter().map(place).collect();
    json!({ "what": read.what, "bytes": read.bytes, "volume": read.options, "places": places })
}

fn bars_of(read: &Read) -> Vec<Bar> {
    let bar = |place: &Place, how: &str, times: &[f64]| {
        let took = median(times).unwrap_or_default();
        Bar {
            label: format!("{}: {}, {how}", read.what, place.name),
            values: vec![crate::quantity::megabytes_per_second(read.bytes, took)],
            text: rate(read.bytes, took),
            ours: place.name == VOLUME,
        }
    };
    let places = read.places.iter().take(2);
    places.flat_map(|place| [bar(place, "disk", &place.cold), bar(place, "memory", &place.warm)]).collect()
}
