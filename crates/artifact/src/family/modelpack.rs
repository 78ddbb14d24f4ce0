//! ModelPack (CNCF model-spec), under its present and its former name.
//!
//! Layer types are `application/vnd.<owner>.model.<kind>.v1.<codec>`; the kinds are open-ended.

use serde::Deserialize;
use serde_json::Value;

use super::{Content, Context, Family, Member, Rules};
use crate::descriptor::Descriptor;
use crate::document::Manifest;
use crate::layout::LayoutError;
use crate::naming;

const CURRENT_PREFIX: &str = "application/vnd.cncf.model.";
const LEGACY_PREFIX: &str = "application/vnd.cnai.model.";
const METADATA: [&str; 2] = ["org.cncf.model.file.metadata+json", "org.cnai.model.file.metadata+json"];

pub(super) const CURRENT: Rules = Rules {
    family: Family::ModelPack,
    claims: |manifest| has_type_of(manifest, CURRENT_PREFIX),
    needs_config: false,
    members,
};

pub(super) const LEGACY: Rules = Rules {
    family: Family::ModelPackLegacy,
    claims: |manifest| has_type_of(manifest, LEGACY_PREFIX),
    needs_config: false,
    members,
};

fn has_type_of(manifest: &Manifest, prefix: &str) -> bool {
    super::all_types(manifest).iter().any(|found| found.essence().starts_with(prefix))
}

fn members(context: &Context<'_>) -> Result<Vec<Member>, LayoutError> {
    let layers = super::real_layers(context.manifest);
    layers.filter_map(|(number, layer)| member(number, layer).transpose()).collect()
}

fn member(number: usize, layer: &Descriptor) -> Result<Option<Member>, LayoutError> {
    let Some(mut member) = super::any_member(number, layer)? else { return Ok(None) };
    let media_type = layer.parsed_type();
    let ours = [CURRENT_PREFIX, LEGACY_PREFIX].iter().any(|prefix| media_type.essence().starts_with(prefix));
    // Here a tar is a tar, with a path or without.
    if ours && media_type.is_tar() {
        member.content = Content::Tar(media_type.codec());
    }
    if let Some(metadata) = METADATA.iter().find_map(|key| layer.annotation(key)).and_then(FileMetadata::read)
    {
        if let (Content::File, Some(kind)) = (member.content, metadata.other_kind()) {
            return Err(LayoutError::NotAFile { layer: naming::label(number, layer), kind });
        }
        member.executable = metadata.is_executable();
    }
    Ok(Some(member))
}

/// What the producer noted about the file; owner, size and times are not taken over.
#[derive(Deserialize)]
struct FileMetadata {
    /// Permission bits.
    mode: Option<Value>,
    /// Kind of file, as in a tar header; a number in Go's encoding.
    typeflag: Option<Value>,
}

impl FileMetadata {
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
