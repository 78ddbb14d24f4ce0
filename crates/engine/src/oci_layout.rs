//! An OCI image layout directory as a source of blobs, for `pull oci:DIR` where there is no network.
//!
//! The directory is somebody else's: names below it are opened one component at a time without following a
//! symbolic link, and only regular files are read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;
use stowage_artifact::digest::Digest;
use stowage_store::{BlobBody, BlobSource, SourceError, SourceErrorKind};
use tokio::sync::mpsc;

/// Bytes of one chunk of a body.
const CHUNK_BYTES: u64 = 256 << 10;
/// The longest `oci-layout` file that is read.
const MARKER_BYTES: u64 = 64 << 10;

/// Why a directory cannot serve as an image layout, or why a small file of it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OciLayoutError {
    /// A file is missing, unreadable, or not a plain file.
    #[error("cannot read {path} of the image layout: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The directory is not an image layout of version 1.
    #[error("{path} is not an OCI image layout of version 1: its oci-layout file says {found}")]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// A document is longer than it may be.
    #[error("{path} has {size} bytes, more than the {limit} allowed for such a document")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The most it may have.
        limit: u64,
    },
    /// A blob's bytes are not those of its name.
    #[error("blob {digest} in {path} has other bytes than its digest says; copy the layout again")]
    DigestMismatch {
        /// The directory.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
}

/// An OCI image layout directory, opened.
#[derive(Debug, Clone)]
pub struct OciLayoutSource {
    root: Arc<OwnedFd>,
    path: Arc<Path>,
    name: Arc<str>,
}

impl OciLayoutSource {
    /// Opens a directory that holds an `oci-layout` file of version 1 (image-spec, `image-layout.md`).
    /// Blocking.
    pub fn open(dir: &Path) -> Result<Self, OciLayoutError> {
        let root = open(dir, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| OciLayoutError::Io { path: dir.to_owned(), source: error.into() })?;
        let layout = Self {
            root: Arc::new(root),
            path: Arc::from(dir),
            name: Arc::from(format!("oci:{}", dir.display())),
        };
        let marker = layout.small_file(&["oci-layout"], MARKER_BYTES)?;
        let version = serde_json::from_slice::<serde_json::Value>(&marker)
            .ok()
            .and_then(|document| document.get("imageLayoutVersion")?.as_str().map(str::to_owned));
        match version {
            Some(version) if version.starts_with("1.") => Ok(layout),
            other => Err(OciLayoutError::NotALayout {
                path: dir.to_owned(),
                found: other.unwrap_or_else(|| "nothing of the kind".to_owned()),
            }),
        }
    }

    /// The bytes of `index.json`, at most `limit`. Blocking.
    pub fn index(&self, limit: u64) -> Result<Vec<u8>, OciLayoutError> {
        self.small_file(&["index.json"], limit)
    }

    /// A small blob (a manifest, a config), at most `limit` bytes, verified. Blocking.
    pub fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, OciLayoutError> {
        let algorithm = digest.algorithm();
        let bytes = self.small_file(&["blobs", &algorithm.to_string(), digest.hex()], limit)?;
        if Digest::of(algorithm, &bytes) == *digest {
            return Ok(bytes);
        }
        Err(OciLayoutError::DigestMismatch { path: self.path.to_path_buf(), digest: digest.clone() })
    }

    fn small_file(&self, names: &[&str], limit: u64) -> Result<Vec<u8>, OciLayoutError> {
        let path = names.iter().fold(self.path.to_path_buf(), |path, name| path.join(name));
        let failed = |source| OciLayoutError::Io { path: path.clone(), source };
        let (file, size) = self.file(names).map_err(failed)?;
        if size > limit {
            return Err(OciLayoutError::TooLarge { path, size, limit });
        }
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        Ok(bytes)
    }

    /// Opens a file below the root, following no link on the way, and says how long it is.
    fn file(&self, names: &[&str]) -> io::Result<(File, u64)> {
        let base = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Some((last, directories)) = names.split_last() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut at: Option<OwnedFd> = None;
        for name in directories {
            at = Some(openat(
                at.as_ref().unwrap_or(&self.root),
                *name,
                base | OFlags::DIRECTORY,
                Mode::empty(),
            )?);
        }
        // Not to hang on a FIFO that somebody has put there.
        let flags = base | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(openat(at.as_ref().unwrap_or(&self.root), *last, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok((file, metadata.len()))
    }

    fn open_blob(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<Opened, SourceError> {
        let (file, size) = self
            .file(&["blobs", &digest.algorithm().to_string(), digest.hex()])
            .map_err(|error| self.refused(digest, &error))?;
        let wanted = match range {
            None => 0..size,
            Some(range) if range.start < range.end && range.start < size => range.start..range.end.min(size),
            Some(range) => {
                let message = format!(
                    "blob {digest} in {} has {size} bytes, those from {} on were asked for",
                    self.name, range.start
                );
                return Err(SourceError::new(SourceErrorKind::RangeRefused, message));
            }
        };
        Ok(Opened { file, size, wanted })
    }

    fn refused(&self, digest: &Digest, error: &io::Error) -> SourceError {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => SourceErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => SourceErrorKind::Forbidden,
            io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => SourceErrorKind::Protocol,
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => SourceErrorKind::Protocol,
            _ => SourceErrorKind::Unavailable,
        };
        SourceError::new(kind, format!("cannot open blob {digest} in {}: {error}", self.name))
    }
}

struct Opened {
    file: File,
    size: u64,
    wanted: Range<u64>,
}

impl Opened {
    /// Reads on one blocking thread, two chunks ahead of the one who takes them, until that one leaves.
    fn stream(self, name: Arc<str>) -> BoxStream<'static, Result<Bytes, SourceError>> {
        let (sender, receiver) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            let mut at = self.wanted.start;
            while at < self.wanted.end {
                let mut chunk = vec![0; CHUNK_BYTES.min(self.wanted.end - at) as usize];
                let read = self.file.read_exact_at(&mut chunk, at);
                at += chunk.len() as u64;
                let chunk = read.map(|()| Bytes::from(chunk)).map_err(|error| {
                    SourceError::new(
                        SourceErrorKind::Unavailable,
                        format!("cannot read from {name}: {error}"),
                    )
                });
                let failed = chunk.is_err();
                if sender.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
        });
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
            .boxed()
    }
}

impl BlobSource for OciLayoutSource {
    fn read<'a>(
        &'a self,
        digest: &'a Digest,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<BlobBody, SourceError>> {
        async move {
            let (layout, digest, ranged) = (self.clone(), digest.clone(), range.is_some());
            let opened = tokio::task::spawn_blocking(move || layout.open_blob(&digest, range))
                .await
                .map_err(|_| SourceError::new(SourceErrorKind::Unavailable, "a reading task died"))??;
            Ok(BlobBody {
                start: opened.wanted.start,
                end: Some(opened.wanted.end),
                total: Some(opened.size),
                ranged,
                mirror: None,
                stream: opened.stream(Arc::clone(&self.name)),
            })
        }
        .boxed()
    }

    fn describe(&self) -> String {
        self.name.to_string()
    }

    fn host(&self) -> &str {
        &self.name
    }
}
