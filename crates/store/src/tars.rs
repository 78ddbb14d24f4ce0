//! What a tar holds, found by its headers: the data between them is passed over.

use stowage_artifact::digest::Digest;
use stowage_erofs::{TarError, TarIndex, TarIndexer};

use crate::error::StoreError;
use crate::store::Inner;

/// Behind a header that was jumped to, little is read: the next thing is likely to be another jump ...
const LEAST_STEP: usize = 4 << 10;
/// ... and more and more where one small member follows the other.
const MOST_STEP: usize = 256 << 10;

/// Why there is no list of a tar's members.
#[derive(Debug)]
pub(crate) enum ScanError {
    Tar(TarError),
    Store(StoreError),
}

impl Inner {
    /// The members of a tar that is a blob. Its bytes were compared with its digest when it was committed.
    pub(crate) fn tar_index(&self, digest: &Digest) -> Result<TarIndex, ScanError> {
        let file = self.open_blob(digest).map_err(ScanError::Store)?;
        let io = |error: crate::io::IoError| ScanError::Store(error.into());
        let length = file.length().map_err(io)?;
        let mut indexer = TarIndexer::new();
        let mut buffer = vec![0; MOST_STEP];
        let (mut at, mut step) = (0, LEAST_STEP);
        while at < length {
            let skip = indexer.skippable().min(length - at);
            indexer.skip(skip);
            at += skip;
            let size = step.min((length - at) as usize);
            let mut bytes = &mut buffer[..size];
            file.read_at("tar.read", at, bytes).map_err(io)?;
            at += size as u64;
            step = (step * 2).min(MOST_STEP);
            while !bytes.is_empty() {
                let skip = indexer.skippable();
                if skip > bytes.len() as u64 {
                    indexer.skip(bytes.len() as u64);
                    step = LEAST_STEP;
                    break;
                }
                indexer.skip(skip);
                bytes = &mut bytes[skip as usize..];
                // One block at a time, because each can be the beginning of something that is passed over.
                let block = bytes.len().min(stowage_erofs::BLOCK as usize);
                indexer.push(&bytes[..block]).map_err(ScanError::Tar)?;
                bytes = &mut bytes[block..];
            }
        }
        indexer.finish().map_err(ScanError::Tar)
    }
}
