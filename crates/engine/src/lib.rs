//! The download engine: blobs of untrusted sources become verified blobs of the store.
//!
//! ```text
//! join(digest, source) -> Ticket        one flight per digest, however many wait for it
//!   flight      who waits, and whose source may be used
//!   small       a blob of a few KiB: read whole, committed together with others
//!   transfer    one pass over the missing ranges: parts, connections, the end
//!     pace        how fast each connection is: slow ones make way, slow parts are shared out
//!     connection  one body of a source -> buffers of 256 KiB -> a writer thread -> the ingest
//!     prefix      one thread per blob: the digest follows the contiguous prefix
//! ```
//!
//! A flight lives as long as somebody is interested: every ticket brings its own source, and a source leaves
//! with its ticket. What has arrived stays in the store's ingest whatever the end, so the next flight of the
//! same digest goes on from there. The engine knows neither HTTP nor the disk's layout.
//!
//! Locks, in this order, none of them held across an await: the map of flights, one transfer's plan, one
//! flight's state.

#![forbid(unsafe_code)]

mod batch;
mod buffer;
mod byte_rate;
mod connection;
mod engine;
mod error;
mod flight;
mod gate;
mod health;
mod oci_layout;
mod options;
mod pace;
mod parts;
mod prefix;
mod runner;
mod small;
mod stats;
mod ticket;
mod transfer;
mod writer;

pub use engine::Engine;
pub use error::FetchError;
pub use oci_layout::{OciLayoutError, OciLayoutSource};
pub use options::EngineOptions;
pub use stats::EngineStats;
pub use ticket::{FetchRequest, Fetched, Progress, Ticket};
