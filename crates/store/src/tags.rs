//! What a reference was last resolved to, so that a volume can be published from the cache without the network.
//!
//! A tag is a memory, no root: the manifest behind it may be collected, and then the tag goes too.

use serde::{Deserialize, Serialize};
use stowage_artifact::digest::{Algorithm, Digest};

use crate::error::StoreError;
use crate::io::gone_is_fine;
use crate::store::Store;

#[derive(Serialize, Deserialize)]
struct Tag {
    digest: Digest,
}

fn file_name(name: &str) -> String {
    format!("{}.json", Digest::of(Algorithm::Sha256, name.as_bytes()).hex())
}

impl Store {
    /// Remembers what `name` was resolved to.
    pub fn put_tag(&self, name: &str, digest: &Digest) -> Result<(), StoreError> {
        if self.tag(name)?.as_ref() == Some(digest) {
            return Ok(());
        }
        let dir = &self.inner().dirs.tags;
        let file = file_name(name);
        let bytes = serde_json::to_vec(&Tag { digest: digest.clone() }).map_err(|error| {
            StoreError::Unreadable { path: dir.io().full(&dir.path().join(&file)), reason: error.to_string() }
        })?;
        Ok(dir.replace("tag.write", &file, &bytes, false)?)
    }

    /// What `name` was last resolved to; an unreadable memory is none.
    pub fn tag(&self, name: &str) -> Result<Option<Digest>, StoreError> {
        match self.inner().dirs.tags.read("tag.read", &file_name(name)) {
            Ok(bytes) => Ok(serde_json::from_slice::<Tag>(&bytes).ok().map(|tag| tag.digest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets the tags whose manifest is no longer in the store.
    pub(crate) fn prune_tags(&self) -> Result<(), StoreError> {
        let dir = &self.inner().dirs.tags;
        for name in dir.names()? {
            let digest = match dir.read("tag.read", &name) {
                Ok(bytes) => serde_json::from_slice::<Tag>(&bytes).ok().map(|tag| tag.digest),
                Err(error) if error.is_not_found() => continue,
                Err(_) => None,
            };
            let live = digest.is_some_and(|digest| self.blob_size(&digest).is_some());
            if !live && !crate::names::is_temporary(&name) {
                gone_is_fine(dir.unlink("tag.remove", &name))?;
            }
        }
        Ok(())
    }
}
