//! Tars as volumes: from the bytes to the files, the image of many members, and how fast the files are read.

mod image;
mod mountable;
mod reading;
mod stage;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::bench::Bench;
use crate::disk;
use crate::figures::{Row, Section};
use crate::quantity::{MIB, bytes};
use crate::tarball::Members;

use stage::Stage;

/// What the tars hold.
struct Sizes {
    /// As many as a checkpoint or a data set has.
    files: Members,
    /// One that is read for long.
    large: Members,
    /// So many that only their number counts.
    many: Members,
}

impl Sizes {
    fn of(bench: &Bench) -> Self {
        let files = bench.scale.pick(10_000, 1_000, 20);
        let large = bench.scale.pick(512 * MIB, 64 * MIB, MIB);
        let many = bench.scale.pick(100_000, 10_000, 200);
        Self {
            files: Members { files, bytes: 100_000 },
            large: Members { files: 1, bytes: large },
            many: Members { files: many, bytes: 100 },
        }
    }

    /// Bytes that are on the disk at the same time: the tars of the registry, those of the store, and one unpacked.
    fn room(&self) -> u64 {
        let many = self.many.files * 1024;
        3 * (self.files.data() + self.large.data() + many) + 256 * MIB
    }
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let sizes = Sizes::of(bench);
    let (room, free) = (sizes.room(), disk::free(&bench.dir(""))?);
    if free < room {
        bail!("the tars need {} on the disk, and {} are free", bytes(room), bytes(free));
    }
    let stage = Stage::set(bench)?;
    let why_not = bench.runtime.block_on(stage.why_no_volumes())?;
    let mut section = Section { raw: Value::Object(serde_json::Map::new()), ..Section::default() };

    let files = stage.push("files", sizes.files)?;
    match &why_not {
        None => add(&mut section, "mountable", mountable::measure(&stage, &files)?),
        Some(why) => section.rows.extend(mountable::missing(sizes.files, why)),
    }
    let many = stage.push("many", sizes.many)?;
    add(&mut section, "image", image::measure(&stage, &many, why_not.as_deref())?);
    many.remove()?;
    let large = stage.push("large", sizes.large)?;
    match &why_not {
        None => add(&mut section, "reading", reading::measure(&stage, &[&files, &large])?),
        Some(why) => section.rows.push(Row::missing("reading the files of a tar", "", why)),
    }
    stage.strike(vec![files, large])?;
    Ok(section)
}

/// Takes the figures of one part in.
fn add(section: &mut Section, name: &str, part: Section) {
    section.rows.extend(part.rows);
    section.tables.extend(part.tables);
    section.charts.extend(part.charts);
    section.raw[name] = part.raw;
}
