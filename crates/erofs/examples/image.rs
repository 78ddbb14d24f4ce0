//! Makes the image of tars by hand: the first is the lowest layer.
//!
//! `cargo run -p stowage-erofs --example image -- out.erofs base.tar top.tar`, and then
//! `fsck.erofs --device=base.tar --device=top.tar out.erofs`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use stowage_erofs::{Layer, Rules, Selection, TarIndex, TarIndexer, merge, write_image};

/// Makes an EROFS image that points into tars.
#[derive(Parser)]
struct Arguments {
    /// Where the image goes.
    image: PathBuf,
    /// The tars, lowest first.
    tars: Vec<PathBuf>,
    /// Take the tars as layers of a container image: whiteouts count, later members win.
    #[arg(long)]
    root_filesystem: bool,
}

#[expect(clippy::print_stdout, reason = "a program that people run by hand")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let names: Vec<String> = arguments.tars.iter().map(|tar| tar.display().to_string()).collect();
    let indexes = arguments.tars.iter().map(|tar| index(tar)).collect::<Result<Vec<_>>>()?;
    let layers: Vec<Layer<'_>> =
        indexes.iter().zip(&names).map(|(index, name)| Layer { name, blob: name, index }).collect();
    let rules = if arguments.root_filesystem { Rules::RootFilesystem } else { Rules::Files };
    let tree = merge(&layers, rules, Selection::default())?;
    let info = write_image(&tree, File::create(&arguments.image)?)?;
    println!("{} inodes, {} bytes of metadata for {} bytes of files", info.inodes, info.bytes, tree.bytes());
    for (number, device) in tree.devices().iter().enumerate() {
        println!("device {}: {} ({} blocks)", number + 1, device.blob, device.blocks);
    }
    for skipped in tree.skipped() {
        println!("left out: {} ({:?})", String::from_utf8_lossy(&skipped.path), skipped.kind);
    }
    Ok(())
}

fn index(path: &Path) -> Result<TarIndex> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut indexer = TarIndexer::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return indexer.finish().with_context(|| path.display().to_string()),
            bytes => indexer.push(&buffer[..bytes]).with_context(|| path.display().to_string())?,
        }
    }
}
