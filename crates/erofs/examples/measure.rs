//! Measures reading a tar and writing its image, in a release build.
//!
//! `cargo run --release -p stowage-erofs --example measure -- members 100000` makes so many small members;
//! `… -- data 10000 100000` makes so many members of so many bytes.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stowage_erofs::{Layer, Rules, Selection, TarIndex, TarIndexer, merge, write_image};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize| -> Result<usize> { Ok(arguments.get(at).context("a number is missing")?.parse()?) };
    match arguments.first().map(String::as_str) {
        Some("members") => measure(number(1)?, 100),
        Some("data") => measure(number(1)?, number(2)?),
        _ => bail!("say `members COUNT` or `data COUNT BYTES`"),
    }
}

/// One member: its header, its data and the padding.
fn member(number: usize, bytes: usize) -> Vec<u8> {
    let mut member = vec![0; 512 + bytes.next_multiple_of(512)];
    let name = format!("models/llama-3-70b/part-{:03}/tensor-{number:07}.bin", number / 1000);
    member[..name.len()].copy_from_slice(name.as_bytes());
    member[100..108].copy_from_slice(b"0000644\0");
    member[124..136].copy_from_slice(format!("{bytes:011o}\0").as_bytes());
    member[136..148].copy_from_slice(format!("{:011o}\0", 1_700_000_000 + number).as_bytes());
    member[148..156].fill(b' ');
    member[156] = b'0';
    member[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = member[..512].iter().map(|byte| u32::from(*byte)).sum();
    member[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    member[512..512 + bytes].fill(7);
    member
}

#[expect(clippy::print_stdout, reason = "a program that people run by hand")]
fn measure(count: usize, bytes: usize) -> Result<()> {
    let before = peak_kib()?;
    let index = read(count, bytes)?;
    let indexed = peak_kib()?;

    let layers = [Layer { name: "tar", blob: "tar", index: &index }];
    let begin = Instant::now();
    let tree = merge(&layers, Rules::Files, Selection::default())?;
    let merging = begin.elapsed();
    let path = std::env::temp_dir().join(format!("measure-{}.erofs", std::process::id()));
    let begin = Instant::now();
    let info = write_image(&tree, File::create(&path)?)?;
    let writing = begin.elapsed();
    std::fs::remove_file(&path)?;
    println!(
        "merge {merging:?}, image of {} bytes {writing:?}, together {:?}",
        info.bytes,
        merging + writing
    );
    let peak = peak_kib()?;
    let each = |kib: u64| kib as f64 * 1024.0 / count as f64;
    println!(
        "memory: {:.0} bytes a member for the index, {:.0} at the peak ({peak} KiB, {before} before)",
        each(indexed - before),
        each(peak - before),
    );

    let begin = Instant::now();
    let mut encoded = Vec::new();
    index.encode(&mut encoded)?;
    let each = encoded.len() as f64 / count as f64;
    println!("encode: {} bytes ({each:.1} a member) in {:?}", encoded.len(), begin.elapsed());
    let begin = Instant::now();
    drop(TarIndex::decode(&encoded)?);
    println!("decode: {:?}", begin.elapsed());
    Ok(())
}

/// The index of a tar that is made on the way; only the reading is timed.
#[expect(clippy::print_stdout, reason = "a program that people run by hand")]
fn read(count: usize, bytes: usize) -> Result<TarIndex> {
    let mut indexer = TarIndexer::new();
    let mut reading = Duration::ZERO;
    let mut total = 0;
    let mut gathered = Vec::with_capacity(1 << 21);
    let mut push = |gathered: &mut Vec<u8>| -> Result<()> {
        let begin = Instant::now();
        indexer.push(gathered)?;
        reading += begin.elapsed();
        total += gathered.len();
        gathered.clear();
        Ok(())
    };
    for number in 0..count {
        gathered.extend_from_slice(&member(number, bytes));
        if gathered.len() >= 1 << 20 {
            push(&mut gathered)?;
        }
    }
    gathered.extend_from_slice(&[0; 1024]);
    push(&mut gathered)?;
    let index = indexer.finish()?;
    let seconds = reading.as_secs_f64();
    let rate = total as f64 / 1e6 / seconds;
    println!("index: {count} members, {} MB in {seconds:.3} s: {rate:.0} MB/s", total / 1_000_000);
    Ok(index)
}

/// The most memory that this process has had.
fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
