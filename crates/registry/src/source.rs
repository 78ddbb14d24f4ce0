//! Blobs of a repository: what the download engine reads, and what grants are proven with.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use stowage_artifact::Digest;
use stowage_store::{BlobBody, BlobSource, SourceError};

use tokio::time::timeout;

use crate::backoff::Tries;
use crate::blob::Opened;
use crate::dossier::Kind;
use crate::error::RegistryError;
use crate::mirrors::{Effort, SHOWN_WHOLE, is_answer};
use crate::repository::Repository;
use crate::route::{Mirror, Route, Stop};

impl Repository {
    /// The size of a blob, or `None` when the repository does not have it. 401 and 403 are errors. Mirrors are
    /// not asked, unless they are authoritative.
    pub async fn head_blob(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let what = format!("look up blob {digest} in {}", self.describe_text());
        let route = self.route(&what).await?;
        for mirror in self.usable_authorities(&route, Kind::Blob, digest) {
            match mirror.endpoint.head_blob(digest, &what).await {
                Ok(Some(size)) => return Ok(Some(size)),
                Ok(None) => {}
                Err(error) => self.mirror_failed(&mirror, Kind::Blob, digest, &error),
            }
        }
        let mut tries = Tries::new(&self.inner().options);
        loop {
            match route.registry.head_blob(digest, &what).await {
                Ok(size) => return Ok(size),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// Exactly the bytes of a range, not checked against the digest. From a server without ranges the blob is
    /// read up to the end of the range. Mirrors are not asked, unless they are authoritative.
    pub async fn read_range(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, RegistryError> {
        let what = self.blob_text(digest);
        let length = range.end.saturating_sub(range.start);
        let route = self.route(&what).await?;
        for mirror in self.usable_authorities(&route, Kind::Blob, digest) {
            match mirror.endpoint.collect(digest, Some(&range), length, &what).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => self.mirror_failed(&mirror, Kind::Blob, digest, &error),
            }
        }
        let mut tries = Tries::new(&self.inner().options);
        loop {
            match route.registry.collect(digest, Some(&range), length, &what).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    pub(crate) fn blob_text(&self, digest: &Digest) -> String {
        format!("read blob {digest} of {}", self.describe_text())
    }

    /// A stream of a range or of the whole blob, from the first host that delivers it; which mirror that is.
    /// Bodies are not retried here: who reads knows where to go on.
    async fn open(
        &self,
        digest: &Digest,
        range: Option<&Range<u64>>,
    ) -> Result<(Opened, Option<Arc<Mirror>>), RegistryError> {
        let what = self.blob_text(digest);
        let route = self.route(&what).await?;
        // Whether the registry did not answer when it was asked for permission.
        let (mut failed, mut silent) = (None, false);
        for hop in route.hops.iter().filter(|hop| hop.pull) {
            let opened = match &hop.stop {
                stop if silent && stop.needs_permission() => continue,
                Stop::Registry => {
                    route.registry.open(digest, range, &what).await.map(|opened| Some((opened, None)))
                }
                Stop::Mirror(mirror) => self
                    .open_at_mirror(&route, mirror, digest, range, &what)
                    .await
                    .map(|opened| opened.map(|opened| (opened, Some(Arc::clone(mirror))))),
            };
            match opened {
                Ok(Some((opened, mirror))) => {
                    if opened.ranged {
                        self.dossiers().ranges_work(digest);
                    }
                    return Ok((opened, mirror));
                }
                Ok(None) => {}
                Err(error) if is_answer(&error) => return Err(error),
                Err(error) => {
                    silent |= error.is_transient() && matches!(hop.stop, Stop::Mirror(_));
                    failed = failed.or(Some(error));
                }
            }
        }
        if failed.is_none() && !route.named && !route.has_registry() {
            return Ok((route.registry.open(digest, range, &what).await?, None));
        }
        Err(failed.unwrap_or_else(|| route.nobody(&what, "pull")))
    }

    async fn open_at_mirror(
        &self,
        route: &Route,
        mirror: &Mirror,
        digest: &Digest,
        range: Option<&Range<u64>>,
        what: &str,
    ) -> Result<Option<Opened>, RegistryError> {
        if !self.is_usable(mirror, Kind::Blob, digest) {
            return Ok(None);
        }
        let mut size = None;
        if !mirror.authoritative {
            size = self.permit(route, Kind::Blob, digest, Effort::Once).await?.size;
            // The registry would have to show all of it anyway.
            if !route.named && size.is_some_and(|size| size <= SHOWN_WHOLE) {
                return Ok(None);
            }
        }
        // Redirects and tokens included, or the reader's own patience would end with the mirror's.
        let limit = self.inner().options.inactivity / 2;
        let answer = timeout(limit, mirror.endpoint.open(digest, range, what)).await;
        let opened = answer.unwrap_or_else(|_| Err(too_slow(mirror, what))).and_then(|opened| {
            self.fits(&opened, digest, range, size, &mirror.name)
                .map_err(|reason| RegistryError::Protocol { what: what.to_owned(), reason })?;
            Ok(opened)
        });
        match opened {
            Ok(opened) => {
                self.dossiers().through_mirror(digest, route.named || mirror.authoritative);
                Ok(Some(opened))
            }
            Err(error) => {
                self.mirror_failed(mirror, Kind::Blob, digest, &error);
                Ok(None)
            }
        }
    }

    /// Whether a mirror's answer can go on where others began; else why not.
    fn fits(
        &self,
        opened: &Opened,
        digest: &Digest,
        range: Option<&Range<u64>>,
        size: Option<u64>,
        mirror: &str,
    ) -> Result<(), String> {
        if let (Some(size), Some(found)) = (size, opened.size())
            && size != found
        {
            return Err(format!("{mirror} says that it has {found} bytes where the registry says {size}"));
        }
        if range.is_some() && !opened.ranged && self.dossiers().is_ranged(digest) {
            return Err(format!("{mirror} answers a request for a range with the whole blob"));
        }
        Ok(())
    }
}

fn too_slow(mirror: &Mirror, what: &str) -> RegistryError {
    let reason = format!("the mirror {} took too long to answer", mirror.name);
    RegistryError::Unavailable { what: what.to_owned(), reason, retry_after: None }
}

impl BlobSource for Repository {
    fn read<'a>(
        &'a self,
        digest: &'a Digest,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<BlobBody, SourceError>> {
        async move {
            let (opened, mirror) = self.open(digest, range.as_ref()).await?;
            let Opened { start, end, total, ranged, body } = opened;
            let mut stream = body.stream();
            let name = mirror.as_ref().map(|mirror| Arc::clone(&mirror.name));
            if let Some(mirror) = mirror {
                // The next read goes another way.
                let watched = stream.inspect(move |piece| {
                    if let Err(error) = piece {
                        mirror.broke(error);
                    }
                });
                stream = watched.boxed();
            }
            Ok(BlobBody { start, end, total, ranged, mirror: name, stream })
        }
        .boxed()
    }

    fn describe(&self) -> String {
        self.describe_text()
    }

    fn host(&self) -> &str {
        self.registry()
    }

    fn distrust(&self, digest: &Digest, mirror: &str) {
        self.distrust_mirror(digest, mirror);
    }
}
