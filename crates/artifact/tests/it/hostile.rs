//! Properties: whatever an artifact is called, a layout holds nothing that leads out of the volume.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use stowage_artifact::{
    Document, LayoutError, LayoutMode, MAX_COPIES_OF_A_DIGEST, Plan, PlanOptions, RelativePath, TarMode, plan,
};

use crate::fixture::{DOCKER_CONFIG, IMAGE_CONFIG, ORAS_CONFIG, UNPACK, layer, manifest_json, parse};

const NAMES: [&str; 4] = [
    "org.cncf.model.filepath",
    "org.cnai.model.filepath",
    "org.opencontainers.image.layer.path",
    "org.opencontainers.image.title",
];

/// Names that try something, and ordinary ones.
pub(crate) fn name() -> impl Strategy<Value = String> {
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
        "application/vnd.ollama.image.model",
        "application/vnd.docker.ai.gguf.v3",
        "application/vnd.oci.image.layer.v1.squashfs",
        "application/vnd.in-toto+json",
        "application/wasm",
    ])
    .prop_map(str::to_owned)
}

fn layers() -> impl Strategy<Value = Vec<Value>> {
    let names = prop::collection::vec((prop::sample::select(NAMES.to_vec()), name()), 0..3);
    let one = (media_type(), "[a-d]", names, prop::bool::weighted(0.2));
    let one = one.prop_map(|(media_type, content, names, unpack)| {
        let mut names: Vec<(&str, &str)> = names.iter().map(|(key, name)| (*key, name.as_str())).collect();
        names.extend(unpack.then_some((UNPACK, "true")));
        layer(&media_type, &content, &names)
    });
    prop::collection::vec(one, 0..6)
}

fn options() -> impl Strategy<Value = PlanOptions> {
    let globs = || prop::collection::vec("[a-c*?/{},\\[\\]!.]{1,6}", 0..2);
    let tar =
        prop::sample::select(vec![None, Some(TarMode::Expand), Some(TarMode::File), Some(TarMode::Reject)]);
    let layout = prop::sample::select(vec![LayoutMode::Files, LayoutMode::Files, LayoutMode::Oci]);
    (globs(), globs(), prop::option::of("[a-c]"), tar, layout, any::<bool>()).prop_map(
        |(include, exclude, sub_path, tar, layout, allow_filesystem_layers)| {
            let sub_path = sub_path.map(|path| RelativePath::parse(&path).unwrap());
            let defaults = PlanOptions::default();
            PlanOptions { include, exclude, sub_path, layout, tar, allow_filesystem_layers, ..defaults }
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

/// What holds of every plan and of every refusal.
#[track_caller]
pub(crate) fn check_plan(plan: &Result<Plan, LayoutError>) {
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 3000 && !text.chars().any(char::is_control), "{text}");
            return;
        }
    };
    let layout = &plan.layout;
    let paths: BTreeSet<&str> = layout.entries().keys().map(RelativePath::as_str).collect();
    assert!(!paths.is_empty() || !layout.tars().is_empty() || !layout.filesystems().is_empty());
    for path in &paths {
        assert!(is_safe(path), "{path:?}");
        for (end, _) in path.match_indices('/') {
            assert!(!paths.contains(&path[..end]), "{path:?} lies beneath a file");
        }
    }
    for tar in layout.tars() {
        let places = [&tar.at, &tar.within, &tar.fallback];
        assert!(places.into_iter().flatten().all(|path| is_safe(path.as_str())), "{tar:?}");
    }
    let blobs = layout.blobs();
    for entry in layout.entries().values() {
        assert_eq!(blobs[entry.source.blob()], entry.size);
        assert!(matches!(entry.mode, 0o444 | 0o555));
    }
    assert!(layout.entries().len() <= MAX_COPIES_OF_A_DIGEST);
    assert!(layout.inline().keys().all(|digest| blobs.contains_key(digest)));
    assert!(layout.tars().is_empty() || layout.filesystems().is_empty());
    let shown = plan.notes.iter().chain(plan.excluded.iter().map(|excluded| &excluded.path));
    for text in shown {
        assert!(text.len() < 5000 && !text.chars().any(char::is_control), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_layout_holds_only_safe_paths_and_no_file_beneath_a_file(
        layers in layers(),
        options in options(),
        config in prop::sample::select(vec![ORAS_CONFIG, IMAGE_CONFIG, DOCKER_CONFIG]),
    ) {
        let manifest = parse(&manifest_json(None, config, &layers));
        let plan = plan(&manifest, Some(b"{}"), &options);
        check_plan(&plan);
        if let Ok(plan) = plan && plan.layout.is_exact() {
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
        let planned = || plan(&parse(&json), Some(b"{}"), &options);
        prop_assert_eq!(planned(), planned());
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
