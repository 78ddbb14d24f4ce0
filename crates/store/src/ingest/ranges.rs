//! Sets of byte ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of offsets, kept as ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    /// Start to end.
    ranges: BTreeMap<u64, u64>,
    total: u64,
}

impl RangeSet {
    /// Adds a range and returns the joined range that now holds it; an empty range adds nothing.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return range;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&left, &right)) = self.ranges.range(..=end).next_back() {
            if right < start {
                break;
            }
            self.ranges.remove(&left);
            self.total -= right - left;
            start = start.min(left);
            end = end.max(right);
        }
        self.ranges.insert(start, end);
        self.total += end - start;
        start..end
    }

    /// Takes a range out.
    pub(crate) fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&left, &right)) = self.ranges.range(..range.end).next_back() {
            if right <= range.start {
                break;
            }
            self.ranges.remove(&left);
            self.total -= right - left;
            for rest in [left..range.start, range.end..right] {
                if !rest.is_empty() {
                    self.ranges.insert(rest.start, rest.end);
                    self.total += rest.end - rest.start;
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges.
    pub(crate) fn pieces(&self) -> usize {
        self.ranges.len()
    }

    /// How many offsets.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// The end of the range that starts at 0, or 0.
    pub(crate) fn frontier(&self) -> u64 {
        self.ranges.get(&0).copied().unwrap_or(0)
    }

    /// The end of the last range, or 0.
    pub(crate) fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// The ranges of `0..size` that are not in the set.
    pub(crate) fn gaps(&self, size: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for range in self.iter().take_while(|range| range.start < size) {
            if at < range.start {
                gaps.push(at..range.start);
            }
            at = range.end;
        }
        if at < size {
            gaps.push(at..size);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 64;

    fn offsets(set: &RangeSet) -> Vec<u64> {
        set.iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn a_range_set_is_the_set_of_its_offsets(
            steps in prop::collection::vec((any::<bool>(), 0..SIZE, 0..=SIZE), 0..40)
        ) {
            let mut set = RangeSet::default();
            let mut model = std::collections::BTreeSet::new();
            for (add, a, b) in steps {
                let range = a.min(b)..a.max(b);
                if add {
                    let joined = set.insert(range.clone());
                    model.extend(range.clone());
                    prop_assert!(joined.start <= range.start && range.end <= joined.end);
                    prop_assert!(joined.clone().all(|offset| model.contains(&offset)));
                } else {
                    set.remove(&range);
                    model.retain(|offset| !range.contains(offset));
                }
                prop_assert_eq!(offsets(&set), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.total(), model.len() as u64);
                prop_assert_eq!(set.frontier(), (0..=SIZE).take_while(|offset| model.contains(offset)).count() as u64);
                prop_assert_eq!(set.end(), model.last().map_or(0, |last| last + 1));
                let ranges: Vec<_> = set.iter().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges:?}");
                let gaps: Vec<u64> = set.gaps(SIZE).into_iter().flatten().collect();
                prop_assert_eq!(gaps, (0..SIZE).filter(|offset| !model.contains(offset)).collect::<Vec<_>>());
            }
        }
    }
}
