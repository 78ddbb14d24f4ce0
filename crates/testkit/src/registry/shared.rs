//! What both listeners and every connection of a registry share.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stowage_artifact::Digest;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::auth::Gate;
use super::content::Content;
use super::push::Uploads;
use super::rules::Faults;
use super::traffic::Traffic;

/// The state of one registry.
pub(super) struct Shared {
    pub(super) content: Content,
    pub(super) gate: Gate,
    pub(super) faults: Faults,
    pub(super) traffic: Traffic,
    pub(super) uploads: Uploads,
    pub(super) presigned: Presigned,
    pub(super) mode: Mode,
    /// `scheme://host:port` of the registry and of the other host.
    pub(super) origin: String,
    pub(super) storage_origin: String,
    /// Bytes a second and connection; 0 is no limit.
    pub(super) rate: AtomicU64,
    pub(super) next_connection: AtomicU64,
    /// Cancelled and replaced when all connections are to be reset.
    pub(super) cut: Mutex<CancellationToken>,
    /// Home of uploaded blobs.
    pub(super) directory: TempDir,
}

/// Habits of a registry that are no faults.
#[derive(Clone, Debug)]
pub(super) struct Mode {
    /// As Ollama's registry: Docker's manifests only, and next to nothing beside manifests and blobs.
    pub(super) ollama: bool,
    /// A manifest by its digest is an internal error.
    pub(super) tags_only: bool,
    /// Whether the referrers API is there.
    pub(super) referrers: bool,
    /// Every blob is redirected, by a URL that expires so.
    pub(super) redirect: Option<(Option<u32>, Option<Duration>)>,
}

struct Signed {
    repository: String,
    digest: Digest,
    uses: Option<u32>,
    deadline: Option<Instant>,
}

/// The signed URLs of the other host.
#[derive(Default)]
pub(super) struct Presigned {
    urls: Mutex<HashMap<String, Signed>>,
}

impl Presigned {
    /// Signs a path for one blob.
    pub(super) fn sign(
        &self,
        repository: &str,
        digest: &Digest,
        uses: Option<u32>,
        lifetime: Option<Duration>,
    ) -> String {
        let signature = format!("{:032x}", rand::random::<u128>());
        let deadline = lifetime.map(|lifetime| Instant::now() + lifetime);
        let signed = Signed { repository: repository.into(), digest: digest.clone(), uses, deadline };
        self.urls().insert(signature.clone(), signed);
        let seconds = lifetime.map_or(3600, |lifetime| lifetime.as_secs());
        format!("/blob/{}?X-Expires={seconds}&X-Signature={signature}", digest.hex())
    }

    /// The blob that a signature still opens; uses it up.
    pub(super) fn open(&self, signature: &str) -> Option<(String, Digest)> {
        let mut urls = self.urls();
        let signed = urls.get_mut(signature)?;
        if signed.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return None;
        }
        match &mut signed.uses {
            Some(0) => return None,
            Some(uses) => *uses -= 1,
            None => {}
        }
        Some((signed.repository.clone(), signed.digest.clone()))
    }

    /// Makes every URL signed so far answer 403.
    pub(super) fn expire(&self) {
        self.urls().clear();
    }

    fn urls(&self) -> MutexGuard<'_, HashMap<String, Signed>> {
        self.urls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// What a connection watches to be reset.
    pub(super) fn cut(&self) -> CancellationToken {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resets every open connection.
    pub(super) fn reset_connections(&self) {
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *cut, CancellationToken::new()).cancel();
    }
}

/// The state as handlers hold it.
pub(super) type State = Arc<Shared>;
