//! Globs over the names of repositories, as an administrator lists them.

/// Whether a glob covers the whole of a name. `*` stands for any run of characters, across `/` too, and everything else
/// for itself. Its time is at most the product of both lengths.
pub fn matches_name(glob: &str, name: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), name.as_bytes());
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
    use super::matches_name;

    #[test]
    fn globs_match_whole_names() {
        for (glob, text, expected) in [
            ("ghcr.io/acme/*", "ghcr.io/acme/a/b", true),
            ("ghcr.io/acme/*", "ghcr.io/acme2/a", false),
            ("ghcr.io/acme", "ghcr.io/acme/a", false),
            ("*/models/*", "r.example/models/x", true),
            ("*", "anything", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
        ] {
            assert_eq!(matches_name(glob, text), expected, "{glob} {text}");
        }
    }
}
