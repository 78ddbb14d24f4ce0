//! Patterns over images, as kubelet matches them (`matchImages` of `CredentialProviderConfig`).

use std::fmt;
use std::str::FromStr;

use stowage_artifact::Reference;

use crate::keyring::{Key, hosts_of};

/// A text that is no pattern for images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a pattern for images: write host[:port][/path], with `*` in the parts of the host only"
)]
pub struct ImagePatternError(pub String);

/// `host[:port][/path]`: a glob for each part of the host, and the beginning of the repository's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePattern {
    text: String,
    key: Key,
}

impl ImagePattern {
    /// Whether the pattern covers what `reference` names.
    pub fn covers(&self, reference: &Reference) -> bool {
        let path = format!("/{}", reference.repository());
        hosts_of(&reference.registry()).iter().any(|host| self.key.covers(host, &path))
    }
}

impl FromStr for ImagePattern {
    type Err = ImagePatternError;

    fn from_str(text: &str) -> Result<Self, ImagePatternError> {
        let refuse = || ImagePatternError(text.to_owned());
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || "@?#\\".contains(c)) {
            return Err(refuse());
        }
        let key = Key::parse(text).filter(|key| !key.has_glob_in_path()).ok_or_else(refuse)?;
        Ok(Self { text: text.to_owned(), key })
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_images_as_kubelet_says() {
        for (pattern, image, covered) in [
            ("r.example", "r.example/a/b:v1", true),
            ("r.example", "r.example:5000/a/b:v1", false),
            ("r.example:5000", "r.example:5000/a:v1", true),
            ("*.r.example", "eu.r.example/a:v1", true),
            ("*.r.example", "r.example/a:v1", false),
            ("r.example/team", "r.example/team/a:v1", true),
            ("r.example/team", "r.example/other:v1", false),
            // The version of an API is taken out of keys of docker configurations only.
            ("r.example/v2", "r.example/v2/a:v1", true),
            ("r.example/v2", "r.example/other/a:v1", false),
            ("r.example/v1/", "r.example/a:v1", false),
            ("r.example/v1/team", "r.example/team/a:v1", false),
            ("docker.io", "library/a:v1", true),
            ("index.docker.io", "docker.io/team/a:v1", true),
            ("*", "r.example/a:v1", false),
        ] {
            let parsed: ImagePattern = pattern.parse().unwrap();
            assert_eq!(parsed.covers(&image.parse().unwrap()), covered, "{pattern} {image}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "/team", "r.example/*", "a b", "user@r.example"] {
            assert!(text.parse::<ImagePattern>().is_err(), "{text}");
        }
    }
}
