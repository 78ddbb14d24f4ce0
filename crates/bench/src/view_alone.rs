//! The view of one tar, built by the store without the rest of Stowage, as a process to be measured.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use stowage_artifact::{Layout, Reference, SpecialPolicy, SymlinkPolicy, TarLayer, VolumeAttributes};
use stowage_store::{Store, ViewSpec};

use crate::cli::ViewWork;
use crate::engine_alone::store_options;
use crate::proc_status::{Memory, forget_own_peak};

/// Prints one JSON object: how long it took, and by how much it made the process grow.
pub(crate) fn run(work: &ViewWork) -> Result<()> {
    let store = Store::open(&work.store, store_options()).context("cannot open the store")?;
    let mut layout = Layout::builder();
    layout.tar(TarLayer {
        digest: work.digest.clone(),
        size: work.size,
        codec: None,
        plain: None,
        at: None,
        within: None,
        fallback: None,
        whiteouts: true,
        symlinks: SymlinkPolicy::Verbatim,
        specials: SpecialPolicy::Skip,
        origin: "the tar".to_owned(),
    })?;
    let reference: Reference = "bench.invalid/tar:v1".parse()?;
    let spec = ViewSpec::new(layout.finish()?, &VolumeAttributes::new(reference));

    let before = forget_own_peak().context("the memory of this process cannot be counted")?;
    let started = Instant::now();
    let view = store.build_view(&spec).context("cannot build the view")?;
    let seconds = started.elapsed().as_secs_f64();
    let peak = Memory::of(std::process::id()).context("this process has no memory")?.peak_rss;
    let image = view.image.context("the view has no image")?;
    let bytes = std::fs::metadata(&image.path).context("the image is not there")?.len();
    println!(
        "{}",
        json!({ "seconds": seconds, "grown": peak.saturating_sub(before), "imageBytes": bytes, "inodes": view.inodes })
    );
    Ok(())
}
