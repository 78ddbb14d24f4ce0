//! From a complete download to a blob.

use std::ops::Range;
use std::sync::atomic::Ordering;

use stowage_artifact::digest::{Digest, Hasher};

use super::{Ingest, IngestError, decode_error, discard};
use crate::decode::Decoding;
use crate::io::IoError;
use crate::names::{self, Sibling};

/// Why a download did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Bytes are missing; the writer can go on.
    #[error("blob {digest} is not complete: {} bytes in {} ranges are missing", missing.iter().map(|r| r.end - r.start).sum::<u64>(), missing.len())]
    Incomplete {
        /// The blob.
        digest: Digest,
        /// What has not arrived.
        missing: Vec<Range<u64>>,
    },
    /// The bytes are not those of the digest; they are in quarantine.
    #[error("the bytes that arrived for blob {expected} have the digest {found}; they are in quarantine")]
    DigestMismatch {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// The file does not have the length that was written.
    #[error("the file of blob {digest} has {found} bytes on the disk instead of {size}; it was removed")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The length of the file.
        found: u64,
    },
    /// The disk, or an end of the writer before.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl From<IoError> for CommitError {
    fn from(error: IoError) -> Self {
        Self::Ingest(IngestError::Io(error))
    }
}

impl Ingest {
    pub(super) fn commit(&self) -> Result<(), CommitError> {
        let mut prefix = self.prefix();
        let missing = self.live()?.arrived.gaps(self.size);
        if !missing.is_empty() {
            return Err(CommitError::Incomplete { digest: self.digest.clone(), missing });
        }
        self.advance(&mut prefix, u64::MAX)?;
        let hasher = std::mem::replace(&mut prefix.hasher, Hasher::new(self.digest.algorithm()));
        let found = hasher.finish();
        if found != self.digest {
            self.condemn(&found);
            return Err(CommitError::DigestMismatch { expected: self.digest.clone(), found });
        }
        // A checkpoint under way ends first: the kernel reports a failed sync to only one caller.
        let _syncing = self.syncing();
        drop(self.live()?);
        let decoded = prefix.decoding.take().map_or(Ok(false), |decoding| self.finish_decoding(decoding))?;
        if !decoded || self.keep_encoded.load(Ordering::Acquire) {
            self.seal()?;
        }
        self.close("it was committed");
        self.clean_up();
        Ok(())
    }

    /// Whether the plain bytes are a blob now. Bytes that are not what they are said to be stay as they are.
    fn finish_decoding(&self, decoding: Decoding) -> Result<bool, CommitError> {
        match decoding.finish() {
            Ok(_) => Ok(true),
            Err(error) if error.is_final() => {
                tracing::debug!(digest = %self.digest, %error, "kept as it is");
                Ok(false)
            }
            // What has arrived stays for the next try.
            Err(error) => {
                self.close("it could not be decoded");
                Err(CommitError::Ingest(decode_error(error)))
            }
        }
    }

    /// chmod, times, sync, size, rename, sync of the directory. Any error removes everything.
    fn seal(&self) -> Result<(), CommitError> {
        let sealed = self
            .data
            .chmod("blob.chmod", Sibling::BASE.mode())
            .and_then(|()| self.data.fix_times("blob.times"))
            .and_then(|()| self.data.sync("blob.sync"))
            .and_then(|()| self.data.length());
        match sealed {
            Ok(length) if length == self.size => {}
            Ok(found) => {
                self.remove("its file has the wrong length");
                return Err(CommitError::WrongSize { digest: self.digest.clone(), size: self.size, found });
            }
            Err(error) => return Err(self.seal_failed(error)),
        }
        self.store
            .publish_blob(&self.dir, names::DATA, &self.digest, Sibling::BASE)
            .map_err(|error| self.seal_failed(error))
    }

    fn seal_failed(&self, error: IoError) -> CommitError {
        self.fail(&error);
        CommitError::Ingest(self.write_error(error, 0))
    }

    /// Wrong bytes: kept aside for the administrator, out of everybody's way.
    fn condemn(&self, found: &Digest) {
        let _syncing = self.syncing();
        let reason = format!("the registry delivered bytes with the digest {found}");
        if let Err(error) = self.store.quarantine_file(&self.dir, names::DATA, &self.digest, &reason) {
            tracing::warn!(digest = %self.digest, %error, "wrong bytes cannot be moved to quarantine; removing them");
        }
        self.remove(&reason);
    }

    fn remove(&self, reason: &str) {
        self.close(reason);
        self.clean_up();
    }

    fn close(&self, reason: &str) {
        self.state().end = Some(reason.to_owned());
        self.ended.store(true, Ordering::Release);
    }

    /// What is left is no longer needed; the next start finds it if this fails.
    fn clean_up(&self) {
        if let Err(error) = discard(&self.store, &self.digest, self.size) {
            tracing::debug!(digest = %self.digest, %error, "the rest of a download cannot be removed now");
        }
    }
}
