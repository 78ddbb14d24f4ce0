//! Media types, read by their structure: producers invent new ones all the time.

use crate::codec::Codec;
use crate::layout::FilesystemKind;

/// A media type without its parameters, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType(String);

/// Endings of a subtype that name a codec. Docker writes `.tar.gzip` where OCI writes `.tar+gzip`
/// (containerd/containerd core/images/mediatypes.go, `MediaTypeDockerSchema2LayerGzip` and `…Zstd`).
const CODECS: [(&str, Codec); 4] =
    [("+gzip", Codec::Gzip), ("+zstd", Codec::Zstd), (".tar.gzip", Codec::Gzip), (".tar.zstd", Codec::Zstd)];

/// Subtypes that are tars by name alone.
const TAR_SUBTYPES: [&str; 3] = ["tar", "x-tar", "x-gtar"];

/// EROFS layers by the specification of their format (containerd/containerd core/images/mediatypes.go,
/// `MediaTypeErofsLayer`) by its prefix; `MediaTypeErofs` and older ones end in `.erofs`, as in plugins/diff/erofs.
const EROFS_LAYERS: &str = "application/vnd.erofs.layer.";
/// An index into EROFS layers, which whoever does not know it must skip (the same file, `IsSkippableLayerType`).
const EROFS_CHUNK_INDEX: &str = "application/vnd.erofs.chunk-index.v1";
/// Stacker's suffixes name the compression inside the filesystem (project-machine/atomfs pkg/squashfs/mediatype.go).
const STACKER: &str = "application/vnd.stacker.";

/// File endings of media types that have a registered one; checked before the `+suffix` rule.
const ENDINGS: [(&str, &str); 22] = [
    ("application/gzip", ".gz"),
    ("application/javascript", ".js"),
    ("application/json", ".json"),
    ("application/pdf", ".pdf"),
    ("application/toml", ".toml"),
    ("application/vnd.apache.parquet", ".parquet"),
    ("application/wasm", ".wasm"),
    ("application/x-yaml", ".yaml"),
    ("application/xml", ".xml"),
    ("application/yaml", ".yaml"),
    ("application/zip", ".zip"),
    ("application/zstd", ".zst"),
    ("image/gif", ".gif"),
    ("image/jpeg", ".jpg"),
    ("image/png", ".png"),
    ("image/svg+xml", ".svg"),
    ("text/css", ".css"),
    ("text/csv", ".csv"),
    ("text/html", ".html"),
    ("text/javascript", ".js"),
    ("text/markdown", ".md"),
    ("text/plain", ".txt"),
];

/// Endings by the structured syntax suffix (RFC 6838, section 4.2.8).
const SUFFIX_ENDINGS: [(&str, &str); 5] =
    [("+json", ".json"), ("+yaml", ".yaml"), ("+xml", ".xml"), ("+zip", ".zip"), ("+wasm", ".wasm")];

impl MediaType {
    pub(crate) fn of(text: &str) -> Self {
        let essence = text.split(';').next().unwrap_or(text);
        Self(essence.trim().to_ascii_lowercase())
    }

    /// `type/subtype`, without parameters.
    pub(crate) fn essence(&self) -> &str {
        &self.0
    }

    /// The codec named by the ending, if any.
    pub(crate) fn codec(&self) -> Option<Codec> {
        CODECS.iter().find(|(ending, _)| self.0.ends_with(ending)).map(|(_, codec)| *codec)
    }

    /// Whether the bytes behind the codec claim to be a tar.
    pub(crate) fn is_tar(&self) -> bool {
        let plain = self.without_codec();
        let Some((_, subtype)) = plain.split_once('/') else { return false };
        TAR_SUBTYPES.contains(&subtype) || subtype.rsplit_once('.').is_some_and(|(_, last)| last == "tar")
    }

    /// Which filesystem the blob is an image of, and the codec around it, where it is one.
    pub(crate) fn filesystem(&self) -> Option<(FilesystemKind, Option<Codec>)> {
        let base = self.0.split('+').next().unwrap_or(&self.0);
        let last_word = base.rsplit('.').next();
        if last_word == Some("squashfs") {
            // Squashfs compresses inside, and that is what a suffix says.
            return Some((FilesystemKind::Squashfs, None));
        }
        if last_word == Some("erofs") || base.starts_with(EROFS_LAYERS) {
            let codec = if self.0.starts_with(STACKER) { None } else { self.codec() };
            return Some((FilesystemKind::Erofs, codec));
        }
        None
    }

    /// Whether the layer has nothing for those who do not know its type.
    pub(crate) fn is_skippable(&self) -> bool {
        self.without_codec() == EROFS_CHUNK_INDEX
    }

    /// Whether the blob is encrypted (containerd/imgcrypt).
    pub(crate) fn is_encrypted(&self) -> bool {
        self.0.split('+').skip(1).any(|suffix| suffix == "encrypted")
    }

    /// Whether the blob is a layer of a container image's root filesystem.
    pub(crate) fn is_rootfs_layer(&self) -> bool {
        self.is_tar()
            && (self.0.starts_with("application/vnd.oci.image.layer.")
                || self.0.starts_with("application/vnd.docker.image.rootfs."))
    }

    /// The ending of a file with this type, dot included, or nothing where none is registered.
    pub(crate) fn ending(&self) -> &'static str {
        let exact = ENDINGS.iter().find(|(name, _)| *name == self.0);
        let found = exact.or_else(|| SUFFIX_ENDINGS.iter().find(|(suffix, _)| self.0.ends_with(suffix)));
        found.map_or("", |(_, ending)| ending)
    }

    fn without_codec(&self) -> &str {
        let cut = |name: &str| self.0.len() - name.len() - 1;
        self.codec().map_or(&self.0, |codec| &self.0[..cut(codec.as_str())])
    }
}

#[cfg(test)]
mod tests {
    use super::{Codec, FilesystemKind, MediaType};

    #[test]
    fn tars_and_codecs_are_read_from_the_structure() {
        let table = [
            ("application/vnd.oci.image.layer.v1.tar", true, None),
            ("application/vnd.oci.image.layer.v1.tar+gzip", true, Some(Codec::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true, Some(Codec::Zstd)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true, Some(Codec::Gzip)),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", true, Some(Codec::Zstd)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true, Some(Codec::Gzip)),
            ("application/vnd.cncf.model.novelty.v1.tar+zstd", true, Some(Codec::Zstd)),
            ("application/vnd.docker.ai.dir.tar", true, None),
            ("Application/X-Tar; charset=binary", true, None),
            ("application/tar+gzip", true, Some(Codec::Gzip)),
            ("application/vnd.cncf.model.weight.v1.raw", false, None),
            ("application/vnd.cncf.model.weight.v1.raw+zstd", false, Some(Codec::Zstd)),
            ("application/gzip", false, None),
            ("application/guitar", false, None),
            ("application/json", false, None),
            ("tar", false, None),
            ("+gzip", false, Some(Codec::Gzip)),
            ("", false, None),
        ];
        for (text, tar, codec) in table {
            let media_type = MediaType::of(text);
            assert_eq!((media_type.is_tar(), media_type.codec()), (tar, codec), "{text}");
        }
    }

    #[test]
    fn endings_are_the_registered_ones() {
        let table = [
            ("application/wasm", ".wasm"),
            ("application/vnd.in-toto+json", ".json"),
            ("text/plain; charset=utf-8", ".txt"),
            ("image/svg+xml", ".svg"),
            ("application/octet-stream", ""),
            ("application/vnd.acme.thing", ""),
        ];
        for (text, ending) in table {
            assert_eq!(MediaType::of(text).ending(), ending, "{text}");
        }
    }

    #[test]
    fn image_layers_are_told_from_other_tars() {
        assert!(MediaType::of("application/vnd.oci.image.layer.v1.tar+gzip").is_rootfs_layer());
        assert!(MediaType::of("application/vnd.docker.image.rootfs.diff.tar.gzip").is_rootfs_layer());
        assert!(!MediaType::of("application/vnd.cncf.helm.chart.content.v1.tar+gzip").is_rootfs_layer());
    }

    #[test]
    fn filesystem_images_are_known_by_their_last_word() {
        use FilesystemKind::{Erofs, Squashfs};
        let table = [
            ("application/vnd.erofs", Some((Erofs, None))),
            ("application/vnd.erofs+zstd", Some((Erofs, Some(Codec::Zstd)))),
            ("application/vnd.erofs.layer.v1", Some((Erofs, None))),
            ("application/vnd.erofs.layer.v1+zstd", Some((Erofs, Some(Codec::Zstd)))),
            ("application/vnd.oci.image.layer.erofs", Some((Erofs, None))),
            ("application/vnd.oci.image.layer.v1.erofs", Some((Erofs, None))),
            ("application/vnd.oci.image.layer.squashfs", Some((Squashfs, None))),
            ("application/vnd.oci.image.layer.v1.squashfs", Some((Squashfs, None))),
            ("application/vnd.stacker.image.layer.squashfs+zstd+verity", Some((Squashfs, None))),
            ("application/vnd.stacker.image.layer.erofs+zstd", Some((Erofs, None))),
            ("application/vnd.erofs.chunk-index.v1", None),
            ("application/erofs", None),
            ("application/vnd.oci.image.layer.v1.tar", None),
        ];
        for (text, expected) in table {
            assert_eq!(MediaType::of(text).filesystem(), expected, "{text}");
        }
        assert!(MediaType::of("application/vnd.erofs.chunk-index.v1").is_skippable());
        assert!(MediaType::of("application/vnd.oci.image.layer.v1.tar+gzip+encrypted").is_encrypted());
        assert!(!MediaType::of("application/vnd.encrypted").is_encrypted());
    }
}
