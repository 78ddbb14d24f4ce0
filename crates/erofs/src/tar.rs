//! Reading a tar as a stream: ustar and pax (POSIX.1-2017, pax, "Extended Description"), GNU, star and V7.

mod error;
mod header;
mod indexer;
mod number;
mod pax;

pub use error::TarError;
pub(crate) use error::printable;
pub use indexer::TarIndexer;

/// The most members that a tar may have.
pub const MAX_MEMBERS: usize = 5_000_000;
/// The longest pax header or GNU long name, in bytes.
pub const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// How many extension headers may stand before one member.
pub const MAX_EXTENSIONS: u32 = 64;
/// The longest name or link target of a member, in bytes. What a volume may hold is shorter.
pub const MAX_NAME_BYTES: usize = 65_535;
/// All names and link targets of a tar together, in bytes.
pub const MAX_NAMES_BYTES: usize = 1 << 30;
