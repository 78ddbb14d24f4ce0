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

#[cfg(test)]
mod tests {
    use stowage_artifact::{Algorithm, Document, PlanOptions, plan};
    use stowage_store::ViewSpec;

    use super::*;

    fn attributes() -> VolumeAttributes {
        VolumeAttributes::parse(&BTreeMap::from([("reference".to_owned(), "r.example/a:v1".to_owned())]))
            .unwrap()
    }

    fn key(number: usize) -> PlanKey {
        PlanKey::new(Digest::of(Algorithm::Sha256, &number.to_be_bytes()), &attributes())
    }

    /// The plan of an artifact with one file, said to have so many layers.
    fn resolved(layers: usize) -> Arc<Resolved> {
        let file = Digest::of(Algorithm::Sha256, b"file");
        let descriptor =
            |media_type: &str| format!(r#"{{"mediaType":"{media_type}","digest":"{file}","size":4}}"#);
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
            descriptor("application/vnd.oci.empty.v1+json"),
            descriptor("application/octet-stream"),
        );
        let Document::Manifest(mut manifest) = Document::parse(text.as_bytes(), None).unwrap() else {
            panic!()
        };
        let plan = plan(&manifest, None, &PlanOptions::from(&attributes())).unwrap();
        manifest.layers = vec![manifest.layers[0].clone(); layers];
        let view = ViewSpec::new(plan.layout.clone(), &attributes());
        Arc::new(Resolved {
            reference: attributes().reference,
            digest: file.clone(),
            manifest_digest: file,
            manifest,
            plan,
            documents: Vec::new(),
            view_hash: view.hash(),
            view: Arc::new(view),
        })
    }

    #[test]
    fn the_plan_that_nobody_used_for_longest_goes_first() {
        let plans = Plans::default();
        let plan = resolved(1);
        for number in 0..MOST_PLANS {
            plans.put(key(number), Arc::clone(&plan));
        }
        assert!(plans.get(&key(0)).is_some());
        plans.put(key(MOST_PLANS), Arc::clone(&plan));
        let known = |number: usize| plans.get(&key(number)).is_some();
        assert_eq!((known(0), known(1), known(2), known(MOST_PLANS)), (true, false, true, true));
    }

    #[test]
    fn plans_with_many_layers_push_more_than_one_out() {
        let plans = Plans::default();
        for number in 0..3 {
            plans.put(key(number), resolved(MOST_LAYERS / 4));
        }
        plans.put(key(3), resolved(MOST_LAYERS / 2 + 1));
        let known: Vec<_> = (0..4).filter(|number| plans.get(&key(*number)).is_some()).collect();
        assert_eq!(known, [2, 3]);
        // One that is too large alone is not kept, and takes all others with it: the bound holds.
        plans.put(key(4), resolved(MOST_LAYERS + 1));
        assert!((0..5).all(|number| plans.get(&key(number)).is_none()));
    }
}
