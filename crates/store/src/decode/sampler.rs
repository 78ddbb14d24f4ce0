//! Digests of secret ranges of a blob that will not stay, taken as its bytes pass.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use stowage_artifact::digest::{Algorithm, Digest, Hasher};

/// Blobs up to this size are read whole as proof of access, which their own digest decides.
const WHOLE_BYTES: u64 = 1 << 20;
/// How many ranges are remembered; a proof uses some of them.
const SAMPLES: usize = 32;
/// And how many bytes each has.
const SAMPLE_BYTES: u64 = 64 << 10;

/// A range of a blob and the digest of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    start: u64,
    end: u64,
    digest: Digest,
}

impl Sample {
    /// The range in bytes.
    pub const fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Whether these are the bytes of the range.
    pub fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.end - self.start
            && Digest::of(self.digest.algorithm(), bytes) == self.digest
    }
}

pub(super) struct Sampler {
    at: u64,
    /// Those that are not complete, the one that ends first last.
    open: Vec<(Range<u64>, Hasher)>,
    done: Vec<Sample>,
}

impl Sampler {
    pub(super) fn new(size: u64) -> Self {
        let mut starts: Vec<u64> = if size <= WHOLE_BYTES {
            Vec::new()
        } else {
            (0..SAMPLES).map(|_| rand::random_range(0..=size - SAMPLE_BYTES)).collect()
        };
        starts.sort_unstable_by(|a, b| b.cmp(a));
        let open = starts.into_iter().map(|start| {
            let range = start..start + SAMPLE_BYTES;
            (range, Hasher::new(Algorithm::Sha256))
        });
        Self { at: 0, open: open.collect(), done: Vec::new() }
    }

    /// The next bytes of the blob.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let here = self.at..self.at + bytes.len() as u64;
        self.at = here.end;
        for (range, hasher) in self.open.iter_mut().rev() {
            if range.start >= here.end {
                break;
            }
            let (start, end) = (range.start.max(here.start), range.end.min(here.end));
            if start < end {
                hasher.update(&bytes[(start - here.start) as usize..(end - here.start) as usize]);
            }
        }
        while let Some((range, hasher)) = self.open.pop_if(|(range, _)| range.end <= here.end) {
            self.done.push(Sample { start: range.start, end: range.end, digest: hasher.finish() });
        }
    }

    pub(super) fn finish(self) -> Vec<Sample> {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_those_of_the_blob_however_its_bytes_come() {
        let blob: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7) as u8).collect();
        for step in [1000, 65_536, 3_000_000] {
            let mut sampler = Sampler::new(blob.len() as u64);
            blob.chunks(step).for_each(|bytes| sampler.push(bytes));
            let samples = sampler.finish();
            assert_eq!(samples.len(), SAMPLES);
            for sample in &samples {
                let range = sample.range();
                let bytes = &blob[range.start as usize..range.end as usize];
                assert!(sample.is(bytes) && !sample.is(&bytes[1..]), "{range:?}");
                let mut wrong = bytes.to_vec();
                wrong[77] ^= 1;
                assert!(!sample.is(&wrong));
            }
        }
        let mut small = Sampler::new(WHOLE_BYTES);
        small.push(&blob[..WHOLE_BYTES as usize]);
        assert!(small.finish().is_empty(), "read whole");
    }
}
