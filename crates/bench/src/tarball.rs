//! Tars that are written straight to the disk, member by member, however large they get.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use stowage_testkit::Generated;

const BLOCK: u64 = 512;
/// Files of one directory.
const BESIDE: u64 = 100;
/// Content that is made at once.
const CHUNK: u64 = 256 << 10;

/// What a tar holds: so many files of so many pseudo-random bytes each, a hundred to a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Members {
    /// How many files.
    pub(crate) files: u64,
    /// Bytes of each.
    pub(crate) bytes: u64,
}

impl Members {
    /// Where a file is.
    pub(crate) fn path(number: u64) -> String {
        format!("{}tensor-{number:07}.bin", directory(number))
    }

    /// Bytes of all files.
    pub(crate) fn data(self) -> u64 {
        self.files * self.bytes
    }

    /// Writes the tar; another seed gives other bytes.
    pub(crate) fn write(self, path: &Path, seed: u64) -> Result<()> {
        self.try_write(path, seed).with_context(|| format!("cannot write {}", path.display()))
    }

    fn try_write(self, path: &Path, seed: u64) -> std::io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let content = Generated::new(seed, self.data());
        for number in 0..self.files {
            if number.is_multiple_of(BESIDE) {
                out.write_all(&header(&directory(number), b'5', 0o755, 0))?;
            }
            out.write_all(&header(&Self::path(number), b'0', 0o644, self.bytes))?;
            let (mut at, end) = (number * self.bytes, (number + 1) * self.bytes);
            while at < end {
                let chunk = content.read_at(at, CHUNK.min(end - at));
                out.write_all(&chunk)?;
                at += chunk.len() as u64;
            }
            pad(&mut out, self.bytes.next_multiple_of(BLOCK) - self.bytes)?;
        }
        pad(&mut out, 2 * BLOCK)?;
        out.into_inner()?.sync_all()
    }
}

fn directory(number: u64) -> String {
    format!("part-{:04}/", number / BESIDE)
}

fn pad(out: &mut impl Write, bytes: u64) -> std::io::Result<()> {
    out.write_all(&[0; 2 * BLOCK as usize][..bytes as usize])
}

/// A header in ustar's format.
fn header(name: &str, kind: u8, mode: u32, bytes: u64) -> [u8; BLOCK as usize] {
    let mut header = [0; BLOCK as usize];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{bytes:011o}"));
    put(136, "14553075431");
    put(148, "        ");
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use stowage_erofs::{MemberKind, TarIndexer};

    use super::*;

    #[test]
    fn every_member_is_found_where_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tar");
        let members = Members { files: 2 * BESIDE + 1, bytes: 700 };
        members.write(&path, 3).unwrap();
        let tar = std::fs::read(path).unwrap();
        let mut indexer = TarIndexer::new();
        indexer.push(&tar).unwrap();
        let index = indexer.finish().unwrap();
        let of_kind = |kind| index.members().filter(move |member| member.kind == kind);
        assert_eq!(of_kind(MemberKind::Directory).count(), 3);
        let files: Vec<_> = of_kind(MemberKind::File).collect();
        assert_eq!(files.len() as u64, members.files);
        let content = Generated::new(3, members.data());
        for (number, file) in (0..).zip(files) {
            assert_eq!(file.path, Members::path(number).as_bytes());
            let data = &tar[file.offset as usize..][..file.size as usize];
            assert_eq!(data, content.read_at(number * 700, 700));
        }
    }
}
