//! The annotation in which makers of models note what a file was on their disk.

use serde::Deserialize;
use serde_json::Value;

use super::{Content, Member};
use crate::descriptor::Descriptor;
use crate::layout::LayoutError;
use crate::naming;

/// modelpack/model-spec specs-go/v1/annotations.go, `AnnotationFileMetadata`, and its former name. Docker and KitOps
/// write it too (docker/model-runner pkg/distribution/types/config.go, kitops-ml/kitops pkg/lib/filesystem/util.go).
const METADATA: [&str; 2] = ["org.cncf.model.file.metadata+json", "org.cnai.model.file.metadata+json"];

/// What the producer noted about the file; owner, name and times are not taken over.
#[derive(Deserialize)]
struct FileMetadata {
    /// Permission bits.
    mode: Option<Value>,
    /// Bytes of the file, before any compression.
    size: Option<Value>,
    /// Kind of file, as in a tar header; a number in Go's encoding.
    typeflag: Option<Value>,
}

/// Takes over what a layer's metadata says; what is no regular file is refused.
pub(super) fn apply(member: &mut Member, layer: &Descriptor) -> Result<(), LayoutError> {
    let is_file = matches!(member.content, Content::File | Content::Compressed(_));
    match FileMetadata::of(layer).and_then(|metadata| metadata.other_kind()) {
        Some(kind) if is_file => {
            Err(LayoutError::NotAFile { layer: naming::label(member.number, layer), kind })
        }
        _ => {
            note(member, layer);
            Ok(())
        }
    }
}

/// The same for a layer that is a file because the user says so.
pub(super) fn note(member: &mut Member, layer: &Descriptor) {
    let is_file = matches!(member.content, Content::File | Content::Compressed(_));
    if let Some(metadata) = FileMetadata::of(layer).filter(|_| is_file) {
        member.executable = metadata.is_executable();
        member.plain.size = metadata.size.as_ref().and_then(Value::as_u64);
    }
}

impl FileMetadata {
    fn of(layer: &Descriptor) -> Option<Self> {
        METADATA.iter().find_map(|key| layer.annotation(key)).and_then(Self::read)
    }

    /// Metadata that cannot be read says nothing: it is a courtesy, and the file is there without it.
    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn is_executable(&self) -> bool {
        let mode = self.mode.as_ref().and_then(Value::as_u64).unwrap_or_default();
        mode & 0o111 != 0
    }

    /// What the file is when it is no regular one.
    fn other_kind(&self) -> Option<&'static str> {
        let flag = match self.typeflag.as_ref()? {
            Value::Number(number) => u8::try_from(number.as_u64()?).ok()?,
            Value::String(text) => *text.as_bytes().first()?,
            _ => return None,
        };
        match flag {
            b'1' => Some("hard link"),
            b'2' => Some("symbolic link"),
            b'3' | b'4' => Some("device"),
            b'5' => Some("directory"),
            b'6' => Some("FIFO"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FileMetadata;

    #[test]
    fn the_mode_is_read_as_go_writes_it() {
        let executable =
            |text: &str| FileMetadata::read(text).is_some_and(|metadata| metadata.is_executable());
        assert!(executable(r#"{"name":"run.sh","mode":493,"typeflag":48}"#));
        assert!(!executable(r#"{"name":"model","mode":420,"uid":0,"mtime":"2025-01-01T00:00:00Z"}"#));
        for odd in
            ["", "{", "[]", r#"{"mode":"0755"}"#, r#"{"mode":-1}"#, r#"{"mode":null}"#, r#"{"mode":1e400}"#]
        {
            assert!(!executable(odd), "{odd}");
        }
    }

    #[test]
    fn the_kind_of_file_is_told_by_the_letter_of_a_tar_header() {
        let kind = |text: &str| FileMetadata::read(text).and_then(|metadata| metadata.other_kind());
        for regular in
            [r#"{"typeflag":48}"#, r#"{"typeflag":0}"#, r#"{"typeflag":"0"}"#, r#"{"typeflag":999}"#, "{}"]
        {
            assert_eq!(kind(regular), None, "{regular}");
        }
        assert_eq!(kind(r#"{"typeflag":50}"#), Some("symbolic link"));
        assert_eq!(kind(r#"{"typeflag":"5"}"#), Some("directory"));
        assert_eq!(kind(r#"{"typeflag":51}"#), Some("device"));
    }
}
