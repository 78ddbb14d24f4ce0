//! Who may have what a mirror delivers.
//!
//! A mirror is a stranger with a copy. It gets neither the pod's credential nor the last word:
//!
//! - **The bytes** are covered by the digest, as everywhere. A manifest with another digest is not taken; for a
//!   blob the download engine finds out at its end and calls [`stowage_store::BlobSource::distrust`].
//! - **The permission** is the registry's. Before a mirror is asked for a manifest or blob, a HEAD with the pod's
//!   own credential must have found it in this repository of the registry ([`Repository::permit`]). A no is
//!   final; silence is no yes. Only a mirror that an administrator calls authoritative decides by itself, and then pull
//!   secrets play no part.
//! - **Possession.** A HEAD is the registry's word, and a registry can be a tenant's own: it lists a stranger's digest,
//!   says 200 to the HEAD, and a mirror that goes by content alone (Spegel, Dragonfly) would hand over the stranger's bytes.
//!   So the word counts only where an administrator wrote the mirrors for this very registry
//!   ([`Route::named`]): he chose to believe that registry in this. By `_default` mirrors stand before any registry, so
//!   there the rule of grants holds: the registry itself must show the bytes. What is read whole to show
//!   that (manifests, configs, blobs up to 1 MiB) is read from the registry in the first place; larger blobs come from the
//!   mirror, and `volumes` compares samples before it grants.
//! - **The origin.** "This host has delivered these bytes to this node" makes a later HEAD at that host suffice for
//!   everybody. Bytes of a mirror must never count as that: the registry has not shown that it has them. So a body
//!   says which mirror it came from, the engine does not count those bytes for the caller's source, and
//!   [`Repository::vouches_for`] gives a grant for this reader alone.
//!
//! [`Repository::head_blob`] and [`Repository::read_range`] are what grants are proven with, so they never ask a
//! mirror, an authoritative one apart.

use std::sync::Arc;

use stowage_artifact::Digest;
use tokio::time::Instant;

use crate::backoff::Tries;
use crate::dossier::{Kind, Permit};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::repository::Repository;
use crate::route::{Mirror, Route};

/// Blobs up to this size are shown whole as a proof of possession (`volumes::grants`).
pub(crate) const SHOWN_WHOLE: u64 = 1 << 20;

/// How hard the registry is asked for permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Once: the caller comes again.
    Once,
    /// Until the tries of a short request are used up.
    Patient,
}

impl Repository {
    /// Notes that a mirror delivered wrong bytes of a blob. It is not asked for that blob again, and left alone for a
    /// while. `mirror` is the name that came with the bytes.
    pub(crate) fn distrust_mirror(&self, digest: &Digest, mirror: &str) {
        self.dossiers().pass_over(Kind::Blob, digest, &Arc::from(mirror), None);
        let rest = self.inner().options.mirrors.rest_after_lies;
        let seconds = rest.as_secs();
        tracing::warn!(mirror, %digest, seconds, "a mirror sent wrong bytes and is left alone");
        self.inner().rests.begin(mirror, rest);
    }

    /// Whether this reader needs to show no more for a blob: mirrors delivered it through this very object after the
    /// registry had said yes to this credential, and all of those mirrors speak for the registry.
    pub fn vouches_for(&self, digest: &Digest) -> bool {
        self.dossiers().is_vouched(digest)
    }

    /// Whether a mirror may be asked for something now.
    pub(crate) fn is_usable(&self, mirror: &Mirror, kind: Kind, digest: &Digest) -> bool {
        !mirror.rests() && !self.dossiers().is_passed_over(kind, digest, &mirror.name)
    }

    /// The authoritative mirrors that may be asked for something now.
    pub(crate) fn usable_authorities(&self, route: &Route, kind: Kind, digest: &Digest) -> Vec<Arc<Mirror>> {
        route.authorities().filter(|mirror| self.is_usable(mirror, kind, digest)).cloned().collect()
    }

    /// Notes why a mirror did not deliver, so that the next parts and blobs go another way at once.
    pub(crate) fn mirror_failed(&self, mirror: &Mirror, kind: Kind, digest: &Digest, error: &RegistryError) {
        let pass_over = |rest| self.dossiers().pass_over(kind, digest, &mirror.name, rest);
        match error {
            RegistryError::NotFound { .. } => {
                tracing::debug!(mirror = %mirror.name, %error, "a mirror does not have it");
                pass_over(Some(self.inner().options.mirrors.rest));
            }
            RegistryError::Protocol { .. }
            | RegistryError::RangeRefused { .. }
            | RegistryError::TooLarge { .. } => {
                tracing::warn!(mirror = %mirror.name, %error, "a mirror is of no use for this");
                pass_over(None);
            }
            RegistryError::DigestMismatch { .. } => {
                pass_over(None);
                mirror.failed(error);
            }
            RegistryError::Unauthenticated { .. }
            | RegistryError::Forbidden { .. }
            | RegistryError::RateLimited { .. }
            | RegistryError::Unavailable { .. }
            | RegistryError::Untrusted { .. }
            | RegistryError::Refused { .. } => mirror.failed(error),
        }
    }

    /// The registry's permission to read something with this credential. It is asked once and remembered.
    pub(crate) async fn permit(
        &self,
        route: &Route,
        kind: Kind,
        digest: &Digest,
        effort: Effort,
    ) -> Result<Permit, RegistryError> {
        let cell = self.dossiers().permit(kind, digest);
        cell.get_or_try_init(|| self.ask_permission(route, kind, digest, effort)).await.copied()
    }

    async fn ask_permission(
        &self,
        route: &Route,
        kind: Kind,
        digest: &Digest,
        effort: Effort,
    ) -> Result<Permit, RegistryError> {
        let noun = if kind == Kind::Blob { "blob" } else { "manifest" };
        let registry = self.registry();
        let what = format!(
            "ask {registry} whether {noun} {digest} of {} may be read from a mirror",
            self.repository()
        );
        for mirror in self.usable_authorities(route, kind, digest) {
            match presence(&mirror.endpoint, kind, digest, &what).await {
                Ok(Some(size)) => return Ok(Permit { since: Instant::now(), size }),
                Ok(None) => {}
                Err(error) => self.mirror_failed(&mirror, kind, digest, &error),
            }
        }
        let mut tries = Tries::new(&self.inner().options);
        loop {
            let error = match presence(&route.registry, kind, digest, &what).await {
                Ok(Some(size)) => return Ok(Permit { since: Instant::now(), size }),
                Ok(None) => return Err(RegistryError::NotFound { what, host: registry.to_owned() }),
                Err(error) => error,
            };
            match effort {
                Effort::Once => return Err(error),
                Effort::Patient => tries.again(error).await?,
            }
        }
    }
}

/// Whether a host has something and lets us read it; the size of a blob.
async fn presence(
    endpoint: &Endpoint,
    kind: Kind,
    digest: &Digest,
    what: &str,
) -> Result<Option<Option<u64>>, RegistryError> {
    match kind {
        Kind::Blob => {
            // Some proxies say 0 to every HEAD.
            let told = |size: u64| size > 0 || *digest == Digest::of(digest.algorithm(), b"");
            Ok(endpoint.head_blob(digest, what).await?.map(|size| Some(size).filter(|size| told(*size))))
        }
        Kind::Manifest => Ok(endpoint.head_manifest(digest, what).await?.then_some(None)),
    }
}

/// Whether an error of the registry is its answer: nobody else is asked then.
pub(crate) fn is_answer(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Unauthenticated { .. }
            | RegistryError::Forbidden { .. }
            | RegistryError::NotFound { .. }
    )
}
