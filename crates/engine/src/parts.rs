//! Which bytes of a blob are still wanted, and who fetches which. Pure: no time, no I/O.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of byte ranges, kept coalesced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&s, &e)) = self.0.range(..=end).next_back().filter(|&(_, &e)| e >= start) {
            self.0.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        self.0.insert(start, end);
    }

    pub(crate) fn remove(&mut self, range: &Range<u64>) {
        while let Some((&s, &e)) = self.0.range(..range.end).next_back().filter(|&(_, &e)| e > range.start) {
            self.0.remove(&s);
            if s < range.start {
                self.0.insert(s, range.start);
            }
            if e > range.end {
                self.0.insert(range.end, e);
            }
            if s <= range.start {
                break;
            }
        }
    }

    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.0.first_key_value().map(|(&start, &end)| start..end)
    }

    pub(crate) fn last(&self) -> Option<Range<u64>> {
        self.0.last_key_value().map(|(&start, &end)| start..end)
    }

    /// The first bytes at or behind an offset.
    pub(crate) fn first_from(&self, at: u64) -> Option<Range<u64>> {
        let around = self.0.range(..=at).next_back().filter(|&(_, &end)| end > at);
        let next = || self.0.range(at..).next();
        around.or_else(next).map(|(&start, &end)| start.max(at)..end)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(&start, &end)| start..end)
    }
}

/// Names one claim of one connection.
pub(crate) type ClaimId = u64;

/// The missing ranges of one blob: pending ones, and those that a connection has claimed.
#[derive(Debug)]
pub(crate) struct Parts {
    part_bytes: u64,
    window: u64,
    pending: Ranges,
    claims: BTreeMap<ClaimId, Claim>,
    next_id: ClaimId,
}

/// What one connection has still to bring to the disk.
#[derive(Debug, Default)]
struct Claim {
    /// Has not come; another connection may be given the end of it.
    open: Ranges,
    /// Is in a buffer of the holder, or on its way into it: nobody else may write it, so that no byte changes
    /// after the digest has seen it.
    buffered: Ranges,
}

impl Claim {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.buffered.is_empty()
    }
}

impl Parts {
    /// Parts of the missing ranges; no part starts more than `window` bytes beyond what is hashed.
    pub(crate) fn new(missing: impl IntoIterator<Item = Range<u64>>, part_bytes: u64, window: u64) -> Self {
        let mut pending = Ranges::default();
        for range in missing {
            pending.insert(range);
        }
        Self { part_bytes: part_bytes.max(1), window, pending, claims: BTreeMap::new(), next_id: 0 }
    }

    /// Whether [`Parts::claim_part`] would find one.
    pub(crate) fn startable(&self, hashed: u64) -> bool {
        self.pending.first().is_some_and(|range| range.start <= hashed.saturating_add(self.window))
    }

    /// Claims the frontmost pending part, cut where parts of a whole blob would be cut.
    pub(crate) fn claim_part(&mut self, hashed: u64) -> Option<(ClaimId, Range<u64>)> {
        if !self.startable(hashed) {
            return None;
        }
        let first = self.pending.first()?;
        let cut = (first.start / self.part_bytes + 1).saturating_mul(self.part_bytes);
        let part = first.start..first.end.min(cut);
        self.pending.remove(&part);
        Some((self.claim([part.clone()]), part))
    }

    /// Claims all that is pending, for one stream.
    pub(crate) fn claim_rest(&mut self) -> Option<ClaimId> {
        if self.pending.is_empty() {
            return None;
        }
        let id = self.claim([]);
        self.extend_to_rest(id);
        Some(id)
    }

    /// Adds all that is pending to a claim.
    pub(crate) fn extend_to_rest(&mut self, id: ClaimId) {
        if let Some(claim) = self.claims.get_mut(&id) {
            for range in std::mem::take(&mut self.pending).iter() {
                claim.open.insert(range);
            }
        }
    }

    /// The last range of a claim that has not come: the one whose end another connection can be given.
    pub(crate) fn last_open(&self, id: ClaimId) -> Option<Range<u64>> {
        self.claims.get(&id)?.open.last()
    }

    /// Gives what a claim has not received from `at` on to a new claim.
    pub(crate) fn split(&mut self, id: ClaimId, at: u64) -> Option<(ClaimId, Range<u64>)> {
        let last = self.last_open(id).filter(|last| last.contains(&at))?;
        let end = at..last.end;
        self.claims.get_mut(&id)?.open.remove(&end);
        Some((self.claim([end.clone()]), end))
    }

    /// The next bytes that the holder of a claim is to put into a buffer: from `at` on, at most `most`.
    pub(crate) fn receive(&mut self, id: ClaimId, at: u64, most: u64) -> Option<Range<u64>> {
        let claim = self.claims.get_mut(&id)?;
        let open = claim.open.first_from(at)?;
        let range = open.start..open.end.min(open.start.saturating_add(most));
        claim.open.remove(&range);
        claim.buffered.insert(range.clone());
        Some(range)
    }

    /// Whether a claim has nothing more to receive.
    pub(crate) fn is_received(&self, id: ClaimId) -> bool {
        self.claims.get(&id).is_none_or(|claim| claim.open.is_empty())
    }

    /// These bytes of a claim are on disk.
    pub(crate) fn arrived(&mut self, id: ClaimId, range: &Range<u64>) {
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.buffered.remove(range);
        }
    }

    /// Ends a claim; what it has not brought is pending again. The holder must have nothing in its buffers.
    pub(crate) fn release(&mut self, id: ClaimId) {
        if let Some(claim) = self.claims.remove(&id) {
            for range in claim.open.iter().chain(claim.buffered.iter()) {
                self.pending.insert(range);
            }
        }
    }

    /// Claims that have not been released.
    pub(crate) fn active(&self) -> usize {
        self.claims.len()
    }

    /// Where the first pending byte is.
    pub(crate) fn first_pending(&self) -> Option<u64> {
        self.pending.first().map(|range| range.start)
    }

    /// Bytes that nobody has claimed.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending.len()
    }

    /// Whether every byte has arrived.
    pub(crate) fn is_finished(&self) -> bool {
        self.pending.is_empty() && self.claims.values().all(Claim::is_empty)
    }

    fn claim(&mut self, ranges: impl IntoIterator<Item = Range<u64>>) -> ClaimId {
        self.next_id += 1;
        let mut claim = Claim::default();
        for range in ranges {
            claim.open.insert(range);
        }
        self.claims.insert(self.next_id, claim);
        self.next_id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_go_front_to_back_and_end_at_the_blobs_own_boundaries() {
        let mut parts = Parts::new([5..25, 38..41], 10, 1000);
        let mut seen = Vec::new();
        while let Some((_, part)) = parts.claim_part(0) {
            seen.push(part);
        }
        assert_eq!(seen, [5..10, 10..20, 20..25, 38..40, 40..41]);
    }

    #[test]
    fn no_part_starts_beyond_the_window() {
        let mut parts = Parts::new(Some(0..100), 10, 20);
        let starts: Vec<u64> =
            std::iter::from_fn(|| parts.claim_part(0).map(|(_, part)| part.start)).collect();
        assert_eq!(starts, [0, 10, 20]);
        assert!(!parts.startable(9));
        assert_eq!(parts.claim_part(10).map(|(_, part)| part), Some(30..40));
    }

    #[test]
    fn a_released_claim_goes_on_at_the_byte_where_it_stopped() {
        let mut parts = Parts::new(Some(0..100), 50, 100);
        let (id, _) = parts.claim_part(0).unwrap();
        assert_eq!(parts.receive(id, 0, 20), Some(0..20));
        parts.arrived(id, &(0..17));
        parts.release(id);
        assert_eq!(parts.claim_part(0).map(|(_, part)| part), Some(17..50));
    }

    #[test]
    fn a_stream_takes_what_all_others_have_left() {
        let mut parts = Parts::new([0..30, 40..60], 10, 100);
        let (first, _) = parts.claim_part(0).unwrap();
        let (second, _) = parts.claim_part(0).unwrap();
        parts.receive(second, 10, 4).unwrap();
        parts.arrived(second, &(10..14));
        parts.release(second);
        parts.extend_to_rest(first);
        let received: Vec<_> = [0, 3, 30, 50].map(|at| parts.receive(first, at, 100)).into();
        assert_eq!(received, [Some(0..10), Some(14..30), Some(40..60), None]);
        assert_eq!((parts.active(), parts.pending_bytes(), parts.is_received(first)), (1, 0, true));
    }

    #[test]
    fn a_helper_is_given_only_what_has_not_come() {
        let mut parts = Parts::new(Some(0..100), 100, 100);
        let (slow, _) = parts.claim_part(0).unwrap();
        parts.receive(slow, 0, 30).unwrap();
        assert_eq!(parts.last_open(slow), Some(30..100));
        assert_eq!(parts.split(slow, 20), None);
        assert_eq!(parts.split(slow, 100), None);
        let (helper, end) = parts.split(slow, 60).unwrap();
        assert_eq!(end, 60..100);
        assert_eq!(parts.receive(slow, 30, 100), Some(30..60));
        assert!(parts.is_received(slow) && !parts.is_received(helper));
        for (id, range) in [(slow, 0..60), (helper, 60..100)] {
            parts.receive(id, 60, 100);
            parts.arrived(id, &range);
            parts.release(id);
        }
        assert!(parts.is_finished());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Part,
        Rest,
        Extend(usize),
        Split(usize, u64),
        Receive(usize, u64),
        Arrive(usize, u64),
        Release(usize),
        Hash(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Part),
            1 => Just(Step::Rest),
            1 => (0..8usize).prop_map(Step::Extend),
            2 => (0..8usize, 0..480u64).prop_map(|(claim, at)| Step::Split(claim, at)),
            6 => (0..8usize, 1..40u64).prop_map(|(claim, n)| Step::Receive(claim, n)),
            6 => (0..8usize, 1..40u64).prop_map(|(claim, n)| Step::Arrive(claim, n)),
            3 => (0..8usize).prop_map(Step::Release),
            3 => (1..60u64).prop_map(Step::Hash),
        ]
    }

    proptest! {
        #[test]
        fn every_missing_byte_is_in_exactly_one_place(
            holes in prop::collection::vec((0..400u64, 1..80u64), 0..6),
            part in 1..64u64,
            window in 0..128u64,
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let mut missing = [false; 480];
            for (start, len) in &holes {
                missing[*start as usize..(*start + *len) as usize].fill(true);
            }
            let mut parts = Parts::new(holes.iter().map(|&(s, l)| s..s + l), part, window);
            let mut arrived = [false; 480];
            let (mut live, mut hashed): (Vec<ClaimId>, u64) = (Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Part => if let Some((id, range)) = parts.claim_part(hashed) {
                        prop_assert!(range.start <= hashed + window && range.end - range.start <= part);
                        prop_assert!(parts.first_pending().is_none_or(|next| next >= range.end));
                        live.push(id);
                    },
                    Step::Rest => live.extend(parts.claim_rest()),
                    Step::Extend(n) => if let Some(&id) = live.get(n) { parts.extend_to_rest(id) },
                    Step::Split(n, at) => if let Some(&id) = live.get(n)
                        && let Some((helper, range)) = parts.split(id, at)
                    {
                        prop_assert!(range.start == at && !range.is_empty());
                        live.push(helper);
                    },
                    Step::Receive(n, len) => if let Some(&id) = live.get(n) {
                        parts.receive(id, 0, len);
                    },
                    Step::Arrive(n, len) => if let Some(&id) = live.get(n)
                        && let Some(front) = parts.claims[&id].buffered.first()
                    {
                        let got = front.start..front.end.min(front.start + len);
                        parts.arrived(id, &got);
                        arrived[got.start as usize..got.end as usize].fill(true);
                    },
                    Step::Release(n) => if n < live.len() { parts.release(live.remove(n)) },
                    Step::Hash(n) => hashed += n,
                }
                let mut count = [0u8; 480];
                let held = live.iter().map(|id| &parts.claims[id]);
                let held = held.flat_map(|claim| claim.open.iter().chain(claim.buffered.iter()));
                for range in held.chain(parts.pending.iter()) {
                    for byte in range { count[byte as usize] += 1; }
                }
                for byte in 0..480 {
                    prop_assert_eq!(count[byte] + u8::from(arrived[byte]), u8::from(missing[byte]));
                }
                prop_assert_eq!(parts.active(), live.len());
                prop_assert_eq!(parts.is_finished(), count.iter().all(|&n| n == 0));
            }
        }
    }
}
