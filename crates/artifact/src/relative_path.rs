//! Paths inside a volume.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;

/// The longest component, in bytes (`NAME_MAX` of every Linux filesystem).
const MAX_COMPONENT_BYTES: usize = 255;
const MAX_BYTES: usize = 4096;
const MAX_COMPONENTS: usize = 64;

/// Why a text is not a path that a volume may hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The text is empty.
    #[error("a path is empty: it needs at least a file name")]
    Empty,
    /// The path starts at the root.
    #[error("the path `{path}` is absolute: only paths relative to the volume are allowed")]
    Absolute {
        /// The path, shortened.
        path: String,
    },
    /// A component is empty: two slashes in a row, or one at the end.
    #[error("the path `{path}` has an empty component: remove the doubled or trailing slash")]
    EmptyComponent {
        /// The path, shortened.
        path: String,
    },
    /// A component is `.` or `..`.
    #[error("the path `{path}` has the component `{component}`, which could lead out of the volume")]
    DotComponent {
        /// The path, shortened.
        path: String,
        /// `.` or `..`.
        component: &'static str,
    },
    /// A NUL or another control character.
    #[error("the path `{path}` has a control character, which no file name in a volume may have")]
    ControlCharacter {
        /// The path, shortened and escaped.
        path: String,
    },
    /// A component is longer than 255 bytes.
    #[error("the path `{path}` has a component of {bytes} bytes, and a file name may have at most 255")]
    LongComponent {
        /// The path, shortened.
        path: String,
        /// Length of the component in bytes.
        bytes: usize,
    },
    /// The path is longer than 4096 bytes.
    #[error("the path `{path}` has {bytes} bytes, and a path may have at most 4096")]
    Long {
        /// The path, shortened.
        path: String,
        /// Length in bytes.
        bytes: usize,
    },
    /// More than 64 components.
    #[error("the path `{path}` is {components} levels deep, and a path may have at most 64")]
    Deep {
        /// The path, shortened.
        path: String,
        /// How many components it has.
        components: usize,
    },
}

/// A path that stays inside the volume: non-empty, relative, without `.`, `..` or control characters.
///
/// Ordered by components, so that everything beneath a directory follows it directly.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(Box<str>);

impl RelativePath {
    /// Checks every rule of `formats.md` and takes the text as it is; nothing is cleaned up.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        let path = || excerpt(text);
        if text.len() > MAX_BYTES {
            return Err(PathError::Long { path: path(), bytes: text.len() });
        }
        if text.chars().any(char::is_control) {
            return Err(PathError::ControlCharacter { path: path() });
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute { path: path() });
        }
        let mut components = 0;
        for component in text.split('/') {
            components += 1;
            match component {
                "" => return Err(PathError::EmptyComponent { path: path() }),
                "." => return Err(PathError::DotComponent { path: path(), component: "." }),
                ".." => return Err(PathError::DotComponent { path: path(), component: ".." }),
                _ if component.len() > MAX_COMPONENT_BYTES => {
                    return Err(PathError::LongComponent { path: path(), bytes: component.len() });
                }
                _ => {}
            }
        }
        if components > MAX_COMPONENTS {
            return Err(PathError::Deep { path: path(), components });
        }
        Ok(Self(text.into()))
    }

    /// The whole path with `/` between the components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components from the top; there is always at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The directories above this path, nearest first, without the root of the volume.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.rmatch_indices('/').map(|(end, _)| &self.0[..end])
    }

    /// Whether this path lies beneath the directory `other`; a path is not beneath itself.
    pub fn is_beneath(&self, other: &Self) -> bool {
        self.strip(other).is_some()
    }

    /// This path as seen from the directory `base`; `None` when it does not lie beneath it.
    #[must_use]
    pub fn relative_to(&self, base: &Self) -> Option<Self> {
        // The rest of a checked path is non-empty, shorter and made of the same components.
        self.strip(base).map(|rest| Self(rest.into()))
    }

    fn strip(&self, base: &Self) -> Option<&str> {
        self.0.strip_prefix(&*base.0)?.strip_prefix('/')
    }
}

impl Ord for RelativePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RelativePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for RelativePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for RelativePath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        path.0.into()
    }
}

impl AsRef<str> for RelativePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{PathError, RelativePath};

    /// Whether an error is the one that was expected.
    type Expected = fn(&PathError) -> bool;

    fn path(text: &str) -> RelativePath {
        RelativePath::parse(text).unwrap()
    }

    #[test]
    fn ordinary_names_are_taken_as_they_are() {
        let long_name = "n".repeat(255);
        let deep = vec!["d"; 64].join("/");
        let longest = vec!["n".repeat(255); 16].join("/");
        assert_eq!(longest.len(), 4095);
        for good in [
            "a",
            "a/b",
            "..a",
            "a..",
            "...",
            " ",
            "a b/ü/模型",
            r"a\b",
            ".hidden",
            &long_name,
            &deep,
            &longest,
        ] {
            assert_eq!(path(good).as_str(), good);
        }
    }

    #[test]
    fn hostile_names_are_refused_by_the_rule_they_break() {
        use PathError as E;
        let long = format!("{}/{}", vec!["n".repeat(255); 16].join("/"), "n");
        assert_eq!(long.len(), 4097);
        let table: &[(&str, Expected)] = &[
            ("", |e| matches!(e, E::Empty)),
            ("/", |e| matches!(e, E::Absolute { .. })),
            ("/etc/passwd", |e| matches!(e, E::Absolute { .. })),
            ("//a", |e| matches!(e, E::Absolute { .. })),
            (".", |e| matches!(e, E::DotComponent { component: ".", .. })),
            ("..", |e| matches!(e, E::DotComponent { component: "..", .. })),
            ("../../etc/cron.d/x", |e| matches!(e, E::DotComponent { component: "..", .. })),
            ("a/../b", |e| matches!(e, E::DotComponent { component: "..", .. })),
            ("a/./b", |e| matches!(e, E::DotComponent { component: ".", .. })),
            ("a/..", |e| matches!(e, E::DotComponent { component: "..", .. })),
            ("./a", |e| matches!(e, E::DotComponent { component: ".", .. })),
            ("a//b", |e| matches!(e, E::EmptyComponent { .. })),
            ("a/", |e| matches!(e, E::EmptyComponent { .. })),
            ("a\0b", |e| matches!(e, E::ControlCharacter { .. })),
            ("a\nb", |e| matches!(e, E::ControlCharacter { .. })),
            ("a\u{7f}", |e| matches!(e, E::ControlCharacter { .. })),
            ("a\u{9b}", |e| matches!(e, E::ControlCharacter { .. })),
            (&long, |e| matches!(e, E::Long { bytes: 4097, .. })),
        ];
        for (text, expected) in table {
            let error = RelativePath::parse(text).unwrap_err();
            assert!(expected(&error), "{text:?}: {error}");
        }
        let long_name = "n".repeat(256);
        assert!(matches!(RelativePath::parse(&long_name), Err(E::LongComponent { bytes: 256, .. })));
        let wide = "ü".repeat(128);
        assert!(matches!(RelativePath::parse(&wide), Err(E::LongComponent { bytes: 256, .. })));
        let deep = vec!["d"; 65].join("/");
        assert!(matches!(RelativePath::parse(&deep), Err(E::Deep { components: 65, .. })));
    }

    #[test]
    fn what_is_beneath_a_directory_follows_it_directly() {
        let mut paths = [path("a/b"), path("a-b"), path("a"), path("a/a/c"), path("a.b")];
        paths.sort();
        assert_eq!(paths.map(|p| p.to_string()), ["a", "a/a/c", "a/b", "a-b", "a.b"]);
    }

    #[test]
    fn a_path_knows_its_directories() {
        let deep = path("a/b/c");
        assert_eq!(deep.ancestors().collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(deep.components().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(deep.file_name(), "c");
        assert_eq!(deep.relative_to(&path("a")), Some(path("b/c")));
        assert_eq!(deep.relative_to(&path("a/b/c")), None);
        assert_eq!(path("ab/c").relative_to(&path("a")), None);
        assert!(deep.is_beneath(&path("a/b")));
        assert!(!deep.is_beneath(&deep));
    }
}
