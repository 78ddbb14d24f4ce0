//! Who may read what from the store (`trust.md`).
//!
//! Knowing a digest is not access. A principal has a grant for (registry host, repository, digest) once the
//! registry has served it those bytes, or once it has shown, by reading them through its own credential, that
//! the registry would. A registry of a tenant's own that merely lists a stranger's digest proves nothing: only a
//! host that has itself delivered the bytes to this node is believed when it answers 200 to a HEAD.

use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use stowage_artifact::{Digest, Reference};
use stowage_registry::{RegistryError, Repository};
use stowage_store::{Principal, Sample, Store};

use crate::Inner;
use crate::error::{PublishError, store_error};
use crate::origin::{Origin, registry_error};

/// Blobs up to this size are read whole as proof of possession.
const WHOLE_BYTES: u64 = 1 << 20;
/// Otherwise this many random ranges ...
const SAMPLES: u64 = 8;
/// ... of this many bytes each.
const SAMPLE_BYTES: u64 = 64 << 10;
/// Proofs asked of a registry at the same time, for one volume.
const PARALLEL_PROOFS: usize = 8;

/// A principal at a repository: what grants are about.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    host: String,
    repository: String,
    principal: Principal,
}

impl Scope {
    pub(crate) fn new(host: &str, repository: &str, principal: Principal) -> Self {
        Self { host: host.to_owned(), repository: repository.to_owned(), principal }
    }

    /// What everyone may read, this principal may too.
    pub(crate) fn has(&self, store: &Store, digest: &Digest) -> bool {
        self.has_in(store, &self.repository, digest)
    }

    /// Whether every layer of the manifest `digest` has been granted at once.
    pub(crate) fn has_all_layers(&self, store: &Store, digest: &Digest) -> bool {
        self.has_in(store, &self.all_layers(), digest)
    }

    pub(crate) fn grant(&self, store: &Store, digest: &Digest) -> Result<(), PublishError> {
        store
            .grants()
            .put(&self.host, &self.repository, digest, &self.principal)
            .map_err(store_error("record a grant"))
    }

    pub(crate) fn grant_all_layers(&self, store: &Store, digest: &Digest) -> Result<(), PublishError> {
        store
            .grants()
            .put(&self.host, &self.all_layers(), digest, &self.principal)
            .map_err(store_error("record a grant"))
    }

    /// One value for all who would get the same grants.
    pub(crate) fn authority(&self, store: &Store) -> [u8; 32] {
        store.grants().authority(&self.host, &self.repository, &self.principal)
    }

    /// Notes that this host has delivered every byte of `digest` to this node.
    fn delivered(&self, store: &Store, digest: &Digest) -> Result<(), PublishError> {
        store.grants().put_origin(&self.host, digest).map_err(store_error("record an origin"))
    }

    fn has_in(&self, store: &Store, repository: &str, digest: &Digest) -> bool {
        let grants = store.grants();
        grants.has(&self.host, repository, digest, &self.principal)
            || grants.has(&self.host, repository, digest, &Principal::Anonymous)
    }

    /// No repository name contains `#`, so this name of its own cannot be confused with one.
    fn all_layers(&self) -> String {
        format!("{}#layers", self.repository)
    }
}

impl Inner {
    /// Proves access to each of `blobs`, which are in the store, and records it.
    ///
    /// A layout directory is the administrator's word that everyone may read what is in it.
    pub(crate) async fn prove_all(
        self: &Arc<Self>,
        reference: &Reference,
        origin: &Origin,
        scope: &Scope,
        blobs: Vec<(Digest, u64)>,
    ) -> Result<(), PublishError> {
        match origin {
            Origin::Registry(repository) => {
                stream::iter(blobs)
                    .map(|(digest, size)| async move {
                        self.prove(reference, repository, scope, &digest, size).await
                    })
                    .buffer_unordered(PARALLEL_PROOFS)
                    .try_collect::<()>()
                    .await
            }
            Origin::Layout(..) => {
                let (inner, scope) = (Arc::clone(self), scope.clone());
                self.blocking("record grants", move || {
                    blobs.iter().try_for_each(|(digest, _)| scope.grant(&inner.store, digest))
                })
                .await
            }
        }
    }

    /// Records that this principal's own downloads delivered the whole of each of `blobs`.
    pub(crate) async fn record_deliveries(
        self: &Arc<Self>,
        origin: &Origin,
        scope: &Scope,
        blobs: Vec<Digest>,
    ) -> Result<(), PublishError> {
        if blobs.is_empty() {
            return Ok(());
        }
        let (inner, scope) = (Arc::clone(self), scope.clone());
        let by_registry = matches!(origin, Origin::Registry(_));
        self.blocking("record grants", move || {
            for digest in &blobs {
                if by_registry {
                    scope.delivered(&inner.store, digest)?;
                }
                scope.grant(&inner.store, digest)?;
            }
            Ok(())
        })
        .await
    }

    /// Proves access to one blob of the store, unless it is known already.
    async fn prove(
        self: &Arc<Self>,
        reference: &Reference,
        repository: &Repository,
        scope: &Scope,
        digest: &Digest,
        size: u64,
    ) -> Result<(), PublishError> {
        let (inner, known, wanted) = (Arc::clone(self), scope.clone(), digest.clone());
        let (granted, origin, stored) = self
            .blocking("look for a grant", move || {
                let granted = known.has(&inner.store, &wanted);
                let origin = inner.store.grants().has_origin(&known.host, &wanted);
                Ok((granted, origin, Evidence::of(&inner.store, &wanted)?))
            })
            .await?;
        if granted {
            return Ok(());
        }
        // The declared size is the tenant's word: with one that is too small, almost nothing would have to be shown.
        if let Some((_, stored)) = &stored
            && *stored != size
        {
            let (reference, digest) = (reference.to_string(), digest.clone());
            return Err(PublishError::WrongSize { reference, digest, declared: size });
        }
        // A mirror that the administrator named for this registry has served it, after the registry had agreed.
        let believed = if origin || repository.vouches_for(digest) {
            let found = repository.head_blob(digest).await.map_err(registry_error(reference))?;
            found.ok_or_else(|| no_possession(reference, digest, repository))? == size
        } else {
            false
        };
        if !believed {
            let evidence = stored.map_or(Evidence::Stored, |(evidence, _)| evidence);
            for Probe { range, sample } in probes(size, &evidence) {
                let served = repository.read_range(digest, range.clone()).await.map_err(|error| {
                    // A registry that has the name but not the bytes shows no access to them.
                    if matches!(error, RegistryError::NotFound { .. }) {
                        no_possession(reference, digest, repository)
                    } else {
                        registry_error(reference)(error)
                    }
                })?;
                let (inner, wanted) = (Arc::clone(self), digest.clone());
                let same = self
                    .blocking("compare a blob with the registry's", move || match sample {
                        Some(sample) => Ok(sample.is(&served)),
                        // The digest decides, whether the blob itself is here or only what it decodes to.
                        None if range == (0..size) => Ok(Digest::of(wanted.algorithm(), &served) == wanted),
                        None => {
                            let file = inner.store.open_blob(&wanted).map_err(store_error("open a blob"))?;
                            let mut stored = vec![0; (range.end - range.start) as usize];
                            file.read_exact_at(&mut stored, range.start)
                                .map_err(|error| store_error("read a blob")(error.into()))?;
                            Ok(stored == served)
                        }
                    })
                    .await?;
                if !same {
                    return Err(no_possession(reference, digest, repository));
                }
            }
        }
        let (inner, scope, digest) = (Arc::clone(self), scope.clone(), digest.clone());
        self.blocking("record a grant", move || scope.grant(&inner.store, &digest)).await
    }
}

fn no_possession(reference: &Reference, digest: &Digest, repository: &Repository) -> PublishError {
    PublishError::NoGrant {
        reference: reference.to_string(),
        reason: format!(
            "{}/{} lists blob {digest} but does not serve its bytes",
            repository.registry(),
            repository.repository()
        ),
    }
}

/// What the registry's bytes are compared with.
#[derive(Clone, Debug)]
enum Evidence {
    /// The blob is in the store.
    Stored,
    /// Only what it decodes to is; of the blob itself these are remembered.
    Samples(Vec<Sample>),
}

impl Evidence {
    /// What the store has of a blob, and the blob's size.
    fn of(store: &Store, digest: &Digest) -> Result<Option<(Self, u64)>, PublishError> {
        if let Some(size) = store.blob_size(digest) {
            return Ok(Some((Self::Stored, size)));
        }
        let decoded = store.decoded(digest).map_err(store_error("look for what a blob was decoded to"))?;
        Ok(decoded.map(|decoded| (Self::Samples(decoded.samples().to_vec()), decoded.size())))
    }
}

/// A range that the registry has to serve, and what is remembered of it where the blob is not here.
#[derive(Debug)]
struct Probe {
    range: Range<u64>,
    sample: Option<Sample>,
}

/// The ranges that prove possession of a blob of `size` bytes.
fn probes(size: u64, evidence: &Evidence) -> Vec<Probe> {
    let unremembered = |range: Range<u64>| Probe { range, sample: None };
    match evidence {
        _ if size == 0 => Vec::new(),
        Evidence::Stored if size > WHOLE_BYTES => {
            let mut random = rand::rng();
            (0..SAMPLES)
                .map(|_| {
                    let start = random.random_range(0..=size - SAMPLE_BYTES);
                    unremembered(start..start + SAMPLE_BYTES)
                })
                .collect()
        }
        Evidence::Samples(samples) if !samples.is_empty() => samples
            .sample(&mut rand::rng(), SAMPLES as usize)
            .map(|sample| Probe { range: sample.range(), sample: Some(sample.clone()) })
            .collect(),
        Evidence::Stored | Evidence::Samples(_) => vec![unremembered(0..size)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_blobs_are_read_whole_and_large_ones_sampled_within_bounds() {
        let ranges = |size: u64| -> Vec<Range<u64>> {
            probes(size, &Evidence::Stored).into_iter().map(|probe| probe.range).collect()
        };
        assert!(ranges(0).is_empty());
        for size in [5, WHOLE_BYTES] {
            assert!(ranges(size).into_iter().eq(std::iter::once(0..size)), "{size}");
            assert!(
                probes(size, &Evidence::Samples(Vec::new())).iter().all(|probe| probe.range == (0..size))
            );
        }
        for size in [WHOLE_BYTES + 1, 10 << 30] {
            let ranges = ranges(size);
            assert_eq!(ranges.len() as u64, SAMPLES);
            assert!(ranges.iter().all(|range| range.end <= size && range.end - range.start == SAMPLE_BYTES));
        }
        assert_ne!(ranges(10 << 30), ranges(10 << 30), "the ranges must not be guessable");
    }
}
