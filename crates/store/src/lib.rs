//! The store on a node's disk: blobs, downloads in progress, views, volume records, grants, and their collection.
//!
//! Everything blocks; nothing here knows HTTP, gRPC or Kubernetes. [`BlobSource`] is where bytes come from,
//! [`IngestWriter`] is where they go.
//!
//! ```text
//! <store>/                             0700, one filesystem
//! ├── format.json                      version and feature flags
//! ├── node.lock                        exclusive flock: one writer, which names its process
//! ├── admin.sock                       0600: the CLI's way to the process that has the store
//! ├── blobs/<alg>/ab/<hex>             complete, verified, synced; 0444, never written again
//! │                  <hex>.1 .2 …      further inodes, where one has all the links that it can have
//! │                  <hex>.x .x.1 …    executable inodes (0555) of ELF files and scripts up to 64 MiB
//! ├── decoded/<alg>-<hex>.json         which blob a compressed one was decoded to
//! ├── ingest/<alg>-<hex>-<size>/data journal  a download: its bytes, and which of them have arrived and are durable
//! ├── views/<sha256>.<n>/tree/         directories 0555, files are hard links into blobs/
//! │                     image.erofs    what the tars hold, pointing into them; only where there are tars
//! │                     view.json      what the view shows; its mtime is "last used"
//! │                     condemned      why it gets no new volumes
//! ├── volumes/<sha256>.json            one record for each volume at each target
//! ├── tags/<sha256>.json               what a reference was last resolved to; a memory, no root
//! ├── grants/key log                   keyed fingerprints of who has proved access; never a credential
//! ├── empty/                           always empty: the second layer of read-only overlays
//! ├── quarantine/<alg>-<hex>/          bad bytes and the reason
//! └── trash/                           renamed away, being deleted
//! ```
//!
//! # References
//!
//! The roots of collection are volume records, pending or mounted, and running downloads. A record keeps its view, its
//! manifest and the blobs that it names; a view on the disk keeps its blobs; a view that is being built keeps
//! them while it is. Nothing else keeps anything: whoever needs something for a moment writes a pending record
//! first ([`Store::pin`]).
//!
//! # Locks
//!
//! In this order: target, view, flight, refs. The first and third belong to the callers. The view's lock is taken
//! by [`Store::build_view`] for one hash. `refs` is a mutex over what is in memory: publishers check and record under it,
//! collection decides and renames under it, and nothing waits under it for a sync or for the network. None is held
//! across the network.
//!
//! # What may be lost
//!
//! A blob is committed by write, chmod, times, fsync, comparison of size and digest, rename, fsync of the directory: after a
//! power cut it is complete and verified, or it is not there. Of a download, the bytes whose record is `durable`
//! survive a power cut, those whose record is `arrived` survive the death of the process. A sync that fails is never
//! tried again: what it was to save is removed.
#![forbid(unsafe_code)]

pub mod admin;
mod admission;
mod blobs;
mod collect;
mod decode;
mod error;
mod format;
mod fsck;
mod grants;
mod ingest;
pub mod io;
mod keyed;
mod lock;
mod names;
mod options;
mod quarantine;
mod records;
mod refs;
mod siblings;
mod source;
mod store;
mod tags;
mod tars;
mod times;
mod trash;
mod usage;
mod views;
mod worker;

pub use admission::{Admission, AdmitError};
pub use blobs::WholeBlob;
pub use collect::{CollectOptions, CollectReport};
pub use decode::{DecodeError, DecodedBlob, Sample};
pub use error::{OpenError, StoreError};
pub use fsck::{FsckReport, Problem, ProblemKind};
pub use grants::{Grants, Principal, ServiceAccount};
pub use ingest::{CommitError, IngestError, IngestWriter};
pub use options::{MadeUpSpace, MinFree, StoreOptions, Testing, Watermarks};
pub use quarantine::Scrubbed;
pub use records::{RecordState, VolumeRecord};
pub use source::{BlobBody, BlobSource, SourceError, SourceErrorKind};
pub use store::Store;
pub use stowage_erofs::ImageError;
pub use usage::{ListEntry, ListKind, Usage};
pub use views::{View, ViewError, ViewFilesystem, ViewImage, ViewKey, ViewSpec};
