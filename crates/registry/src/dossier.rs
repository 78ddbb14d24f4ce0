//! What one repository object has learnt about each thing it was asked for: permissions, and who is passed over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stowage_artifact::Digest;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// How long a permission is remembered. Longer than most downloads, and much shorter than a grant.
const PERMIT_AGE: Duration = Duration::from_hours(1);
/// More are not kept.
const MOST_DOSSIERS: usize = 65_536;

/// What a digest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Manifest,
    Blob,
}

/// The registry's yes to a read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permit {
    pub(crate) since: Instant,
    /// The size of the blob, where the registry said it.
    pub(crate) size: Option<u64>,
}

/// What is known about one manifest or blob.
#[derive(Default)]
struct Dossier {
    permit: Arc<OnceCell<Permit>>,
    /// Somebody has honoured a range of it, so nobody else may ignore one.
    ranged: bool,
    /// Bytes of it came through mirrors, and whether all of those speak for the registry.
    mirrored: Option<bool>,
    /// Mirrors that are not asked for it, and until when, if not for ever.
    passed_over: HashMap<Arc<str>, Option<Instant>>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Dossiers(Mutex<HashMap<(Kind, Digest), Dossier>>);

impl Dossiers {
    /// Where the permission for this is, or will be. One asks, and the others wait for it.
    pub(crate) fn permit(&self, kind: Kind, digest: &Digest) -> Arc<OnceCell<Permit>> {
        self.with(kind, digest, |dossier| {
            if dossier.permit.get().is_some_and(|permit| permit.since.elapsed() >= PERMIT_AGE) {
                dossier.permit = Arc::default();
            }
            Arc::clone(&dossier.permit)
        })
    }

    /// Notes that a host honoured a range.
    pub(crate) fn ranges_work(&self, digest: &Digest) {
        self.with(Kind::Blob, digest, |dossier| dossier.ranged = true);
    }

    /// Whether a host has honoured one.
    pub(crate) fn is_ranged(&self, digest: &Digest) -> bool {
        self.with(Kind::Blob, digest, |dossier| dossier.ranged)
    }

    /// Notes that bytes come through a mirror, and whether it speaks for the registry.
    pub(crate) fn through_mirror(&self, digest: &Digest, vouched: bool) {
        self.with(Kind::Blob, digest, |dossier| {
            dossier.mirrored = Some(dossier.mirrored.unwrap_or(true) && vouched);
        });
    }

    /// Whether bytes came through mirrors, all of which speak for the registry.
    pub(crate) fn is_vouched(&self, digest: &Digest) -> bool {
        self.with(Kind::Blob, digest, |dossier| dossier.mirrored == Some(true))
    }

    /// Passes a mirror over for this thing, for a while or for ever.
    pub(crate) fn pass_over(&self, kind: Kind, digest: &Digest, mirror: &Arc<str>, rest: Option<Duration>) {
        let until = rest.map(|rest| Instant::now() + rest);
        self.with(kind, digest, |dossier| dossier.passed_over.insert(Arc::clone(mirror), until));
    }

    /// Whether a mirror is passed over now.
    pub(crate) fn is_passed_over(&self, kind: Kind, digest: &Digest, mirror: &str) -> bool {
        self.with(kind, digest, |dossier| match dossier.passed_over.get(mirror) {
            None => false,
            Some(until) => until.is_none_or(|until| Instant::now() < until),
        })
    }

    fn with<T>(&self, kind: Kind, digest: &Digest, work: impl FnOnce(&mut Dossier) -> T) -> T {
        let mut dossiers = self.lock();
        let key = (kind, digest.clone());
        if dossiers.len() >= MOST_DOSSIERS && !dossiers.contains_key(&key) {
            dossiers.clear();
        }
        work(dossiers.entry(key).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Kind, Digest), Dossier>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use stowage_artifact::{Algorithm, Digest};

    use super::{Dossiers, Kind};

    #[test]
    fn one_mirror_that_does_not_speak_for_the_registry_is_enough() {
        let (dossiers, digest) = (Dossiers::default(), Digest::of(Algorithm::Sha256, b"x"));
        assert!(!dossiers.is_vouched(&digest));
        dossiers.through_mirror(&digest, true);
        assert!(dossiers.is_vouched(&digest));
        dossiers.through_mirror(&digest, false);
        dossiers.through_mirror(&digest, true);
        assert!(!dossiers.is_vouched(&digest));
    }

    #[test]
    fn a_mirror_is_passed_over_for_one_thing_alone() {
        let (dossiers, digest) = (Dossiers::default(), Digest::of(Algorithm::Sha256, b"x"));
        let mirror: Arc<str> = "m".into();
        dossiers.pass_over(Kind::Blob, &digest, &mirror, None);
        assert!(dossiers.is_passed_over(Kind::Blob, &digest, "m"));
        assert!(!dossiers.is_passed_over(Kind::Manifest, &digest, "m"));
        assert!(!dossiers.is_passed_over(Kind::Blob, &digest, "n"));
        dossiers.pass_over(Kind::Blob, &digest, &mirror, Some(Duration::ZERO));
        assert!(!dossiers.is_passed_over(Kind::Blob, &digest, "m"));
    }

    #[test]
    fn a_permission_for_a_manifest_is_none_for_a_blob() {
        let (dossiers, digest) = (Dossiers::default(), Digest::of(Algorithm::Sha256, b"x"));
        let permit = super::Permit { since: tokio::time::Instant::now(), size: None };
        dossiers.permit(Kind::Manifest, &digest).set(permit).unwrap();
        assert!(dossiers.permit(Kind::Manifest, &digest).get().is_some());
        assert!(dossiers.permit(Kind::Blob, &digest).get().is_none());
    }
}
