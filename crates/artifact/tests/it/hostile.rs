//! Properties: whatever an artifact is called, a layout holds nothing that leads out of the volume.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use stowage_artifact::{
    Document, LayoutMode, MAX_COPIES_OF_A_DIGEST, PlanOptions, RelativePath, Source, TarMode, plan,
};

use crate::fixture::{ORAS_CONFIG, layer, manifest_json, parse};

const NAMES: [&str; 4] = [
    "org.cncf.model.filepath",
    "org.cnai.model.filepath",
    "org.opencontainers.image.layer.path",
    "org.opencontainers.image.title",
];

/// Names that try something, and ordinary ones.
fn name() -> impl Strategy<Value = String> {
    let component = prop_oneof![
        4 => "[a-c]{1,2}",
        2 => prop::sample::select(vec!["..", ".", "", "...", "~", "\0", "\n", "a\\b", "ü", "\u{202e}", "C:", "%2e%2e"])
            .prop_map(str::to_owned),
        1 => any::<String>(),
        1 => (250_usize..260).prop_map(|length| "n".repeat(length)),
    ];
    prop_oneof![
        8 => prop::collection::vec(component, 1..5).prop_map(|parts| parts.join("/")),
        1 => (60_usize..70).prop_map(|depth| vec!["d"; depth].join("/")),
        1 => any::<String>(),
    ]
}

fn media_type() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "application/octet-stream",
        "application/vnd.oci.image.layer.v1.raw",
        "application/vnd.cncf.model.weight.v1.raw",
        "application/vnd.cnai.model.code.v1.raw",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.empty.v1+json",
        "application/vnd.erofs.layer.v1",
        "a/b+gzip",
    ])
    .prop_map(str::to_owned)
}

fn layers() -> impl Strategy<Value = Vec<Value>> {
    let one =
        (media_type(), "[a-d]", prop::collection::vec((prop::sample::select(NAMES.to_vec()), name()), 0..3));
    let one = one.prop_map(|(media_type, content, names)| {
        let names: Vec<(&str, &str)> = names.iter().map(|(key, name)| (*key, name.as_str())).collect();
        layer(&media_type, &content, &names)
    });
    prop::collection::vec(one, 0..6)
}

fn options() -> impl Strategy<Value = PlanOptions> {
    let globs = || prop::collection::vec("[a-c*?/{},\\[\\]!.]{1,6}", 0..2);
    let tar = prop::sample::select(vec![TarMode::Expand, TarMode::File, TarMode::Reject]);
    let layout = prop::sample::select(vec![LayoutMode::Files, LayoutMode::Files, LayoutMode::Oci]);
    (globs(), globs(), prop::option::of("[a-c]"), tar, layout).prop_map(
        |(include, exclude, sub_path, tar, layout)| {
            let sub_path = sub_path.map(|path| RelativePath::parse(&path).unwrap());
            PlanOptions { include, exclude, sub_path, files: None, layout, tar }
        },
    )
}

/// What the rules promise, written once more without the crate's own code.
fn is_safe(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    path.len() <= 4096
        && parts.len() <= 64
        && parts.iter().all(|part| !matches!(*part, "" | "." | "..") && part.len() <= 255)
        && !path.chars().any(|character| u32::from(character) < 0x20 || character == '\u{7f}')
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_layout_holds_only_safe_paths_and_no_file_beneath_a_file(layers in layers(), options in options()) {
        let manifest = parse(&manifest_json(None, ORAS_CONFIG, &layers));
        if let Ok(plan) = plan(&manifest, None, &options) {
            let paths: BTreeSet<&str> = plan.layout.entries().keys().map(RelativePath::as_str).collect();
            prop_assert!(!paths.is_empty());
            for path in &paths {
                prop_assert!(is_safe(path), "{path:?}");
                for (end, _) in path.match_indices('/') {
                    prop_assert!(!paths.contains(&path[..end]), "{path:?} lies beneath a file");
                }
            }
            let blobs = plan.layout.blobs();
            for entry in plan.layout.entries().values() {
                let Source::Raw(digest) = &entry.source else { panic!("an unknown source") };
                prop_assert_eq!(blobs[digest], entry.size);
                prop_assert!(matches!(entry.mode, 0o444 | 0o555));
            }
            prop_assert!(plan.layout.entries().len() <= MAX_COPIES_OF_A_DIGEST);
            prop_assert!(plan.layout.inline().keys().all(|digest| blobs.contains_key(digest)));
            prop_assert!(plan.layout.total_bytes() <= plan.layout.apparent_bytes());
        }
    }

    #[test]
    fn a_name_is_taken_exactly_or_refused(name in name()) {
        let expected = is_safe(&name) && !name.chars().any(char::is_control);
        match RelativePath::parse(&name) {
            Ok(path) => {
                prop_assert!(expected, "{name:?} was taken");
                prop_assert_eq!(path.as_str(), name);
            }
            Err(error) => {
                prop_assert!(!expected, "{name:?} was refused: {error}");
                let text = error.to_string();
                prop_assert!(text.len() < 2000 && !text.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn paths_are_ordered_so_that_directories_stay_together(names in prop::collection::vec("[a-c.\\-]{1,2}(/[a-c.\\-]{1,2}){0,3}", 1..20)) {
        let paths: BTreeSet<RelativePath> = names.iter().filter_map(|name| RelativePath::parse(name).ok()).collect();
        let paths: Vec<&RelativePath> = paths.iter().collect();
        for (number, path) in paths.iter().enumerate() {
            let beneath = paths.iter().filter(|other| other.is_beneath(path)).count();
            prop_assert!(paths[number + 1..][..beneath].iter().all(|other| other.is_beneath(path)));
        }
    }

    #[test]
    fn the_same_artifact_always_gives_the_same_plan(layers in layers(), options in options()) {
        let json = manifest_json(None, ORAS_CONFIG, &layers);
        prop_assert_eq!(plan(&parse(&json), None, &options), plan(&parse(&json), None, &options));
    }

    #[test]
    fn arbitrary_bytes_are_no_manifest_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Document::parse(&bytes, None).is_err());
    }

    #[test]
    fn a_manifest_with_one_byte_changed_never_panics(place in 0_usize..400, byte in any::<u8>()) {
        let layers = [layer("application/vnd.cncf.model.code.v1.raw", "x", &[
            (NAMES[0], "a/b"), ("org.cncf.model.file.metadata+json", "{\"mode\":493}"),
        ])];
        let mut bytes = manifest_json(Some("application/vnd.cncf.model.manifest.v1+json"), ORAS_CONFIG, &layers)
            .to_string().into_bytes();
        let place = place % bytes.len();
        bytes[place] = byte;
        if let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, None) {
            drop(plan(&manifest, None, &PlanOptions::default()));
        }
    }
}
