//! What can be wrong with a tar.

use std::fmt::Write;

use super::{MAX_EXTENSION_BYTES, MAX_EXTENSIONS, MAX_MEMBERS, MAX_NAME_BYTES, MAX_NAMES_BYTES};

/// Why bytes cannot be read as a tar. Offsets are in bytes from the start of the tar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// There is not one byte.
    #[error("the tar is empty: not even an end mark is there")]
    Empty,
    /// The first block is no tar header: this is something else.
    #[error("these bytes are no tar: the first 512 have no valid header checksum")]
    NotATar,
    /// A later header is no header.
    #[error("the tar is damaged: the header at byte {offset}{} has a wrong checksum", after(.previous.as_deref()))]
    Header {
        /// Where the header begins.
        offset: u64,
        /// The member before it.
        previous: Option<String>,
    },
    /// A number in a header cannot be read, is negative, or too large.
    #[error(
        "the tar is damaged: the {field} in the header at byte {offset} is not a number that it may have"
    )]
    Number {
        /// Where the header begins.
        offset: u64,
        /// Which number.
        field: &'static str,
    },
    /// One block of zeros that is not the end.
    #[error("the tar is damaged: a single block of zeros at byte {offset} is followed by more members")]
    StrayZeros {
        /// Where the zeros begin.
        offset: u64,
    },
    /// A pax header that is not one.
    #[error("the tar is damaged: the pax header at byte {offset} {problem}")]
    Extension {
        /// Where its header begins.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A pax header or long name beyond [`MAX_EXTENSION_BYTES`].
    #[error(
        "the tar has an extension header of {bytes} bytes at byte {offset}, and at most {MAX_EXTENSION_BYTES} are read"
    )]
    LongExtension {
        /// Where its header begins.
        offset: u64,
        /// Its length.
        bytes: u64,
    },
    /// More than [`MAX_EXTENSIONS`] extension headers in a row.
    #[error("the tar has more than {MAX_EXTENSIONS} extension headers in a row at byte {offset}")]
    ManyExtensions {
        /// Where the last one begins.
        offset: u64,
    },
    /// The bytes end too early.
    #[error("the tar is cut off at byte {offset}{}", within(.member.as_deref()))]
    Truncated {
        /// Where the bytes end.
        offset: u64,
        /// Whose data is incomplete.
        member: Option<String>,
    },
    /// A name beyond [`MAX_NAME_BYTES`].
    #[error("the tar has a name of {bytes} bytes at byte {offset}, and at most {MAX_NAME_BYTES} are read")]
    LongName {
        /// Where the member's header begins.
        offset: u64,
        /// Its length.
        bytes: usize,
    },
    /// More than [`MAX_MEMBERS`] members.
    #[error("the tar has more than {MAX_MEMBERS} members: use it as one file (`tar: file`)")]
    ManyMembers,
    /// More than [`MAX_NAMES_BYTES`] of names.
    #[error(
        "the names in the tar are longer than {MAX_NAMES_BYTES} bytes together: use it as one file (`tar: file`)"
    )]
    ManyNames,
    /// Data that lies beyond 2 TiB, which is as far as block numbers reach.
    #[error(
        "`{member}` lies beyond 2 TiB in the tar, where no file can point to: use it as one file (`tar: file`)"
    )]
    Large {
        /// The member.
        member: String,
    },
}

fn after(previous: Option<&str>) -> String {
    previous.map(|name| format!(" (after `{name}`)")).unwrap_or_default()
}

fn within(member: Option<&str>) -> String {
    member.map(|name| format!(", within `{name}`")).unwrap_or_default()
}

/// A name from a tar, for a message: shortened, nothing in it acts on a terminal.
pub(crate) fn printable(name: &[u8]) -> String {
    const MOST: usize = 200;
    let mut shown = String::new();
    for (count, character) in String::from_utf8_lossy(name).chars().enumerate() {
        if count == MOST {
            shown.push('…');
            break;
        }
        if character.is_control() {
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
