//! Why a manifest cannot become a volume.

use crate::digest::Digest;
use crate::excerpt::excerpt;
use crate::family::Family;
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
    /// What a family takes a layer's name from holds no path that a volume may have.
    #[error("{layer} is named by {by}, which is refused: {source}")]
    Named {
        /// Which layer.
        layer: String,
        /// Where the name stands.
        by: &'static str,
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
    /// A layer is a tar and the attributes say `tar: reject`.
    #[error("{layer} is a tar, and the attribute `tar: reject` allows none: exclude it or use `tar: file`")]
    TarRejected {
        /// Which layer.
        layer: String,
    },
    /// A filesystem image without a name, where none is mounted.
    #[error(
        "{layer} is a filesystem image without a name, and this node mounts none (`allowFilesystemLayers`): give it a path with the attribute `files`"
    )]
    FilesystemLayer {
        /// Which layer.
        layer: String,
    },
    /// Tars and filesystem images in one artifact.
    #[error(
        "{tar} is a tar and {filesystem} a filesystem image, and the two cannot be stacked as one volume: choose with `files`"
    )]
    MixedLayers {
        /// A layer that is a tar.
        tar: String,
        /// A layer that is a filesystem image.
        filesystem: String,
    },
    /// Something would have to be left out of a filesystem image.
    #[error(
        "{layer} is a filesystem image, which is mounted as it is: the attribute `{attribute}` cannot leave anything out of it"
    )]
    FilteredFilesystem {
        /// Which layer.
        layer: String,
        /// Which attribute was given.
        attribute: &'static str,
    },
    /// A layer of an image is encrypted.
    #[error("{layer} is encrypted, and there are no keys for images on a node: mount an image that is not")]
    Encrypted {
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
    /// The config blob does not say what the family needs to know.
    #[error("the config blob of this {family} cannot be used: {why}")]
    Config {
        /// What the artifact is.
        family: Family,
        /// What is wrong, shortened.
        why: String,
    },
    /// A kit's layer that its Kitfile does not mention.
    #[error(
        "{layer} has no entry in the Kitfile, so it has no path: leave it out or give it one with the attribute `files`"
    )]
    NotInKitfile {
        /// Which layer.
        layer: String,
    },
    /// The config blob lists another number of layers than the manifest.
    #[error(
        "the manifest has {layers} layers and the config blob {diff_ids} digests of decoded layers: one of them lies"
    )]
    DiffIds {
        /// Layers of the manifest.
        layers: usize,
        /// Entries of the list in the config.
        diff_ids: usize,
    },
    /// `layout: ollama` for what is no Ollama model.
    #[error(
        "the attribute `layout: ollama` needs an Ollama model, and this artifact is of type `{kind}`: leave the attribute away to get plain files"
    )]
    NotOllama {
        /// The artifact's type, shortened.
        kind: String,
    },
    /// Ollama could not read the model under this name.
    #[error(
        "Ollama would not read a model whose {part} is `{text}`: it allows letters, digits, `_`, `-` and `.` (no `.` in a namespace), at most 80 of them"
    )]
    OllamaName {
        /// Which part of the name.
        part: &'static str,
        /// The part, shortened.
        text: String,
    },
    /// Ollama reads blobs by SHA-256 only.
    #[error("Ollama would not read the blob {digest}: it knows sha256 only, so leave `layout: ollama` away")]
    OllamaDigest {
        /// The blob.
        digest: Digest,
    },
    /// `layout: ollama` without the name of the model.
    #[error("`layout: ollama` needs the reference of the model, which was not given")]
    NoReference,
}
