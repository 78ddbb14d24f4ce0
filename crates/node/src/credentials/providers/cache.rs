//! What plugins have answered, for as long as they say.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stowage_artifact::{Digest, Reference};
use stowage_registry::DockerConfig;

use super::plugin::{Answer, CacheKeyType};

/// More answers are not kept.
const MOST_ANSWERS: usize = 1024;
/// Nor any for longer than this.
const LONGEST: Duration = Duration::from_hours(24 * 7);

/// Which plugin, for whom, and for which images.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    provider: Digest,
    owner: String,
    images: Images,
}

#[derive(PartialEq, Eq, Hash)]
enum Images {
    One(String),
    OfRegistry(String),
    All,
}

struct Kept {
    credentials: DockerConfig,
    ends: Instant,
}

#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<Key, Kept>>);

impl Images {
    fn of(kind: CacheKeyType, reference: &Reference) -> Self {
        match kind {
            CacheKeyType::Image => Self::One(format!("{}/{}", reference.registry(), reference.repository())),
            CacheKeyType::Registry => Self::OfRegistry(reference.registry().to_owned()),
            CacheKeyType::Global => Self::All,
        }
    }
}

impl Cache {
    /// What is kept for an image; an answer without a credential is one too.
    pub(super) fn get(&self, provider: &Digest, owner: &str, reference: &Reference) -> Option<DockerConfig> {
        let (kept, now) = (self.lock(), Instant::now());
        [CacheKeyType::Image, CacheKeyType::Registry, CacheKeyType::Global].into_iter().find_map(|kind| {
            let images = Images::of(kind, reference);
            let key = Key { provider: provider.clone(), owner: owner.to_owned(), images };
            kept.get(&key).filter(|kept| kept.ends > now).map(|kept| kept.credentials.clone())
        })
    }

    pub(super) fn put(&self, provider: &Digest, owner: &str, reference: &Reference, answer: &Answer) {
        if answer.lifetime.is_zero() {
            return;
        }
        let now = Instant::now();
        let images = Images::of(answer.kept_for, reference);
        let key = Key { provider: provider.clone(), owner: owner.to_owned(), images };
        let mut kept = self.lock();
        kept.retain(|_, kept| kept.ends > now);
        if kept.len() < MOST_ANSWERS || kept.contains_key(&key) {
            let credentials = answer.credentials.clone();
            kept.insert(key, Kept { credentials, ends: now + answer.lifetime.min(LONGEST) });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
