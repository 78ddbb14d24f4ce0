//! The way from bytes to a mounted image, with damaged tars, for as long as wanted.
//!
//! What must hold, whatever the bytes are: nothing panics; the index does not depend on how the bytes were cut, nor on whether the
//! data was passed over; an index that is written can be read, and put in a directory; every file of a tree lies within its tar; the same tree gives the same image; the kernel mounts the image
//! and shows what the tree has, bytes included, and says nothing about it in its log.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use stowage_artifact::RelativePath;
use stowage_erofs::{
    EntryKind, Layer, Rules, Selection, TarError, TarIndex, TarIndexer, Tree, merge, write_image,
};
use stowage_testkit::tools::Tool;

use super::chance::Chance;
use super::kernel_log::KernelLog;
use super::model::{self, What};
use super::mounted::Mounted;
use super::mutate::mutate;
use super::producers::Producer;

/// When to stop, and what to do on the way.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    /// However much time there is.
    pub(crate) most_runs: u64,
    /// Every so many images are mounted; none when it is 0. Needs root, and mounts of one's own.
    pub(crate) mount_every: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) runs: u64,
    pub(crate) tars: u64,
    pub(crate) readable_tars: u64,
    pub(crate) images: u64,
    pub(crate) mounted: u64,
    pub(crate) bytes_compared: u64,
}

/// Tars to start from: small trees, packed by whichever of the programs are there. Needs root, to give files away.
pub(crate) fn seeds(chance: &mut Chance, scratch: &Path) -> Result<Vec<Vec<u8>>> {
    let producers = Producer::GNU_TAR.iter().chain(&Producer::BSD_TAR).chain(&Producer::PYTHON);
    let is_there = |producer: &&Producer| Tool::find(producer.program()).is_ok();
    let mut seeds = Vec::new();
    for (number, producer) in producers.filter(is_there).enumerate() {
        for most in [4, 12, 40] {
            let directory = scratch.join(format!("seed-{number}-{most}"));
            std::fs::create_dir(&directory)?;
            let tree = model::random(chance, most, producer.bounds());
            model::put_on_disk(&tree, &directory)?;
            let tar = scratch.join("seed.tar");
            producer.pack(&directory, &tar)?;
            seeds.push(std::fs::read(&tar)?);
            std::fs::remove_dir_all(&directory)?;
        }
    }
    ensure!(!seeds.is_empty(), "none of tar, bsdtar and python3 is on this machine");
    Ok(seeds)
}

/// Runs until the plan is done. An error names the seed of its run, which gives the same run again.
pub(crate) fn fuzz(plan: &Plan, seeds: &[Vec<u8>], scratch: &Path) -> Result<Done> {
    let end = Instant::now() + plan.time;
    let mut log = if plan.mount_every > 0 { Some(KernelLog::from_now_on()?) } else { None };
    let mut done = Done::default();
    while done.runs < plan.most_runs && Instant::now() < end {
        let seed = plan.seed.wrapping_add(done.runs);
        done.runs += 1;
        run(seed, seeds, scratch, plan.mount_every, &mut done)
            .with_context(|| format!("the run with seed {seed} failed"))?;
        if let Some(log) = &mut log {
            let trouble = log.trouble()?;
            ensure!(trouble.is_empty(), "the kernel complains after seed {seed}: {trouble:#?}");
        }
    }
    Ok(done)
}

fn run(seed: u64, seeds: &[Vec<u8>], scratch: &Path, mount_every: u64, done: &mut Done) -> Result<()> {
    let mut chance = Chance::new(seed);
    let mut tars = Vec::new();
    for _ in 0..*chance.pick(&[1, 1, 1, 2, 3]) {
        let mut tar = chance.pick(seeds).clone();
        mutate(&mut chance, &mut tar, seeds);
        done.tars += 1;
        if let Some(index) = index(&mut chance, &tar)? {
            done.readable_tars += 1;
            tars.push((tar, index));
        }
    }
    if tars.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = (0..tars.len()).map(|number| format!("tar {number}")).collect();
    let tars_and_names = tars.iter().zip(&names);
    let layers: Vec<Layer<'_>> =
        tars_and_names.map(|((_, index), name)| Layer { name, blob: name, index }).collect();
    let keep = |path: &str| !path.contains('e');
    for rules in [Rules::Files, Rules::RootFilesystem] {
        let selection = Selection { keep: if chance.one_in(4) { Some(&keep) } else { None }, sub_path: None };
        let Ok(tree) = merge(&layers, rules, selection) else { continue };
        let image = image(&tree)?;
        let expected = expected(&tree, &tars)?;
        done.images += 1;
        if mount_every > 0 && done.images.is_multiple_of(mount_every) {
            mount_and_compare(&tree, &image, &tars, &expected, scratch)?;
            done.mounted += 1;
            let length =
                |item: &model::Item| if let What::File(bytes) = &item.what { bytes.len() } else { 0 };
            done.bytes_compared += expected.values().map(length).sum::<usize>() as u64;
        }
    }
    Ok(())
}

/// The index of a tar, however it is cut.
fn index(chance: &mut Chance, tar: &[u8]) -> Result<Option<TarIndex>> {
    let whole = index_in_pieces(tar, || usize::MAX);
    let cut = index_in_pieces(tar, || 1 + chance.below(1500));
    ensure!(whole == cut, "cut into pieces it is {cut:?}, and at once {whole:?}");
    let sought = index_by_seeking(tar, 1 + chance.below(1500));
    ensure!(whole == sought, "by its headers it is {sought:?}, and read whole {whole:?}");
    let Ok(index) = whole else { return Ok(None) };
    let placed = index.beneath(&RelativePath::parse("in/here")?, Rules::Files);
    ensure!(placed.is_ok_and(|placed| placed.len() == index.len()), "members were lost in a directory");
    let mut encoded = Vec::new();
    index.encode(&mut encoded)?;
    ensure!(TarIndex::decode(&encoded).as_ref() == Ok(&index), "the index is read back as another");
    // Damage with a right checksum: any answer will do, but there must be one.
    let at = chance.below(encoded.len() - 4);
    encoded[at] = chance.next() as u8;
    let end = encoded.len() - 4;
    let checksum = crc32c::crc32c(&encoded[..end]);
    encoded[end..].copy_from_slice(&checksum.to_le_bytes());
    let _ = TarIndex::decode(&encoded);
    Ok(Some(index))
}

/// Indexes a tar as `store` does: by pieces of this length, and nothing of what may be passed over.
fn index_by_seeking(tar: &[u8], piece: usize) -> Result<TarIndex, TarError> {
    let (mut indexer, mut rest) = (TarIndexer::new(), tar);
    while !rest.is_empty() {
        let passed = rest.len().min(usize::try_from(indexer.skippable()).unwrap_or(usize::MAX));
        indexer.skip(passed as u64);
        rest = &rest[passed..];
        let (bytes, behind) = rest.split_at(piece.min(rest.len()));
        indexer.push(bytes)?;
        rest = behind;
    }
    indexer.finish()
}

/// Indexes a tar cut into pieces of these lengths.
pub(crate) fn index_in_pieces(tar: &[u8], mut length: impl FnMut() -> usize) -> Result<TarIndex, TarError> {
    let mut indexer = TarIndexer::new();
    let mut rest = tar;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(length().min(rest.len()));
        indexer.push(piece)?;
        rest = behind;
    }
    indexer.finish()
}

/// The image of a tree, which is the same each time.
pub(crate) fn image(tree: &Tree<'_>) -> Result<Vec<u8>> {
    let (mut image, mut again) = (Vec::new(), Vec::new());
    let info = write_image(tree, &mut image)?;
    write_image(tree, &mut again)?;
    ensure!(image == again, "the same tree gives two images");
    ensure!(info.bytes == image.len() as u64, "{info:?} for {} bytes", image.len());
    Ok(image)
}

/// What a mount must show of a tree. Every name of a file has its bytes here.
fn expected(tree: &Tree<'_>, tars: &[(Vec<u8>, TarIndex)]) -> Result<model::Tree> {
    let blob = |device: usize| {
        let name = tree.devices()[device].blob;
        let number: usize = name.trim_start_matches("tar ").parse()?;
        anyhow::Ok(&tars[number].0)
    };
    let mut items = model::Tree::new();
    for (path, entry) in tree.entries() {
        let what = match entry.kind {
            EntryKind::Directory { .. } => What::Directory,
            EntryKind::Symlink { target } => What::Symlink(target.to_vec()),
            EntryKind::File { device: None, size: 0, .. } => What::File(Vec::new()),
            EntryKind::File { device: None, .. } => bail!("a file with bytes has no device"),
            EntryKind::File { device: Some(device), offset, size } => {
                let bytes = blob(device)?.get(offset as usize..(offset + size) as usize);
                What::File(bytes.context("a file lies beyond its tar")?.to_vec())
            }
        };
        let item = model::Item {
            what,
            mode: entry.mode.into(),
            owner: (entry.uid, entry.gid),
            mtime: (entry.mtime.seconds, entry.mtime.nanos.into()),
            links: entry.links.into(),
        };
        items.insert(path, item);
    }
    Ok(items)
}

fn mount_and_compare(
    tree: &Tree<'_>,
    image: &[u8],
    tars: &[(Vec<u8>, TarIndex)],
    expected: &model::Tree,
    scratch: &Path,
) -> Result<()> {
    let (image_path, target) = (scratch.join("image.erofs"), scratch.join("mounted"));
    std::fs::create_dir_all(&target)?;
    std::fs::write(&image_path, image)?;
    let mut blobs = Vec::new();
    for device in tree.devices() {
        let number: usize = device.blob.trim_start_matches("tar ").parse()?;
        let path = scratch.join(format!("{number}.tar"));
        std::fs::write(&path, &tars[number].0)?;
        blobs.push(path);
    }
    let blobs: Vec<&Path> = blobs.iter().map(AsRef::as_ref).collect();
    let found = {
        let _mounted = Mounted::files(&image_path, &blobs, &target)?;
        model::read_back(&target)?
    };
    let found: model::Tree =
        found.iter().map(|(path, item)| (path.clone(), resolved(&found, item))).collect();
    let mut expected = expected.clone();
    // The root has no entry of its own in a tree, and no user has the highest number.
    expected.insert(Vec::new(), found[&b""[..]].clone());
    for item in expected.values_mut() {
        let shown = |id: u32| if id == u32::MAX { 65534 } else { id };
        item.owner = (shown(item.owner.0), shown(item.owner.1));
    }
    let differences = model::differences(&expected, &found);
    ensure!(differences.is_empty(), "the mount shows something else: {differences:#?}");
    Ok(())
}

fn resolved(tree: &model::Tree, item: &model::Item) -> model::Item {
    match &item.what {
        What::Link(first) => tree[first].clone(),
        _ => item.clone(),
    }
}
