//! What plugins have answered, for as long as they say.
//!
//! Where there is no room, the namespace that has most of it loses what was unused for the longest time: nobody fills
//! the cache with images that do not exist.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stowage_artifact::{Digest, Reference};
use stowage_registry::DockerConfig;
use tokio::time::Instant;

use super::plugin::{Answer, CacheKeyType};

/// More answers are not kept.
const MOST_ANSWERS: usize = 1024;
/// Nor any for longer than this.
const LONGEST: Duration = Duration::from_hours(24 * 7);
/// An answer that a registry refuses is dropped, and the one after it is kept for so long whatever a registry says:
/// some say the same of what does not exist, and a plugin is not to be run each time a pod asks for that.
const AFTER_REFUSAL: Duration = Duration::from_mins(1);

/// Who asked which plugin for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) provider: Digest,
    /// For whom the answer is kept.
    pub(super) owner: String,
    pub(super) reference: Reference,
    /// The namespace of the pod, to whose share an answer counts.
    pub(super) namespace: String,
}

/// Which plugin, for whom, and for which images.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    provider: Digest,
    owner: String,
    images: Images,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Images {
    One(String),
    OfRegistry(String),
    All,
}

struct Kept {
    credentials: DockerConfig,
    ends: Instant,
    namespace: String,
    /// The higher the later.
    used: u64,
}

#[derive(Default)]
pub(super) struct Cache(Mutex<Answers>);

#[derive(Default)]
struct Answers {
    kept: HashMap<Key, Kept>,
    refused: HashMap<Key, Instant>,
    uses: u64,
}

impl Asked {
    /// Under what an answer for `kind` of images is kept.
    fn key(&self, kind: CacheKeyType) -> Key {
        let reference = &self.reference;
        let images = match kind {
            CacheKeyType::Image => {
                Images::One(format!("{}/{}", reference.registry(), reference.repository()))
            }
            CacheKeyType::Registry => Images::OfRegistry(reference.registry().to_owned()),
            CacheKeyType::Global => Images::All,
        };
        Key { provider: self.provider.clone(), owner: self.owner.clone(), images }
    }

    fn keys(&self) -> [Key; 3] {
        [CacheKeyType::Image, CacheKeyType::Registry, CacheKeyType::Global].map(|kind| self.key(kind))
    }
}

impl Cache {
    /// What is kept for an image; an answer without a credential is one too.
    pub(super) fn get(&self, asked: &Asked) -> Option<DockerConfig> {
        let (mut answers, now) = (self.lock(), Instant::now());
        answers.uses += 1;
        let used = answers.uses;
        asked.keys().iter().find_map(|key| {
            let kept = answers.kept.get_mut(key).filter(|kept| kept.ends > now)?;
            kept.used = used;
            Some(kept.credentials.clone())
        })
    }

    pub(super) fn put(&self, asked: &Asked, answer: &Answer) {
        if answer.lifetime.is_zero() {
            return;
        }
        let (mut answers, now) = (self.lock(), Instant::now());
        let key = asked.key(answer.kept_for);
        answers.kept.retain(|_, kept| kept.ends > now);
        if !answers.kept.contains_key(&key) {
            answers.make_room();
        }
        answers.uses += 1;
        let kept = Kept {
            credentials: answer.credentials.clone(),
            ends: now + answer.lifetime.min(LONGEST),
            namespace: asked.namespace.clone(),
            used: answers.uses,
        };
        answers.kept.insert(key, kept);
    }

    /// A registry does not take what was answered: the plugin is asked anew the next time.
    pub(super) fn refused(&self, asked: &Asked) {
        let (mut answers, now) = (self.lock(), Instant::now());
        answers.refused.retain(|_, refused| now.duration_since(*refused) < AFTER_REFUSAL);
        for key in asked.keys() {
            let room = answers.refused.len() < MOST_ANSWERS && !answers.refused.contains_key(&key);
            if room && answers.kept.remove(&key).is_some() {
                answers.refused.insert(key, now);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    fn make_room(&mut self) {
        if self.kept.len() < MOST_ANSWERS {
            return;
        }
        let mut shares: HashMap<&str, usize> = HashMap::new();
        for kept in self.kept.values() {
            *shares.entry(&kept.namespace).or_default() += 1;
        }
        let most = shares.into_iter().max_by_key(|(_, share)| *share);
        let Some(most) = most.map(|(namespace, _)| namespace.to_owned()) else { return };
        let of_most = self.kept.iter().filter(|(_, kept)| kept.namespace == most);
        let unused = of_most.min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
        if let Some(unused) = unused {
            self.kept.remove(&unused);
        }
    }
}

#[cfg(test)]
mod tests {
    use stowage_artifact::Algorithm;

    use super::*;

    fn asked(namespace: &str, image: &str) -> Asked {
        Asked {
            provider: Digest::of(Algorithm::Sha256, b"plugin"),
            owner: String::new(),
            reference: image.parse().unwrap(),
            namespace: namespace.to_owned(),
        }
    }

    fn answer(kept_for: CacheKeyType) -> Answer {
        Answer { credentials: DockerConfig::default(), kept_for, lifetime: Duration::from_hours(12) }
    }

    #[test]
    fn invented_images_cost_whoever_invents_them() {
        let cache = Cache::default();
        let (own, theirs) = (asked("team", "r.example/own:v1"), asked("evil", "r.example/invented-0:v1"));
        cache.put(&own, &answer(CacheKeyType::Image));
        for number in 0..2 * MOST_ANSWERS {
            let invented = asked("evil", &format!("r.example/invented-{number}:v1"));
            cache.put(&invented, &answer(CacheKeyType::Image));
            if number < MOST_ANSWERS {
                assert!(cache.get(&theirs).is_some(), "what is used stays: {number}");
            }
        }
        assert_eq!(cache.lock().kept.len(), MOST_ANSWERS);
        assert!(cache.get(&own).is_some(), "another namespace's");
        assert!(cache.get(&asked("evil", "r.example/invented-2000:v1")).is_some(), "the newest");
        assert!(cache.get(&asked("evil", "r.example/invented-1:v1")).is_none(), "the oldest");
        // And there is room for others.
        cache.put(&asked("team", "r.example/new:v1"), &answer(CacheKeyType::Image));
        assert!(cache.get(&asked("team", "r.example/new:v1")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_answer_is_dropped_and_the_next_one_not_at_once() {
        for kind in [CacheKeyType::Image, CacheKeyType::Registry, CacheKeyType::Global] {
            let (cache, asked) = (Cache::default(), asked("team", "r.example/a:v1"));
            for _ in 0..2 {
                cache.put(&asked, &answer(kind));
                cache.refused(&asked);
                assert!(cache.get(&asked).is_none(), "{kind:?}");
                cache.put(&asked, &answer(kind));
                cache.refused(&asked);
                assert!(cache.get(&asked).is_some(), "{kind:?}: refused again within a minute");
                tokio::time::advance(AFTER_REFUSAL).await;
            }
        }
    }
}
