//! References: what they mean, what is refused.

use proptest::prelude::*;
use stowage_artifact::{Reference, ReferenceError};

/// Whether an error is the one that was expected.
type Expected = fn(&ReferenceError) -> bool;

const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

#[test]
fn every_spelling_has_one_meaning() {
    let digest = format!("sha256:{HEX}");
    let table: Vec<(String, &str, &str, Option<&str>, bool)> = vec![
        ("alpine".into(), "docker.io", "library/alpine", None, false),
        ("alpine:3.20".into(), "docker.io", "library/alpine", Some("3.20"), false),
        ("docker.io/alpine".into(), "docker.io", "library/alpine", None, false),
        ("index.docker.io/alpine".into(), "docker.io", "library/alpine", None, false),
        ("acme/thing:v1".into(), "docker.io", "acme/thing", Some("v1"), false),
        ("ghcr.io/acme/models/llama:3b".into(), "ghcr.io", "acme/models/llama", Some("3b"), false),
        ("GHCR.io/acme/x".into(), "ghcr.io", "acme/x", None, false),
        ("localhost/x".into(), "localhost", "x", None, false),
        ("localhost:5000/x:y".into(), "localhost:5000", "x", Some("y"), false),
        ("registry:5000/x".into(), "registry:5000", "x", None, false),
        ("127.0.0.1:5000/a/b".into(), "127.0.0.1:5000", "a/b", None, false),
        ("[::1]:5000/x:y".into(), "[::1]:5000", "x", Some("y"), false),
        ("[2001:DB8:0:0::1]/x".into(), "[2001:db8::1]", "x", None, false),
        (format!("ghcr.io/a/b@{digest}"), "ghcr.io", "a/b", None, true),
        (format!("ghcr.io/a/b:v1@{digest}"), "ghcr.io", "a/b", Some("v1"), true),
        ("ghcr.io/a__b/c--d.e_f".into(), "ghcr.io", "a__b/c--d.e_f", None, false),
        ("ollama://llama3.2:3b".into(), "registry.ollama.ai", "library/llama3.2", Some("3b"), false),
        ("ollama://llama3.2".into(), "registry.ollama.ai", "library/llama3.2", None, false),
        ("ollama://mattw/pygmalion:7b".into(), "registry.ollama.ai", "mattw/pygmalion", Some("7b"), false),
        ("ollama://host.example:80/ns/m:t".into(), "host.example:80", "ns/m", Some("t"), false),
        ("registry.ollama.ai/llama3.2".into(), "registry.ollama.ai", "library/llama3.2", None, false),
        ("registry.ollama.ai/library/x:y".into(), "registry.ollama.ai", "library/x", Some("y"), false),
        ("a/b:_T.a-g".into(), "docker.io", "a/b", Some("_T.a-g"), false),
    ];
    for (text, registry, repository, tag, pinned) in table {
        let found: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (found.registry(), found.repository(), found.tag()),
            (registry, repository, tag),
            "{text}"
        );
        assert_eq!(found.digest().map(ToString::to_string), pinned.then(|| digest.clone()), "{text}");
        assert_eq!(found.to_string().parse::<Reference>().unwrap(), found, "{text} shown as {found}");
    }
}

#[test]
fn the_digest_wins_over_the_tag() {
    let both: Reference = format!("ghcr.io/a/b:v1@sha256:{HEX}").parse().unwrap();
    assert_eq!(both.manifest_name(), format!("sha256:{HEX}"));
    let tag: Reference = "ghcr.io/a/b:v1".parse().unwrap();
    assert_eq!(tag.manifest_name(), "v1");
    let neither: Reference = "ghcr.io/a/b".parse().unwrap();
    assert_eq!(neither.manifest_name(), "latest");
    assert_eq!(neither.tag(), None);
    let pinned = tag.with_digest(both.digest().unwrap().clone());
    assert_eq!(pinned.to_string(), format!("ghcr.io/a/b@sha256:{HEX}"));
}

#[test]
fn docker_hub_answers_under_another_name() {
    let api_host = |text: &str| text.parse::<Reference>().unwrap().api_host().to_owned();
    assert_eq!(api_host("alpine"), "registry-1.docker.io");
    assert_eq!(api_host("ghcr.io/a/b"), "ghcr.io");
}

#[test]
fn what_breaks_the_grammar_is_refused_by_the_part_that_breaks_it() {
    use ReferenceError as E;
    let long_tag = format!("a/b:{}", "t".repeat(129));
    let long_name = format!("ghcr.io/{}", "n".repeat(248));
    let long_label = format!("{}.example/x", "h".repeat(64));
    let table: Vec<(&str, Expected)> = vec![
        ("", |e| matches!(e, E::Empty)),
        ("https://ghcr.io/a/b", |e| matches!(e, E::Scheme { .. })),
        ("oci://ghcr.io/a/b", |e| matches!(e, E::Scheme { .. })),
        ("OLLAMA://x", |e| matches!(e, E::Scheme { .. })),
        ("ghcr.io/A/b", |e| matches!(e, E::Repository { .. })),
        ("ghcr.io/", |e| matches!(e, E::Repository { .. })),
        ("ghcr.io//a", |e| matches!(e, E::Repository { .. })),
        ("/a/b", |e| matches!(e, E::Repository { .. })),
        ("a/b/", |e| matches!(e, E::Repository { .. })),
        ("ghcr.io/../x", |e| matches!(e, E::Repository { .. })),
        ("a/b___c", |e| matches!(e, E::Repository { .. })),
        ("a/b..c", |e| matches!(e, E::Repository { .. })),
        ("a/b._c", |e| matches!(e, E::Repository { .. })),
        ("a/-b", |e| matches!(e, E::Repository { .. })),
        ("a/b-", |e| matches!(e, E::Repository { .. })),
        ("a/b c", |e| matches!(e, E::Repository { .. })),
        ("a/b\n", |e| matches!(e, E::Repository { .. })),
        ("a/b?x=y", |e| matches!(e, E::Repository { .. })),
        ("a/ü", |e| matches!(e, E::Repository { .. })),
        ("a/b:", |e| matches!(e, E::Tag { .. })),
        ("a/b:-x", |e| matches!(e, E::Tag { .. })),
        ("a/b:.x", |e| matches!(e, E::Tag { .. })),
        ("a/b:x:y", |e| matches!(e, E::Tag { .. })),
        (&long_tag, |e| matches!(e, E::Tag { .. })),
        ("a/b@", |e| matches!(e, E::Digest { .. })),
        ("a/b@sha256:abc", |e| matches!(e, E::Digest { .. })),
        ("a/b@md5:d41d8cd98f00b204e9800998ecf8427e", |e| matches!(e, E::Digest { .. })),
        ("user@host.example/a", |e| matches!(e, E::Digest { .. })),
        (&long_name, |e| matches!(e, E::Long { bytes: 256, .. })),
        ("host:/x", |e| matches!(e, E::Registry { .. })),
        ("host:0/x", |e| matches!(e, E::Registry { .. })),
        ("host:65536/x", |e| matches!(e, E::Registry { .. })),
        ("host:+80/x", |e| matches!(e, E::Registry { .. })),
        ("host:80:90/x", |e| matches!(e, E::Registry { .. })),
        ("-host.example/x", |e| matches!(e, E::Registry { .. })),
        ("host..example/x", |e| matches!(e, E::Registry { .. })),
        ("host.example./x", |e| matches!(e, E::Registry { .. })),
        ("ho_st.example/x", |e| matches!(e, E::Registry { .. })),
        (&long_label, |e| matches!(e, E::Registry { .. })),
        ("127.1/x", |e| matches!(e, E::Registry { .. })),
        ("2130706433:80/x", |e| matches!(e, E::Registry { .. })),
        ("0x7f.0x1/x", |e| matches!(e, E::Registry { .. })),
        ("256.0.0.1/x", |e| matches!(e, E::Registry { .. })),
        ("[::1/x", |e| matches!(e, E::Registry { .. })),
        ("[::g]/x", |e| matches!(e, E::Registry { .. })),
        ("[fe80::1%25eth0]/x", |e| matches!(e, E::Registry { .. })),
        ("[::1]5000/x", |e| matches!(e, E::Registry { .. })),
        ("HOST/x", |e| matches!(e, E::Registry { .. })),
        ("ollama://host/ns/model", |e| matches!(e, E::Registry { .. })),
    ];
    for (text, expected) in table {
        match text.parse::<Reference>() {
            Ok(found) => panic!("{text:?} was read as {found}"),
            Err(error) => assert!(expected(&error), "{text:?}: {error:?}"),
        }
    }
}

#[test]
fn an_error_repeats_hostile_text_shortened_and_escaped() {
    let text = format!("a/{}\u{1b}[2J\n", "x".repeat(100_000));
    let error = text.parse::<Reference>().unwrap_err().to_string();
    assert!(error.len() < 1000, "{} bytes", error.len());
    assert!(!error.chars().any(char::is_control));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_what_is_read_reads_back(text in "(ollama://)?[a-zA-Z0-9.:/@_\\-\\[\\]]{0,80}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference.clone());
            prop_assert!(reference.registry().len() + reference.repository().len() < 255);
            prop_assert!(!reference.repository().split('/').any(|part| part.is_empty() || part.starts_with('.')));
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        drop(text.parse::<Reference>());
    }
}
