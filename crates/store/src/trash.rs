//! Removal: a rename to `trash/` under the `refs` lock, then the deletion without it.

use stowage_artifact::digest::Digest;

use crate::error::StoreError;
use crate::io::IoError;
use crate::names::{self, Sibling};
use crate::store::{Inner, Store};

/// What a removal has freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl Inner {
    /// Removes a view unless a record uses it. Says whether it went.
    pub(crate) fn remove_unused_view(&self, id: &str) -> Result<bool, IoError> {
        let name = self.io.temporary("view");
        {
            let mut refs = self.refs();
            if refs.is_view_used(id) || refs.view(id).is_none() {
                return Ok(false);
            }
            self.dirs.views.rename("trash.view", id, &self.dirs.trash, &name)?;
            refs.remove_view(id);
        }
        // Before anything beneath it goes, and before its blobs go: after a power cut a view is whole or not there.
        self.dirs.views.sync("trash.dirsync")?;
        self.empty(&name);
        Ok(true)
    }

    /// Takes a view back that was published a moment ago and cannot stay.
    pub(crate) fn trash_view(&self, id: &str) -> Result<(), IoError> {
        self.remove_unused_view(id).map(drop)
    }

    /// Removes a blob and its siblings unless something refers to it. `None` when it stays.
    pub(crate) fn remove_unused_blob(&self, digest: &Digest) -> Result<Option<Freed>, IoError> {
        let (mut freed, mut rubbish) = (Freed::default(), Vec::new());
        {
            let refs = self.refs();
            if refs.is_blob_rooted(digest) || refs.is_blob_in_view(digest) {
                return Ok(None);
            }
            // The base goes last: while it is there the blob is complete.
            for sibling in self.siblings_of(digest)?.into_iter().rev() {
                let Some(found) = self.blob_stat(digest, sibling)? else { continue };
                let name = self.io.temporary("blob");
                let path = crate::blobs::blob_path(digest, sibling);
                self.dirs.blobs.rename("trash.blob", &path, &self.dirs.trash, &name)?;
                freed.bytes += found.disk_bytes;
                freed.inodes += 1;
                rubbish.push(name);
            }
        }
        if rubbish.is_empty() {
            return Ok(None);
        }
        self.grants.forget(digest);
        for name in rubbish {
            self.empty(&name);
        }
        Ok(Some(freed))
    }

    /// Removes what a download has left unless somebody is writing it. Says whether it went.
    pub(crate) fn remove_idle_ingest(&self, digest: &Digest, size: u64) -> Result<bool, IoError> {
        let name = self.io.temporary("ingest");
        {
            let refs = self.refs();
            if refs.is_ingesting(digest, size) {
                return Ok(false);
            }
            let from = names::ingest(digest, size);
            match self.dirs.ingest.rename("trash.ingest", &from, &self.dirs.trash, &name) {
                Err(error) if error.is_not_found() => return Ok(false),
                moved => moved?,
            }
        }
        self.empty(&name);
        Ok(true)
    }

    /// Deletes one thing in `trash/`; what cannot be deleted now waits for the next start.
    fn empty(&self, name: &str) {
        if let Err(error) = self.dirs.trash.remove_all("trash.remove", name) {
            tracing::debug!(%error, "rubbish stays until the next start");
        }
    }
}

impl Store {
    /// Removes a blob by hand; refuses one that is referred to.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        let inner = self.inner();
        inner.load_views();
        inner.load_decoded()?;
        if let Some(by) = inner.refs().user_of_blob(digest) {
            return Err(StoreError::InUse { what: format!("blob {digest}"), by });
        }
        match inner.remove_unused_blob(digest)? {
            Some(_) => Ok(()),
            None if self.blob_size(digest).is_none() => Err(StoreError::NoSuchBlob(digest.clone())),
            None => {
                Err(StoreError::InUse { what: format!("blob {digest}"), by: "a new reference".to_owned() })
            }
        }
    }

    /// Removes a view by hand, and the blobs that nothing else refers to; refuses one that a volume uses.
    pub fn remove_view(&self, id: &str) -> Result<(), StoreError> {
        let inner = self.inner();
        inner.load_views();
        inner.load_decoded()?;
        let summary = inner.view_summary(id).ok().flatten();
        let (known, user) = {
            let refs = inner.refs();
            (refs.view(id).is_some(), refs.user_of_view(id))
        };
        if !known {
            return Err(StoreError::NoSuchView(id.to_owned()));
        }
        if let Some(by) = user {
            return Err(StoreError::InUse { what: format!("view {id}"), by });
        }
        if !inner.remove_unused_view(id)? {
            return Err(StoreError::InUse { what: format!("view {id}"), by: "a new volume".to_owned() });
        }
        for digest in summary.iter().flat_map(|summary| summary.blobs()) {
            inner.remove_unused_blob(digest)?;
        }
        Ok(())
    }

    /// Removes a blob by its digest, or a view by its id.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        if let Ok(digest) = name.parse::<Digest>() {
            return self.remove_blob(&digest);
        }
        match names::parse_view(name) {
            Some(_) => self.remove_view(name),
            None => Err(StoreError::BadName(name.to_owned())),
        }
    }
}

/// What one start removes of the leftovers of earlier processes, in the background.
pub(crate) struct Leftovers {
    pub(crate) names: Vec<(crate::io::Dir, String)>,
}

impl Store {
    /// Finds what earlier processes left behind, and hands it to the background to delete.
    ///
    /// Only names are looked at: staging directories, rubbish, temporary files, and downloads whose file is gone
    /// because they were committed. Downloads that can be resumed stay.
    pub(crate) fn repair_leftovers(&self) -> Result<(), IoError> {
        let inner = self.inner();
        let leftovers = inner.find_leftovers()?;
        if leftovers.names.is_empty() {
            return Ok(());
        }
        tracing::debug!(count = leftovers.names.len(), "removing what an earlier process left behind");
        inner.worker.submit(move || leftovers.remove());
        Ok(())
    }
}

impl Inner {
    pub(crate) fn find_leftovers(&self) -> Result<Leftovers, IoError> {
        let mut found = Vec::new();
        for name in self.dirs.trash.names()? {
            found.push((self.dirs.trash.clone(), name));
        }
        for dir in [
            &self.dirs.views,
            &self.dirs.volumes,
            &self.dirs.tags,
            &self.dirs.decoded,
            &self.dirs.ingest,
            &self.dirs.quarantine,
        ] {
            for name in dir.names()?.into_iter().filter(|name| names::is_temporary(name)) {
                found.push((dir.clone(), name));
            }
        }
        for name in self.dirs.ingest.names()? {
            let Some((digest, size)) = names::parse_ingest(&name) else { continue };
            let committed = self.dirs.ingest.stat(&format!("{name}/{}", names::DATA))?.is_none()
                || self.blob_stat(&digest, Sibling::BASE)?.is_some();
            if committed && !self.refs().is_ingesting(&digest, size) {
                found.push((self.dirs.ingest.clone(), name));
            }
        }
        found.retain(|(_, name)| !self.io.is_own_temporary(name));
        Ok(Leftovers { names: found })
    }
}

impl Leftovers {
    pub(crate) fn remove(self) {
        for (dir, name) in self.names {
            if let Err(error) = dir.remove_all("leftover.remove", &name) {
                tracing::warn!(%error, "a leftover cannot be removed; the next start tries again");
            }
        }
    }
}
