//! Why a manifest cannot become a volume.

use crate::attributes::LayoutMode;
use crate::digest::Digest;
use crate::excerpt::excerpt;
use crate::relative_path::{PathError, RelativePath};

/// Why a manifest cannot become a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A name in the artifact is not a path that a volume may hold.
    #[error("{layer} is named by the annotation `{annotation}`, which is refused: {source}")]
    Path {
        /// Which layer.
        layer: String,
        /// Which annotation.
        annotation: &'static str,
        /// What is wrong with the name.
        source: PathError,
    },
    /// A layer's file cannot be given a name.
    #[error("{layer} cannot be given a name: {source}")]
    Name {
        /// Which layer.
        layer: String,
        /// What is wrong with the name.
        source: PathError,
    },
    /// Two layers claim one path.
    #[error(
        "the path `{path_}` is claimed by {first} and by {second}, which differ: exclude it or choose with `files`", path_ = excerpt(path.as_str()))]
    SamePath {
        /// The path.
        path: RelativePath,
        /// The layer that came first.
        first: String,
        /// The other layer.
        second: String,
    },
    /// A path is a file and the directory of another.
    #[error(
        "the path `{file_}` of {first} would have to be a file and, for `{inside_}` of {second}, a directory: exclude one or choose with `files`", file_ = excerpt(file.as_str()), inside_ = excerpt(inside.as_str()))]
    FileIsDirectory {
        /// The file.
        file: RelativePath,
        /// The file's layer.
        first: String,
        /// What lies beneath it.
        inside: RelativePath,
        /// That one's layer.
        second: String,
    },
    /// One blob is said to have two sizes.
    #[error("the blob {digest} is said to have {first} bytes and {second} bytes: the manifest lies")]
    SizesDiffer {
        /// The blob.
        digest: Digest,
        /// One size in bytes.
        first: u64,
        /// The other size in bytes.
        second: u64,
    },
    /// One blob stands at too many paths.
    #[error("the blob {digest} stands at {copies} paths, and at most 1000 are allowed")]
    ManyCopies {
        /// The blob.
        digest: Digest,
        /// At how many paths.
        copies: usize,
    },
    /// A layer is a tar, whose members would be the files.
    #[error(
        "{layer} is a tar whose members would become files, which this version cannot do yet: set the attribute `tar: file` to get it as one file"
    )]
    NeedsTarView {
        /// Which layer.
        layer: String,
    },
    /// A layer is a tar and the attributes say `tar: reject`.
    #[error("{layer} is a tar, and the attribute `tar: reject` allows none: exclude it or use `tar: file`")]
    TarRejected {
        /// Which layer.
        layer: String,
    },
    /// A layer is compressed outside a tar.
    #[error(
        "{layer} is compressed with {codec}, which this version cannot decode yet: push it uncompressed or use `layout: oci`"
    )]
    NeedsDecoding {
        /// Which layer.
        layer: String,
        /// `gzip` or `zstd`.
        codec: &'static str,
    },
    /// A filesystem image without a name.
    #[error(
        "{layer} is a filesystem image without a name, which is not mounted: give it a path with the attribute `files`"
    )]
    FilesystemLayer {
        /// Which layer.
        layer: String,
    },
    /// The metadata of a raw layer says that it is no regular file.
    #[error(
        "{layer} holds a {kind} by its file metadata, and a volume made of raw layers holds regular files only"
    )]
    NotAFile {
        /// Which layer.
        layer: String,
        /// What it is instead.
        kind: &'static str,
    },
    /// No layer becomes a file.
    #[error("the artifact has no layer that could become a file: its type is `{kind}`")]
    NoFiles {
        /// The artifact's type, shortened.
        kind: String,
    },
    /// `include` and `exclude` leave nothing.
    #[error(
        "`include` and `exclude` leave none of the artifact's {files} files: patterns are matched against full paths, so `**/` may be missing in front"
    )]
    NothingLeft {
        /// How many files there were.
        files: usize,
    },
    /// A pattern is refused.
    #[error("{why}")]
    Pattern {
        /// What is wrong with the glob.
        why: String,
    },
    /// The sub-path is no directory of the artifact.
    #[error("the artifact has no directory `{sub_path_}`, which the attribute `subPath` names", sub_path_ = excerpt(sub_path.as_str()))]
    NoSubPath {
        /// The sub-path.
        sub_path: RelativePath,
    },
    /// The sub-path is a file.
    #[error(
        "`{sub_path_}`, which the attribute `subPath` names, is a file of the artifact: name its directory, or choose it with `include`", sub_path_ = excerpt(sub_path.as_str()))]
    SubPathIsFile {
        /// The sub-path.
        sub_path: RelativePath,
    },
    /// An entry of `files` fits no layer.
    #[error("no layer has {select}, which the attribute `files` selects for `{path_}`", path_ = excerpt(path.as_str()))]
    NoSuchLayer {
        /// The path of the entry.
        path: RelativePath,
        /// What was selected.
        select: String,
    },
    /// An entry of `files` fits several layers.
    #[error(
        "{count} layers have {select}, which the attribute `files` selects for `{path_}`: add a digest or a title", path_ = excerpt(path.as_str()))]
    ManySuchLayers {
        /// The path of the entry.
        path: RelativePath,
        /// What was selected.
        select: String,
        /// How many fit.
        count: usize,
    },
    /// The family needs the config blob, and it was not given.
    #[error("the names of this artifact's files stand in its config blob, which was not given")]
    NoConfig,
    /// The config blob is too large to be read.
    #[error("the config blob has {bytes} bytes, and at most 4194304 (4 MiB) are read")]
    LargeConfig {
        /// Its size in bytes.
        bytes: u64,
    },
    /// The asked-for shape is not there yet.
    #[error(
        "the attribute `layout: {layout}` is not supported by this version: leave it away to get plain files"
    )]
    Unsupported {
        /// The layout.
        layout: LayoutMode,
    },
}
