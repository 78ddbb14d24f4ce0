//! Tags, manifests and small blobs of a repository, from whichever host delivers them.

use bytes::Bytes;
use stowage_artifact::{Descriptor, Digest, Reference};

use crate::backoff::Tries;
use crate::dossier::Kind;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::manifest::RawManifest;
use crate::mirrors::{Effort, is_answer};
use crate::repository::Repository;
use crate::route::{Mirror, Route, Stop};

/// A document that has a digest.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Manifest(&'a Digest),
    Blob(&'a Descriptor),
}

impl Wanted<'_> {
    fn digest(&self) -> &Digest {
        match self {
            Self::Manifest(digest) => digest,
            Self::Blob(descriptor) => &descriptor.digest,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Manifest(_) => Kind::Manifest,
            Self::Blob(_) => Kind::Blob,
        }
    }

    /// One try at one host. The bytes have the digest.
    async fn read(&self, endpoint: &Endpoint, what: &str) -> Result<RawManifest, RegistryError> {
        match self {
            Self::Manifest(digest) => endpoint.manifest(digest.as_str(), Some(digest), what).await,
            Self::Blob(descriptor) => {
                let (digest, bytes) =
                    (descriptor.digest.clone(), endpoint.small_blob(descriptor, what).await?);
                Ok(RawManifest { digest, media_type: None, bytes })
            }
        }
    }
}

impl Repository {
    /// The digest that a reference stands for now. A reference with a digest is its own answer; a tag costs a
    /// HEAD, or a GET where the registry does not say the digest in a HEAD.
    ///
    /// Mirrors are asked where an administrator gave them the capability; what they say counts once the registry
    /// has shown that this credential may read that manifest.
    pub async fn resolve(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        if let Some(digest) = reference.digest() {
            return Ok(digest.clone());
        }
        let tag = reference.tag_or_latest();
        let what = format!("resolve {}:{tag}", self.describe_text());
        let route = self.route(&what).await?;
        let mut failed = None;
        for hop in route.hops.iter().filter(|hop| hop.resolve) {
            let found = match &hop.stop {
                Stop::Registry => self.resolve_at_registry(&route, tag, &what).await.map(Some),
                Stop::Mirror(mirror) => self.resolve_at_mirror(&route, mirror, tag, &what).await,
            };
            match found {
                Ok(Some(digest)) => return Ok(digest),
                Ok(None) => {}
                Err(error) if is_answer(&error) => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| route.nobody(&what, "resolve")))
    }

    async fn resolve_at_registry(
        &self,
        route: &Route,
        tag: &str,
        what: &str,
    ) -> Result<Digest, RegistryError> {
        let mut tries = Tries::new(&self.inner().options);
        loop {
            match route.registry.resolve(tag, what).await {
                Ok(digest) => return Ok(digest),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// What a mirror says, if it says something that the registry has, too.
    async fn resolve_at_mirror(
        &self,
        route: &Route,
        mirror: &Mirror,
        tag: &str,
        what: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        if mirror.rests() {
            return Ok(None);
        }
        let digest = match mirror.endpoint.resolve(tag, what).await {
            Ok(digest) => digest,
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => {
                mirror.failed(&error);
                return Ok(None);
            }
        };
        if mirror.authoritative {
            return Ok(Some(digest));
        }
        match self.permit(route, Kind::Manifest, &digest, Effort::Patient).await {
            Ok(_) => Ok(Some(digest)),
            Err(RegistryError::NotFound { .. }) => {
                tracing::debug!(mirror = %mirror.name, tag, %digest, "a mirror names a manifest that is gone");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The manifest of a reference: by its digest if it has one, else by its tag.
    pub async fn manifest(&self, reference: &Reference) -> Result<RawManifest, RegistryError> {
        if let Some(digest) = reference.digest() {
            return self.manifest_by_digest(digest).await;
        }
        let tag = reference.tag_or_latest();
        let what = format!("read manifest {}:{tag}", self.describe_text());
        let route = self.route(&what).await?;
        if !route.is_straight() {
            return self.manifest_by_digest(&self.resolve(reference).await?).await;
        }
        let mut patience = Patience::new(self);
        loop {
            match route.registry.manifest(tag, None, &what).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => patience.again(error).await?,
            }
        }
    }

    /// The manifest with this digest.
    pub async fn manifest_by_digest(&self, digest: &Digest) -> Result<RawManifest, RegistryError> {
        let what = format!("read manifest {}@{digest}", self.describe_text());
        self.document(Wanted::Manifest(digest), &what).await
    }

    /// A whole blob of at most `max` bytes, with its size and digest checked.
    pub async fn small_blob(&self, descriptor: &Descriptor, max: u64) -> Result<Bytes, RegistryError> {
        let what = self.blob_text(&descriptor.digest);
        if descriptor.size > max {
            return Err(RegistryError::TooLarge { what, limit: max });
        }
        Ok(self.document(Wanted::Blob(descriptor), &what).await?.bytes)
    }

    /// Whether the repository still has this manifest and lets us read it. 404 is `false`, 401 and 403 are
    /// errors.
    pub async fn head_manifest(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let what = format!("look up manifest {}@{digest}", self.describe_text());
        let route = self.route(&what).await?;
        let mut tries = Tries::new(&self.inner().options);
        loop {
            match route.registry.head_manifest(digest, &what).await {
                Ok(found) => return Ok(found),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// A document from the first host that delivers it.
    async fn document(&self, wanted: Wanted<'_>, what: &str) -> Result<RawManifest, RegistryError> {
        let route = self.route(what).await?;
        // Whether the registry did not answer when it was asked for permission.
        let (mut failed, mut silent) = (None, false);
        for hop in route.hops.iter().filter(|hop| hop.pull) {
            let found = match &hop.stop {
                stop if silent && stop.needs_permission() => continue,
                Stop::Registry => self.document_at_registry(&route, wanted, what).await.map(Some),
                Stop::Mirror(mirror) => self.document_at_mirror(&route, mirror, wanted, what).await,
            };
            match found {
                Ok(Some(document)) => return Ok(document),
                Ok(None) => {}
                Err(error) if is_answer(&error) => return Err(error),
                Err(error) => {
                    silent |= error.is_transient() && matches!(hop.stop, Stop::Mirror(_));
                    failed = failed.or(Some(error));
                }
            }
        }
        if failed.is_none() && !route.named && !route.has_registry() {
            return self.document_at_registry(&route, wanted, what).await;
        }
        Err(failed.unwrap_or_else(|| route.nobody(what, "pull")))
    }

    async fn document_at_registry(
        &self,
        route: &Route,
        wanted: Wanted<'_>,
        what: &str,
    ) -> Result<RawManifest, RegistryError> {
        let mut patience = Patience::new(self);
        loop {
            match wanted.read(&route.registry, what).await {
                Ok(document) => return Ok(document),
                Err(error) => patience.again(error).await?,
            }
        }
    }

    async fn document_at_mirror(
        &self,
        route: &Route,
        mirror: &Mirror,
        wanted: Wanted<'_>,
        what: &str,
    ) -> Result<Option<RawManifest>, RegistryError> {
        let (kind, digest) = (wanted.kind(), wanted.digest());
        // By `_default` the registry must show the bytes itself, which for a document is reading it.
        let believed = route.named || mirror.authoritative;
        if !believed || !self.is_usable(mirror, kind, digest) {
            return Ok(None);
        }
        if !mirror.authoritative {
            self.permit(route, kind, digest, Effort::Patient).await?;
        }
        match wanted.read(&mirror.endpoint, what).await {
            Ok(document) => Ok(Some(document)),
            Err(error) => {
                self.mirror_failed(mirror, kind, digest, &error);
                Ok(None)
            }
        }
    }
}

/// The tries that a document has at the registry.
struct Patience<'a> {
    tries: Tries<'a>,
    corrupted: bool,
}

impl<'a> Patience<'a> {
    fn new(repository: &'a Repository) -> Self {
        Self { tries: Tries::new(&repository.inner().options), corrupted: false }
    }

    /// Waits before the next try, or gives the error back when there is none.
    async fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        // A bit may have flipped on the way; twice is a lie.
        if matches!(error, RegistryError::DigestMismatch { .. }) && !self.corrupted {
            self.corrupted = true;
            return Ok(());
        }
        self.tries.again(error).await
    }
}
