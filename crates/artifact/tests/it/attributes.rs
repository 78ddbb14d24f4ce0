//! Volume attributes: every key, every refusal, one canonical spelling.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stowage_artifact::{
    AttributeError, LayoutMode, PlanOptions, PullPolicy, RelativePath, TarMode, VolumeAttributes,
};

/// Whether an error is the one that was expected.
type Expected = fn(&AttributeError) -> bool;

const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Attributes of an ordinary reference and `pairs`.
fn read(pairs: &[(&str, &str)]) -> Result<VolumeAttributes, AttributeError> {
    let mut all = map(&[("reference", "ghcr.io/acme/x:v1")]);
    all.extend(map(pairs));
    VolumeAttributes::parse(&all)
}

#[test]
fn every_key_is_read() {
    let attributes = read(&[
        ("pullPolicy", "Never"),
        ("include", "**/*.json\n\n  weights/**  \n**/*.json\n"),
        ("exclude", "*.md"),
        ("subPath", "weights"),
        ("layout", "files"),
        ("tar", "reject"),
        ("platform", "linux/x86_64"),
        ("variant", "org.acme.quant=q4=x"),
        ("files", "- select: {title: a.bin}\n  path: weights/b.bin\n"),
    ])
    .unwrap();
    assert_eq!(attributes.reference.to_string(), "ghcr.io/acme/x:v1");
    assert_eq!(attributes.pull_policy, PullPolicy::Never);
    assert_eq!(attributes.include, ["**/*.json", "weights/**"]);
    assert_eq!(attributes.exclude, ["*.md"]);
    assert_eq!(attributes.sub_path, Some(RelativePath::parse("weights").unwrap()));
    assert_eq!((attributes.layout, attributes.tar), (LayoutMode::Files, Some(TarMode::Reject)));
    assert_eq!(attributes.platform.as_ref().unwrap().to_string(), "linux/amd64");
    assert_eq!(attributes.variant.as_ref().unwrap().value, "q4=x");
    let files = attributes.files.as_ref().unwrap();
    assert_eq!((files[0].select.title.as_deref(), files[0].path.as_str()), (Some("a.bin"), "weights/b.bin"));
    let options = PlanOptions::from(&attributes);
    assert_eq!((options.tar, options.sub_path), (Some(TarMode::Reject), attributes.sub_path));
}

#[test]
fn a_list_of_files_may_be_indented() {
    let files = |text: &str| read(&[("files", text)]).unwrap().files;
    let expected = files("- {select: {title: a}, path: x}\n- {select: {title: b}, path: y}\n");
    assert_eq!(expected.as_ref().map(Vec::len), Some(2));
    assert_eq!(
        files("\n    - {select: {title: a}, path: x}\n    - {select: {title: b}, path: y}\n"),
        expected
    );
}

#[test]
fn defaults_are_those_of_the_reference() {
    let attributes = read(&[]).unwrap();
    assert_eq!(attributes, VolumeAttributes::new("ghcr.io/acme/x:v1".parse().unwrap()));
    assert_eq!(
        read(&[("include", "\n"), ("tar", ""), ("files", " "), ("pullPolicy", "")]).unwrap(),
        attributes
    );

    let digest = format!("a/b@sha256:{HEX}");
    let both = format!("a/b:latest@sha256:{HEX}");
    for (reference, policy) in [
        ("a/b", PullPolicy::Always),
        ("a/b:latest", PullPolicy::Always),
        ("ollama://llama3.2", PullPolicy::Always),
        ("a/b:v1", PullPolicy::IfNotPresent),
        (&digest, PullPolicy::IfNotPresent),
        (&both, PullPolicy::IfNotPresent),
    ] {
        let attributes = VolumeAttributes::parse(&map(&[("reference", reference)])).unwrap();
        assert_eq!(attributes.pull_policy, policy, "{reference}");
    }
}

#[test]
fn the_choice_of_files_is_yaml_or_json() {
    let digest = format!("sha256:{HEX}");
    let yaml = format!(
        "- select:\n    mediaType: text/plain\n    digest: {digest}\n  path: a\n- {{select: {{title: 7}}, path: b/c}}\n"
    );
    let json = format!(
        "[\n\t{{\"select\": {{\"mediaType\": \"text/plain\", \"digest\": \"{digest}\"}}, \"path\": \"a\"}},\n\t{{\"path\": \"b/c\", \"select\": {{\"title\": \"7\"}}}}]"
    );
    let (yaml, json) = (read(&[("files", &yaml)]).unwrap(), read(&[("files", &json)]).unwrap());
    assert_eq!(yaml, json);
    assert_eq!(yaml.files.as_ref().unwrap()[0].select.digest.as_ref().unwrap().to_string(), digest);
    assert_eq!(yaml.canonical(), json.canonical());
}

#[test]
fn an_unknown_key_is_named() {
    let error = read(&[("colour", "red")]).unwrap_err();
    assert!(matches!(&error, AttributeError::Unknown { key, .. } if key == "colour"));
    assert!(error.to_string().contains("`colour`") && error.to_string().contains("pullPolicy"));
    for (wrong, right) in
        [("pullpolicy", "`pullPolicy`"), ("sub-path", "`subPath`"), ("Reference", "`reference`")]
    {
        let text = read(&[(wrong, "x")]).unwrap_err().to_string();
        assert!(text.contains(wrong) && text.contains(&format!("write {right}")), "{text}");
    }
}

#[test]
fn bad_values_are_refused_with_the_key() {
    use AttributeError as E;
    let dup = "[{select: {title: a}, path: x}, {select: {title: b}, path: x}]";
    let long = "x".repeat(256 * 1024 + 1);
    let deep = "[".repeat(100_000);
    let table: &[(&str, &str, Expected)] = &[
        ("reference", "", |e| matches!(e, E::NoReference)),
        ("reference", " \n", |e| matches!(e, E::NoReference)),
        ("reference", "https://x/y", |e| matches!(e, E::Reference(_))),
        ("pullPolicy", "always", |e| matches!(e, E::Value { key: "pullPolicy", .. })),
        ("layout", "tree", |e| matches!(e, E::Value { key: "layout", .. })),
        ("tar", "unpack", |e| matches!(e, E::Value { key: "tar", .. })),
        ("include", "[", |e| matches!(e, E::Pattern { key: "include", .. })),
        ("exclude", "/a", |e| matches!(e, E::Pattern { key: "exclude", .. })),
        ("subPath", "../x", |e| matches!(e, E::SubPath(_))),
        ("subPath", "/x", |e| matches!(e, E::SubPath(_))),
        ("platform", "linux", |e| matches!(e, E::Platform(_))),
        ("variant", "q4", |e| matches!(e, E::Value { key: "variant", .. })),
        ("variant", "=q4", |e| matches!(e, E::Value { key: "variant", .. })),
        ("variant", "q4=", |e| matches!(e, E::Value { key: "variant", .. })),
        ("files", "[]", |e| matches!(e, E::Files { .. })),
        ("files", "{}", |e| matches!(e, E::Files { .. })),
        ("files", "title: x", |e| matches!(e, E::Files { .. })),
        ("files", "[{path: x}]", |e| matches!(e, E::Files { .. })),
        ("files", "[{select: {title: a}}]", |e| matches!(e, E::Files { .. })),
        ("files", "[{select: {titel: a}, path: x}]", |e| matches!(e, E::Files { .. })),
        ("files", "[{select: {title: a}, path: x, mode: 7}]", |e| matches!(e, E::Files { .. })),
        ("files", "[{select: {title: a, title: b}, path: x}]", |e| matches!(e, E::Files { .. })),
        ("files", "[{select: {title: a}, path: ../x}]", |e| matches!(e, E::Files { .. })),
        ("files", "[{select: {digest: 'md5:00'}, path: x}]", |e| matches!(e, E::Files { .. })),
        ("files", "[{select: {}, path: x}]", |e| matches!(e, E::EmptySelect { .. })),
        ("files", dup, |e| matches!(e, E::DuplicatePath { path } if path == "x")),
        ("files", &deep, |e| matches!(e, E::Files { .. })),
        ("files", "[*a]", |e| matches!(e, E::Files { .. })),
        ("files", &long, |e| matches!(e, E::Long { .. })),
    ];
    for (key, value, expected) in table {
        let error = read(&[(key, value)]).unwrap_err();
        assert!(expected(&error), "{key}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(key) && !text.contains('\n') && text.len() < 1000, "{text}");
    }
    assert_eq!(VolumeAttributes::parse(&BTreeMap::new()).unwrap_err(), AttributeError::NoReference);
}

#[test]
fn a_layout_of_fixed_shape_takes_no_selection() {
    for layout in ["oci", "ollama"] {
        for (key, value) in [
            ("include", "a"),
            ("exclude", "a"),
            ("subPath", "a"),
            ("files", "[{select: {title: a}, path: x}]"),
        ] {
            let error = read(&[("layout", layout), (key, value)]).unwrap_err();
            assert!(
                matches!(&error, AttributeError::Combination { key: found, .. } if *found == key),
                "{error:?}"
            );
        }
        assert!(read(&[("layout", layout)]).is_ok());
    }
}

#[test]
fn equal_meanings_have_one_canonical_form() {
    let terse = VolumeAttributes::parse(&map(&[("reference", "alpine"), ("include", "b\na")])).unwrap();
    let wordy = VolumeAttributes::parse(&map(&[
        ("reference", " docker.io/library/alpine\n"),
        ("include", "a\n b\na"),
        ("pullPolicy", "Always"),
        ("layout", "files"),
        ("tar", ""),
        ("exclude", ""),
    ]))
    .unwrap();
    assert_eq!(terse.canonical(), wordy.canonical());
    let expected =
        map(&[("reference", "docker.io/library/alpine"), ("pullPolicy", "Always"), ("include", "a\nb")]);
    assert_eq!(terse.canonical(), expected);
}

#[test]
fn saying_what_becomes_of_tars_differs_from_leaving_it_to_the_family() {
    let said = read(&[("tar", "expand")]).unwrap();
    assert_eq!((said.tar, read(&[]).unwrap().tar), (Some(TarMode::Expand), None));
    assert_eq!(said.canonical().get("tar").map(String::as_str), Some("expand"));
    assert_ne!(said.canonical(), read(&[]).unwrap().canonical());
}

fn value_for(key: &'static str) -> BoxedStrategy<String> {
    let words: &'static [&'static str] = match key {
        "pullPolicy" => &["", "IfNotPresent", "Always", "Never"],
        "layout" => &["", "files", "oci"],
        "tar" => &["", "expand", "file", "reject"],
        "platform" => &["", "linux/amd64", "linux/arm/v6", "Linux/aarch64/v8"],
        "variant" => &["", "a=b", "artifactType=x/y"],
        "subPath" => &["", "a", "a/b c"],
        "include" | "exclude" => &["", "a", "**/x\nb", "c\nb\nc"],
        "files" => &[
            "",
            "[{select: {title: a}, path: x}]",
            "- {path: 'x: y', select: {mediaType: 'a/b', title: \"q\\\"\"}}",
        ],
        _ => &["a/b", "ghcr.io/x/y:latest", "ollama://m", "localhost:5000/x:v1"],
    };
    prop::sample::select(words).prop_map(str::to_owned).boxed()
}

proptest! {
    #[test]
    fn the_canonical_form_reads_back_to_the_same_attributes(
        values in VolumeAttributes::KEYS.map(value_for),
    ) {
        let pairs = VolumeAttributes::KEYS.into_iter().map(str::to_owned).zip(values).collect();
        if let Ok(attributes) = VolumeAttributes::parse(&pairs) {
            let canonical = attributes.canonical();
            prop_assert_eq!(VolumeAttributes::parse(&canonical).unwrap(), attributes.clone());
            prop_assert_eq!(attributes.canonical(), canonical);
        }
    }

    #[test]
    fn arbitrary_values_never_panic(key in prop::sample::select(VolumeAttributes::KEYS.to_vec()), value in any::<String>()) {
        drop(read(&[(key, &value)]));
    }

    #[test]
    fn arbitrary_lists_of_files_never_panic(value in "[\\[\\]{}:,&*a-d'\"| \n\\-]{0,60}") {
        drop(read(&[("files", &value)]));
    }
}
