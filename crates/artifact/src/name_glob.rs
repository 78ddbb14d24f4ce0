//! Globs over `registry/repository`, as an administrator lists them.
//!
//! The part up to the first `/` is for the registry's host, what follows for the repository. So a `*` in the host cannot
//! reach beyond it: `*.corp.example/models/*` is no way to `evil.example/x.corp.example/models/y`.

use crate::reference::Reference;

/// Whether a glob covers a reference's repository, whatever its tag and digest. `*` stands for any run of characters, across
/// `/` too within the repository; a glob without `/` names hosts alone.
pub fn covers_repository(glob: &str, reference: &Reference) -> bool {
    covers(glob, reference.registry(), reference.repository())
}

/// Whether a glob covers the whole of a reference, with its tag and digest.
pub fn covers_reference(glob: &str, reference: &Reference) -> bool {
    let whole = reference.to_string();
    let (registry, rest) = whole.split_once('/').unwrap_or((&whole, ""));
    covers(glob, registry, rest)
}

fn covers(glob: &str, registry: &str, rest: &str) -> bool {
    let (host, path) = glob.split_once('/').unwrap_or((glob, "*"));
    matches(host, registry) && matches(path, rest)
}

/// Whether a glob matches the whole of a text. Its time is at most the product of both lengths.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at, mut star, mut resume) = (0, None, 0);
    let mut index = 0;
    while index < text.len() {
        if glob.get(at) == Some(&b'*') {
            star = Some(at);
            resume = index;
            at += 1;
        } else if glob.get(at) == Some(&text[index]) {
            at += 1;
            index += 1;
        } else if let Some(star) = star {
            resume += 1;
            index = resume;
            at = star + 1;
        } else {
            return false;
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn the_host_and_the_repository_are_matched_apart() {
        for (glob, text, expected) in [
            ("ghcr.io/acme/*", "ghcr.io/acme/a/b", true),
            ("ghcr.io/acme/*", "ghcr.io/acme2/a", false),
            ("ghcr.io/acme", "ghcr.io/acme/a", false),
            ("ghcr.io/acme/a", "ghcr.io/acme/a:v1", true),
            ("ghcr.io/acme/*/b", "ghcr.io/acme/x/y/b", true),
            ("*/models/*", "r.example/models/x", true),
            ("*/models/*", "r.example/a/models/x", false),
            ("*.corp.example/models/*", "r.corp.example/models/y", true),
            ("*.corp.example/models/*", "evil.example/x.corp.example/models/y", false),
            ("r*.example/m/*", "r1.example/m/x", true),
            ("r*.example/m/*", "r.evil/a.example/m/x", false),
            ("*", "anything.example/a/b", true),
            ("ghcr.io", "ghcr.io/a/b/c", true),
            ("ghcr.io", "ghcr.io.evil.example/a", false),
            ("*.example", "r.example/a", true),
            ("r.lan:5000", "r.lan:5000/a", true),
            ("r.lan", "r.lan:5000/a", false),
            ("docker.io/library/*", "alpine", true),
            ("*/*", "r.example/a", true),
            ("", "r.example/a", false),
        ] {
            assert_eq!(covers_repository(glob, &reference(text)), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_glob_of_whole_references_knows_tags() {
        for (glob, text, expected) in [
            ("r.example/one:v1", "r.example/one:v1", true),
            ("r.example/one:v1", "r.example/one:v2", false),
            ("r.example/*:v1", "r.example/a/b:v1", true),
            ("r.example/one:*", "r.example/one:v2", true),
            ("*.example/one:v1", "evil.test/x.example/one:v1", false),
        ] {
            assert_eq!(covers_reference(glob, &reference(text)), expected, "{glob} {text}");
        }
    }

    proptest! {
        /// Whatever the repository is called, it cannot stand in for the host.
        #[test]
        fn no_repository_leads_to_a_host_that_is_not_listed(
            repository in "[a-z0-9]{1,8}([./][a-z0-9]{1,8}){0,5}",
            trusted in "[a-z]{1,8}[.]corp[.]example",
        ) {
            let evil = reference(&format!("evil.test/{repository}/{trusted}/models/x:v1"));
            for glob in ["*.corp.example", "*.corp.example/*", "*.corp.example/models/*", "*corp.example/*/models/*"] {
                prop_assert!(!covers_repository(glob, &evil), "{}", glob);
                prop_assert!(!covers_reference(glob, &evil), "{}", glob);
            }
            let good = reference(&format!("{trusted}/models/{repository}"));
            prop_assert!(covers_repository("*.corp.example/models/*", &good));
        }

        /// The matcher against one that is too simple to be wrong.
        #[test]
        fn the_matcher_agrees_with_the_plain_definition(glob in "[ab*]{0,8}", text in "[ab]{0,10}") {
            fn plain(glob: &[u8], text: &[u8]) -> bool {
                match glob.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|skip| plain(rest, &text[skip..])),
                    Some((byte, rest)) => text.split_first().is_some_and(|(first, text)| first == byte && plain(rest, text)),
                }
            }
            prop_assert_eq!(matches(&glob, &text), plain(glob.as_bytes(), text.as_bytes()));
        }
    }
}
