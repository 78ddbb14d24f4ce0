//! The id of a view: what it shows, and nothing of who asked.

use serde::Serialize;
use stowage_artifact::CanonicalLayout;
use stowage_artifact::digest::{Algorithm, Digest};

use super::{ViewKey, ViewSpec};

/// Grows when the meaning of an id changes.
const FORMAT: u32 = 1;
/// Grows when the same layout would become another tree.
const WRITER: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Canonical<'a> {
    format: u32,
    writer: u32,
    #[serde(flatten)]
    layout: CanonicalLayout<'a>,
    #[serde(flatten)]
    attributes: &'a ViewKey,
}

/// sha256 over canonical JSON; lower-case hex.
pub(super) fn hash(spec: &ViewSpec) -> String {
    let canonical = Canonical {
        format: FORMAT,
        writer: WRITER,
        layout: spec.layout.canonical(),
        attributes: &spec.attributes,
    };
    #[expect(clippy::expect_used, reason = "strings and numbers always become JSON")]
    let json = serde_json::to_vec(&canonical).expect("strings and numbers become JSON");
    Digest::of(Algorithm::Sha256, &json).hex().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stowage_artifact::{Layout, RelativePath};

    fn layout(files: &[(&str, &[u8], bool)]) -> Layout {
        let mut builder = Layout::builder();
        for (path, bytes, executable) in files {
            let digest = Digest::of(Algorithm::Sha256, bytes);
            let path = RelativePath::parse(path).unwrap();
            builder.raw(path, digest, bytes.len() as u64, *executable, "test").unwrap();
        }
        builder.finish().unwrap()
    }

    fn spec(files: &[(&str, &[u8], bool)], key: ViewKey) -> ViewSpec {
        ViewSpec { layout: layout(files), attributes: key, source: None }
    }

    #[test]
    fn the_id_is_what_the_volume_shows() {
        let one = spec(&[("a", b"1", false), ("b", b"2", false)], ViewKey::default());
        let turned = spec(&[("b", b"2", false), ("a", b"1", false)], ViewKey::default());
        assert_eq!(one.hash(), turned.hash());
        let manifest = Digest::of(Algorithm::Sha256, b"manifest");
        assert_eq!(one.hash(), one.clone().with_source(manifest).hash(), "the manifest is no part of it");
        let others = [
            spec(&[("a", b"1", true), ("b", b"2", false)], ViewKey::default()),
            spec(&[("a", b"2", false), ("b", b"2", false)], ViewKey::default()),
            spec(&[("a/b", b"1", false), ("b", b"2", false)], ViewKey::default()),
            spec(
                &[("a", b"1", false), ("b", b"2", false)],
                ViewKey { include: vec!["*".into()], ..ViewKey::default() },
            ),
            spec(
                &[("a", b"1", false), ("b", b"2", false)],
                ViewKey { exclude: vec!["*".into()], ..ViewKey::default() },
            ),
            spec(
                &[("a", b"1", false), ("b", b"2", false)],
                ViewKey { tar_mode: "file".into(), ..ViewKey::default() },
            ),
            spec(
                &[("a", b"1", false), ("b", b"2", false)],
                ViewKey { sub_path: Some("a".into()), ..ViewKey::default() },
            ),
        ];
        let ids: std::collections::BTreeSet<_> = others.iter().chain([&one]).map(ViewSpec::hash).collect();
        assert_eq!(ids.len(), others.len() + 1);
    }

    #[test]
    fn the_id_never_changes_between_versions_by_accident() {
        let one = spec(&[("a", b"1", false)], ViewKey::default());
        assert_eq!(one.hash(), "fccd1e709f24c88419e1e5b9b32d6a857a2df992afca12cd48f76feaf130033b");
    }
}
