//! The journal of a download: which bytes have arrived, and which of them a power cut cannot take.
//!
//! A header `{magic, version, size, boot id, digest, crc32c}` is followed by records of 24 bytes `{offset,
//! length, kind, crc32c}`, little-endian. The checksum of a record is seeded with that of the header, so that a
//! block of another journal is never taken for a record of this one. Reading ends at the first record that is
//! not whole: a torn tail.

use std::ops::Range;

use stowage_artifact::digest::Digest;

use super::ranges::RangeSet;
use crate::io::{Dir, IoError, IoFile};
use crate::names;

const MAGIC: &[u8; 4] = b"STWJ";
const VERSION: u16 = 1;
const RECORD_BYTES: usize = 24;
/// Magic, version, length of the boot id, length of the digest, size.
const FIXED_BYTES: usize = 4 + 2 + 1 + 1 + 8;
/// A journal is never read beyond this; 2 million records are a blob of 2 TiB in steps of 1 MiB.
const MAX_BYTES: u64 = 64 << 20;

/// What a record says about its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// Written; lost with the machine, not with the process.
    Arrived = 1,
    /// Written and synced.
    Durable = 2,
}

/// The journal of one ingest, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    file: std::sync::Arc<IoFile>,
    seed: u32,
    end: u64,
}

/// What a journal says after a restart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Bytes that may be trusted as far as the journal knows.
    pub(crate) ranges: RangeSet,
    /// Whether it was written under the boot that still runs.
    pub(crate) same_boot: bool,
}

impl Journal {
    /// Writes a new journal in place of an older one. `durable` are bytes that are synced already.
    pub(crate) fn start(
        dir: &Dir,
        digest: &Digest,
        size: u64,
        boot_id: &str,
        durable: &RangeSet,
    ) -> Result<Self, IoError> {
        let mut bytes = header(digest, size, boot_id);
        let seed = crc32c::crc32c(&bytes);
        for range in durable.iter() {
            bytes.extend(record(seed, &range, RecordKind::Durable));
        }
        let temporary = dir.io().temporary(names::JOURNAL);
        let write = || {
            let file = dir.create("journal.create", &temporary)?;
            file.write_at("journal.write", 0, &bytes)?;
            if !durable.is_empty() {
                file.sync("journal.sync")?;
            }
            dir.rename("journal.rename", &temporary, dir, names::JOURNAL)?;
            Ok(file)
        };
        let file = write().inspect_err(|_: &IoError| {
            let _ = dir.unlink("journal.abandon", &temporary);
        })?;
        Ok(Self { file: std::sync::Arc::new(file), seed, end: bytes.len() as u64 })
    }

    /// Appends one record for each range; nothing is synced.
    pub(crate) fn append(
        &mut self,
        ranges: impl IntoIterator<Item = Range<u64>>,
        kind: RecordKind,
    ) -> Result<(), IoError> {
        let bytes: Vec<u8> = ranges.into_iter().flat_map(|range| record(self.seed, &range, kind)).collect();
        if !bytes.is_empty() {
            self.file.write_at("journal.append", self.end, &bytes)?;
            self.end += bytes.len() as u64;
        }
        Ok(())
    }

    /// The file, to be synced without holding a lock on the journal.
    pub(crate) fn file(&self) -> std::sync::Arc<IoFile> {
        std::sync::Arc::clone(&self.file)
    }
}

/// Reads the journal of `digest` in `dir`; `None` where it is missing or not one.
pub(crate) fn recover(
    dir: &Dir,
    digest: &Digest,
    size: u64,
    boot_id: &str,
) -> Result<Option<Recovered>, IoError> {
    let file = match dir.open_read("journal.open", names::JOURNAL) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let mut bytes = vec![0; file.length()?.min(MAX_BYTES) as usize];
    file.read_at("journal.read", 0, &mut bytes)?;
    Ok(parse(&bytes, digest, size, boot_id))
}

fn header(digest: &Digest, size: u64, boot_id: &str) -> Vec<u8> {
    let boot_id = &boot_id.as_bytes()[..boot_id.len().min(255)];
    let mut bytes = Vec::with_capacity(FIXED_BYTES + boot_id.len() + digest.as_str().len() + 4);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.push(boot_id.len() as u8);
    bytes.push(digest.as_str().len() as u8);
    bytes.extend(size.to_le_bytes());
    bytes.extend(boot_id);
    bytes.extend(digest.as_str().as_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn record(seed: u32, range: &Range<u64>, kind: RecordKind) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&range.start.to_le_bytes());
    bytes[8..16].copy_from_slice(&(range.end - range.start).to_le_bytes());
    bytes[16] = kind as u8;
    let crc = crc32c::crc32c_append(seed, &bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads as much as is whole. Of another boot only what was synced counts.
pub(crate) fn parse(bytes: &[u8], digest: &Digest, size: u64, boot_id: &str) -> Option<Recovered> {
    let fixed = bytes.get(..FIXED_BYTES)?;
    let (boot_length, digest_length) = (usize::from(fixed[6]), usize::from(fixed[7]));
    let header_length = FIXED_BYTES + boot_length + digest_length;
    let whole = bytes.get(..header_length + 4)?;
    let (head, crc) = whole.split_at(header_length);
    let found_boot = &head[FIXED_BYTES..FIXED_BYTES + boot_length];
    let ours = &fixed[..4] == MAGIC
        && fixed[4..6] == VERSION.to_le_bytes()
        && fixed[8..16] == size.to_le_bytes()
        && &head[FIXED_BYTES + boot_length..] == digest.as_str().as_bytes()
        && crc == crc32c::crc32c(head).to_le_bytes();
    if !ours {
        return None;
    }
    let same_boot = found_boot == boot_id.as_bytes();
    let seed = crc32c::crc32c(whole);
    let mut ranges = RangeSet::default();
    for chunk in bytes[whole.len()..].chunks_exact(RECORD_BYTES) {
        let Some((range, kind)) = parse_record(seed, chunk, size) else { break };
        if same_boot || kind == RecordKind::Durable {
            ranges.insert(range);
        }
    }
    Some(Recovered { ranges, same_boot })
}

fn parse_record(seed: u32, chunk: &[u8], size: u64) -> Option<(Range<u64>, RecordKind)> {
    let number = |at: usize| chunk.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let (start, length) = (number(0)?, number(8)?);
    let kind = match chunk.get(16)? {
        1 => RecordKind::Arrived,
        2 => RecordKind::Durable,
        _ => return None,
    };
    if chunk.get(20..24)? != crc32c::crc32c_append(seed, chunk.get(..20)?).to_le_bytes() {
        return None;
    }
    let end = start.checked_add(length).filter(|&end| end <= size)?;
    Some((start..end, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stowage_artifact::digest::Algorithm;

    const SIZE: u64 = 1 << 30;
    const BOOT: &str = "6d1f0f6e-0000-4000-8000-000000000001";

    fn digest() -> Digest {
        Digest::of(Algorithm::Sha256, b"journal")
    }

    fn journal(records: &[(Range<u64>, RecordKind)]) -> Vec<u8> {
        let mut bytes = header(&digest(), SIZE, BOOT);
        let seed = crc32c::crc32c(&bytes);
        bytes.extend(records.iter().flat_map(|(range, kind)| record(seed, range, *kind)));
        bytes
    }

    fn ranges(recovered: &Recovered) -> Vec<Range<u64>> {
        recovered.ranges.iter().collect()
    }

    #[test]
    fn another_boot_trusts_only_what_was_synced() {
        let bytes = journal(&[
            (0..100, RecordKind::Durable),
            (100..300, RecordKind::Arrived),
            (500..600, RecordKind::Durable),
        ]);
        let same = parse(&bytes, &digest(), SIZE, BOOT).unwrap();
        assert!(same.same_boot);
        assert_eq!(ranges(&same), [0..300, 500..600]);
        let other = parse(&bytes, &digest(), SIZE, "another").unwrap();
        assert!(!other.same_boot);
        assert_eq!(ranges(&other), [0..100, 500..600]);
    }

    #[test]
    fn a_journal_of_something_else_is_none() {
        let bytes = journal(&[(0..100, RecordKind::Durable)]);
        assert_eq!(parse(&bytes, &Digest::of(Algorithm::Sha256, b"other"), SIZE, BOOT), None);
        assert_eq!(parse(&bytes, &digest(), SIZE + 1, BOOT), None);
        assert_eq!(parse(&[], &digest(), SIZE, BOOT), None);
        let beyond = journal(&[(SIZE - 1..SIZE + 1, RecordKind::Durable)]);
        assert_eq!(ranges(&parse(&beyond, &digest(), SIZE, BOOT).unwrap()), []);
    }

    proptest! {
        #[test]
        fn a_torn_tail_is_cut(cut in 0_usize..400) {
            let records: Vec<_> = (0..10_u64).map(|i| (i * 20..i * 20 + 10, RecordKind::Arrived)).collect();
            let bytes = journal(&records);
            let cut = cut.min(bytes.len());
            let head = journal(&[]).len();
            let found = parse(&bytes[..cut], &digest(), SIZE, BOOT);
            if cut < head {
                prop_assert_eq!(found, None);
            } else {
                let whole = (cut - head) / RECORD_BYTES;
                let expected: Vec<_> = records[..whole].iter().map(|(range, _)| range.clone()).collect();
                prop_assert_eq!(ranges(&found.unwrap()), expected);
            }
        }

        #[test]
        fn a_flipped_bit_ends_the_journal_before_it(byte in 0_usize..300, bit in 0_u32..8) {
            let records: Vec<_> = (0..8_u64).map(|i| (i * 20..i * 20 + 10, RecordKind::Durable)).collect();
            let mut bytes = journal(&records);
            let head = journal(&[]).len();
            let byte = byte % bytes.len();
            bytes[byte] ^= 1 << bit;
            let found = parse(&bytes, &digest(), SIZE, BOOT);
            if byte < head {
                // A flip in the boot id is caught by the checksum too.
                prop_assert_eq!(found, None);
            } else {
                let expected: Vec<_> =
                    records[..(byte - head) / RECORD_BYTES].iter().map(|(range, _)| range.clone()).collect();
                prop_assert_eq!(ranges(&found.unwrap()), expected);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, &digest(), SIZE, BOOT);
            let mut with_head = journal(&[]);
            with_head.extend(bytes);
            prop_assert!(parse(&with_head, &digest(), SIZE, BOOT).is_some());
        }
    }
}
