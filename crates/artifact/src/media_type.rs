//! Media types, read by their structure: producers invent new ones all the time.

/// How the bytes of a blob are compressed, by the ending of its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Gzip,
    Zstd,
}

impl Codec {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A media type without its parameters, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType(String);

/// Endings of a subtype that name a codec. Docker writes `.tar.gzip` where OCI writes `.tar+gzip`.
const CODECS: [(&str, Codec); 3] =
    [("+gzip", Codec::Gzip), ("+zstd", Codec::Zstd), (".tar.gzip", Codec::Gzip)];

/// Subtypes that are tars by name alone.
const TAR_SUBTYPES: [&str; 3] = ["tar", "x-tar", "x-gtar"];

/// Layers that are whole filesystem images.
const FILESYSTEMS: [&str; 5] = [
    "application/vnd.erofs.layer.v1",
    "application/vnd.oci.image.layer.erofs",
    "application/vnd.oci.image.layer.squashfs",
    "application/vnd.oci.image.layer.v1.erofs",
    "application/vnd.oci.image.layer.v1.squashfs",
];

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
const SUFFIX_ENDINGS: [(&str, &str); 4] =
    [("+json", ".json"), ("+yaml", ".yaml"), ("+xml", ".xml"), ("+zip", ".zip")];

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

    /// Whether the blob is a filesystem image for the kernel.
    pub(crate) fn is_filesystem(&self) -> bool {
        FILESYSTEMS.contains(&self.without_codec())
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
        match self.codec() {
            Some(Codec::Gzip) if self.0.ends_with(".tar.gzip") => &self.0[..self.0.len() - ".gzip".len()],
            Some(_) => &self.0[..self.0.len() - "+gzip".len()],
            None => &self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Codec, MediaType};

    #[test]
    fn tars_and_codecs_are_read_from_the_structure() {
        let table = [
            ("application/vnd.oci.image.layer.v1.tar", true, None),
            ("application/vnd.oci.image.layer.v1.tar+gzip", true, Some(Codec::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true, Some(Codec::Zstd)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true, Some(Codec::Gzip)),
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
        assert!(MediaType::of("application/vnd.oci.image.layer.v1.erofs").is_filesystem());
    }
}
