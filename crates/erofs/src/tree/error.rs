//! Why tars do not make a tree.

use super::{MAX_DEVICES, MAX_ENTRIES};

/// Why the members of tars cannot be laid over each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// A name that no volume may hold.
    #[error("{layer} has a member whose name is refused: {problem}")]
    Path {
        /// The tar.
        layer: String,
        /// Which rule it breaks.
        problem: String,
    },
    /// The root is a member, and not a directory.
    #[error("{layer} has a member for the root of the volume that is not a directory")]
    Root {
        /// The tar.
        layer: String,
    },
    /// Two members with one path that are not the same.
    #[error(
        "`{path}` is in {first} and, different, in {second}: exclude it, or use the tars as files (`tar: file`)"
    )]
    Duplicate {
        /// The path.
        path: String,
        /// The tar of the one.
        first: String,
        /// The tar of the other; it can be the same.
        second: String,
    },
    /// A file that is also a directory.
    #[error("`{path}` in {layer} lies beneath `{obstacle}`, which is not a directory")]
    NotADirectory {
        /// The tar.
        layer: String,
        /// The member.
        path: String,
        /// What it lies beneath.
        obstacle: String,
    },
    /// A hard link to what is not there.
    #[error("the hard link `{path}` in {layer} points to `{target}`, which is no earlier member of it")]
    LinkTarget {
        /// The tar.
        layer: String,
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// A hard link to a directory.
    #[error(
        "the hard link `{path}` in {layer} points to the directory `{target}`, which can have one name only"
    )]
    LinkToDirectory {
        /// The tar.
        layer: String,
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// A symlink that leads out of the volume, or is not one.
    #[error(
        "the symlink `{path}` in {layer} points to `{target}`, which {problem}: exclude it, or use `tar: file`"
    )]
    Symlink {
        /// The tar.
        layer: String,
        /// The link.
        path: String,
        /// Its target.
        target: String,
        /// What is wrong with that.
        problem: &'static str,
    },
    /// A device, a pipe, or a file in a form that cannot be pointed into.
    #[error("`{path}` in {layer} is {what}, which a volume cannot hold: exclude it, or use `tar: file`")]
    Special {
        /// The tar.
        layer: String,
        /// The member.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A member outside of the part of the volume that the tar is for.
    #[error(
        "{layer} has the member `{path}`, and the artifact says that all of it is in `{area}`: use `tar: file`"
    )]
    Elsewhere {
        /// The tar.
        layer: String,
        /// The member.
        path: String,
        /// Where it should be.
        area: String,
    },
    /// The tar ends in the middle of the last block of a file.
    #[error(
        "`{path}` in {layer} ends in a block that the tar does not fill up to 512 bytes, so its last bytes cannot be mounted: use `tar: file`"
    )]
    Unpadded {
        /// The tar.
        layer: String,
        /// The file.
        path: String,
    },
    /// A whiteout that hides nothing that can be named.
    #[error("{layer} has the whiteout `{path}`, which names nothing that it could hide")]
    Whiteout {
        /// The tar.
        layer: String,
        /// The member.
        path: String,
    },
    /// More than [`MAX_ENTRIES`] entries.
    #[error(
        "the tars hold more than {MAX_ENTRIES} files and directories together: use them as files (`tar: file`)"
    )]
    TooManyEntries,
    /// More than [`MAX_DEVICES`] tars.
    #[error("more than {MAX_DEVICES} tars cannot make one volume")]
    TooManyLayers,
    /// The directory that is wanted is not there.
    #[error("there is no `{path}` in the tars: check `subPath`")]
    NoSubPath {
        /// What was asked for.
        path: String,
    },
    /// What is wanted as the root is not a directory.
    #[error("`{path}` is not a directory, so it cannot be the root of a volume: check `subPath`")]
    SubPathIsNoDirectory {
        /// What was asked for.
        path: String,
    },
}
