//! Plans of artifacts that were published before: reading a manifest of ten thousand layers takes longer than mounting
//! what it describes.
//!
//! A plan follows from a digest and a volume's attributes alone, so it is nobody's secret and never out of date. Who
//! uses one has shown access to its documents first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use stowage_artifact::{Digest, VolumeAttributes};

use crate::resolve::Resolved;

/// So many plans are remembered ...
const MOST_PLANS: usize = 128;
/// ... of so many layers together, each of which takes about a kilobyte.
const MOST_LAYERS: usize = 20_000;

/// What the reference named, and the attributes in their canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlanKey(Digest, BTreeMap<String, String>);

impl PlanKey {
    pub(crate) fn new(digest: Digest, attributes: &VolumeAttributes) -> Self {
        Self(digest, attributes.canonical())
    }
}

/// The plans, the one used last at the end.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<VecDeque<(PlanKey, Arc<Resolved>)>>);

impl Plans {
    pub(crate) fn get(&self, key: &PlanKey) -> Option<Arc<Resolved>> {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = plans.iter().position(|(other, _)| other == key)?;
        let found = plans.remove(place)?;
        let plan = Arc::clone(&found.1);
        plans.push_back(found);
        Some(plan)
    }

    pub(crate) fn put(&self, key: PlanKey, plan: Arc<Resolved>) {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|(other, _)| *other != key);
        plans.push_back((key, plan));
        let layers = |plan: &Resolved| plan.manifest.layers.len();
        let mut sum: usize = plans.iter().map(|(_, plan)| layers(plan)).sum();
        while plans.len() > MOST_PLANS || sum > MOST_LAYERS {
            let Some((_, oldest)) = plans.pop_front() else { return };
            sum -= layers(&oldest);
        }
    }
}
