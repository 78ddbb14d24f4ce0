//! From a reference to a plan: which digest, which manifest, which files. Fetches documents only, never blobs.

use std::sync::Arc;
use std::time::Duration;

use stowage_artifact::{
    Descriptor, Digest, Document, IndexDepth, MAX_CONFIG_BYTES, Manifest, Plan, PlanOptions, Platform,
    PullPolicy, Reference, VolumeAttributes, needs_config, plan,
};
use stowage_store::{Principal, ViewSpec};

use crate::Inner;
use crate::error::{PublishError, store_error};
use crate::origin::Origin;
use crate::plans::PlanKey;

/// How long a registry may take to say what a tag stands for that nobody waits to know.
const CONFIRM_TAG: Duration = Duration::from_secs(10);

/// A reference that has become a plan.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What was asked for.
    pub reference: Reference,
    /// What the reference named: a manifest or an index.
    pub digest: Digest,
    /// The manifest that is mounted; `digest` itself unless that is an index.
    pub manifest_digest: Digest,
    /// That manifest.
    pub manifest: Manifest,
    /// The files it becomes.
    pub plan: Plan,
    /// Manifests, and the config where it was needed: kept in the store with the volume.
    pub documents: Vec<Digest>,
    /// What the store needs to know to build or find the view.
    pub(crate) view: Arc<ViewSpec>,
    /// The hash that the view's id starts with.
    pub(crate) view_hash: String,
}

/// Resolves one reference for one principal, with the store's documents where there is a store.
pub(crate) struct Resolver<'a> {
    pub(crate) cache: Option<&'a Arc<Inner>>,
    pub(crate) origin: &'a Origin,
    pub(crate) principal: &'a Principal,
    pub(crate) attributes: &'a VolumeAttributes,
    pub(crate) platform: &'a Platform,
}

/// What a resolve has gone through.
#[derive(Debug, Default)]
struct Trail {
    /// Every document on the way.
    documents: Vec<Digest>,
    /// Whether one of them was not in the store for this principal.
    from_registry: bool,
}

impl Resolver<'_> {
    /// Resolves the attributes' reference. `pinned` is the digest that an earlier call for the volume resolved to.
    pub(crate) async fn resolve(&self, pinned: Option<Digest>) -> Result<Arc<Resolved>, PublishError> {
        let attributes = self.attributes;
        let reference = &attributes.reference;
        let digest = match pinned.or_else(|| reference.digest().cloned()) {
            Some(digest) => digest,
            None => self.resolve_tag().await?,
        };
        let key = PlanKey::new(digest.clone(), attributes);
        if let Some(inner) = self.cache
            && let Some(known) = inner.plans.get(&key)
            && self.may_read(inner, &known.documents).await?
        {
            return Ok(known);
        }
        let mut trail = Trail::default();
        let (manifest_digest, manifest, index_entry) = self.manifest(&digest, &mut trail).await?;
        let allow_filesystem_layers = self.cache.is_some_and(|inner| inner.options.allow_filesystem_layers);
        let options = PlanOptions { index_entry, allow_filesystem_layers, ..PlanOptions::from(attributes) };
        let config = if needs_config(&manifest, &options) {
            trail.documents.push(manifest.config.digest.clone());
            Some(self.config(&manifest, &mut trail).await?)
        } else {
            None
        };
        let plan = plan(&manifest, config.as_deref(), &options).map_err(|error| PublishError::Layout {
            reference: reference.to_string(),
            source: Arc::new(error),
        })?;
        if trail.from_registry {
            self.confirm_tag().await;
        }
        let view = ViewSpec::new(plan.layout.clone(), attributes).with_source(manifest_digest.clone());
        let resolved = Arc::new(Resolved {
            reference: reference.clone(),
            digest,
            manifest_digest,
            manifest,
            plan,
            documents: trail.documents,
            view_hash: view.hash(),
            view: Arc::new(view),
        });
        if let Some(inner) = self.cache {
            inner.plans.put(key, Arc::clone(&resolved));
        }
        Ok(resolved)
    }

    /// Whether all documents are in the store and this principal is known to have access to them.
    async fn may_read(&self, inner: &Arc<Inner>, documents: &[Digest]) -> Result<bool, PublishError> {
        let (work, wanted) = (Arc::clone(inner), documents.to_vec());
        let scope = self.origin.scope(self.principal);
        inner
            .blocking("look for grants", move || {
                let store = &work.store;
                Ok(wanted.iter().all(|digest| store.blob_size(digest).is_some() && scope.has(store, digest)))
            })
            .await
    }

    /// The manifest that `digest` leads to, through indexes where it names one, with the entry of the last of them; notes every
    /// document on the way.
    async fn manifest(
        &self,
        digest: &Digest,
        trail: &mut Trail,
    ) -> Result<(Digest, Manifest, Option<Descriptor>), PublishError> {
        let reference = || self.attributes.reference.to_string();
        let (mut digest, mut entry, mut depth) = (digest.clone(), None, IndexDepth::default());
        loop {
            trail.documents.push(digest.clone());
            match self.document(&digest, trail).await? {
                Document::Manifest(manifest) => return Ok((digest, manifest, entry)),
                Document::Index(index) => {
                    depth = depth.enter().map_err(|too_deep| PublishError::NestedIndex {
                        reference: reference(),
                        depth: too_deep.indexes,
                        digest: digest.clone(),
                    })?;
                    let (platform, variant) = (&self.attributes.platform, &self.attributes.variant);
                    let chosen = index
                        .select(platform.as_ref(), variant.as_ref(), self.platform)
                        .map_err(|error| PublishError::Select {
                            reference: reference(),
                            source: Arc::new(error),
                        })?
                        .clone();
                    digest = chosen.digest.clone();
                    entry = Some(chosen);
                }
            }
        }
    }

    fn never(&self) -> bool {
        self.attributes.pull_policy == PullPolicy::Never
    }

    fn not_present(&self) -> PublishError {
        PublishError::NotPresent { reference: self.attributes.reference.to_string() }
    }

    /// The digest of a tag, as the pull policy says: from the node or from the registry.
    async fn resolve_tag(&self) -> Result<Digest, PublishError> {
        let reference = &self.attributes.reference;
        let Some(inner) = self.cache else {
            return self.origin.resolve(reference).await;
        };
        if self.attributes.pull_policy != PullPolicy::Always {
            let (store, name) = (inner.store.clone(), reference.to_string());
            let known = inner
                .blocking("look for the tag", move || {
                    let digest = store.tag(&name).map_err(store_error("read the tag"))?;
                    Ok(digest.filter(|digest| store.blob_size(digest).is_some()))
                })
                .await?;
            match known {
                Some(digest) => return Ok(digest),
                None if self.never() => return Err(self.not_present()),
                None => {}
            }
        }
        let digest = self.origin.resolve(reference).await?;
        remember_tag(inner, reference, &digest).await?;
        Ok(digest)
    }

    /// Remembers the tag of a reference that has a digest too, so that a later volume may name the tag alone. Only where the
    /// registry says that it stands for that digest: the author's word for it counts for nobody else. Whatever
    /// becomes of it, the digest is what is mounted.
    async fn confirm_tag(&self) {
        let reference = &self.attributes.reference;
        let (Some(inner), Some(digest), Some(tag)) =
            (self.cache, reference.digest(), reference.without_digest())
        else {
            return;
        };
        if self.never() {
            return;
        }
        let confirmed = async {
            let found = self.origin.resolve(&tag).await?;
            if found == *digest {
                remember_tag(inner, &tag, &found).await?;
            } else {
                tracing::debug!(%tag, %found, "the tag stands for something else and is not remembered");
            }
            Ok::<_, PublishError>(())
        };
        match tokio::time::timeout(CONFIRM_TAG, confirmed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%tag, %error, "the tag is not remembered"),
            Err(_) => tracing::debug!(%tag, "the tag is not remembered: the registry takes too long"),
        }
    }

    /// A manifest or index: from the store where this principal is known to have access, else from the registry
    /// with the principal's own credential, which is the proof.
    async fn document(&self, digest: &Digest, trail: &mut Trail) -> Result<Document, PublishError> {
        if let Some(bytes) = self.stored(digest).await? {
            return self.parse(&bytes, None);
        }
        trail.from_registry = true;
        let raw = self.origin.manifest(&self.attributes.reference, digest).await?;
        // Parsed before it is kept: what cannot be mounted leaves nothing behind.
        let document = self.parse(&raw.bytes, raw.media_type.as_deref())?;
        self.keep(digest, raw.bytes).await?;
        Ok(document)
    }

    /// The config blob, for families whose file names are in it.
    async fn config(&self, manifest: &Manifest, trail: &mut Trail) -> Result<Vec<u8>, PublishError> {
        let config = &manifest.config;
        let bytes = if let Some(data) = &config.data {
            data.clone()
        } else if let Some(bytes) = self.stored(&config.digest).await? {
            return Ok(bytes);
        } else {
            trail.from_registry = true;
            self.origin.small_blob(&self.attributes.reference, config, MAX_CONFIG_BYTES).await?
        };
        self.keep(&config.digest, bytes.clone()).await?;
        Ok(bytes)
    }

    /// The document from the store, where it is there and the principal may read it.
    async fn stored(&self, digest: &Digest) -> Result<Option<Vec<u8>>, PublishError> {
        let Some(inner) = self.cache else { return Ok(None) };
        let (work, wanted) = (Arc::clone(inner), digest.clone());
        let scope = self.origin.scope(self.principal);
        let (stored, granted) = inner
            .blocking("read a manifest from the store", move || {
                Ok((work.read_small(&wanted)?, scope.has(&work.store, &wanted)))
            })
            .await?;
        match stored {
            Some(bytes) if granted => Ok(Some(bytes)),
            Some(_) if self.never() => Err(PublishError::NoGrant {
                reference: self.attributes.reference.to_string(),
                reason: "pullPolicy is Never, so the registry was not asked".to_owned(),
            }),
            None if self.never() => Err(self.not_present()),
            Some(_) | None => Ok(None),
        }
    }

    /// Stores a document that the principal has just read from the registry, and the grant that follows.
    async fn keep(&self, digest: &Digest, bytes: Vec<u8>) -> Result<(), PublishError> {
        let Some(inner) = self.cache else { return Ok(()) };
        let (store, digest) = (inner.store.clone(), digest.clone());
        let scope = self.origin.scope(self.principal);
        inner
            .blocking("store a manifest", move || {
                store.put_blob(&digest, &bytes).map_err(store_error("store a manifest"))?;
                scope.grant(&store, &digest)
            })
            .await
    }

    fn parse(&self, bytes: &[u8], media_type: Option<&str>) -> Result<Document, PublishError> {
        Document::parse(bytes, media_type).map_err(|error| PublishError::Manifest {
            reference: self.attributes.reference.to_string(),
            source: Arc::new(error),
        })
    }
}

async fn remember_tag(inner: &Arc<Inner>, tag: &Reference, digest: &Digest) -> Result<(), PublishError> {
    let (store, name, digest) = (inner.store.clone(), tag.to_string(), digest.clone());
    inner
        .blocking("remember the tag", move || {
            store.put_tag(&name, &digest).map_err(store_error("remember the tag"))
        })
        .await
}
