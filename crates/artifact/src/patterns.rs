//! The globs of `include` and `exclude`.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::excerpt::excerpt;
use crate::relative_path::RelativePath;

const MAX_PATTERNS: usize = 1000;
const MAX_PATTERN_BYTES: usize = 4096;
const MAX_ALL_BYTES: usize = 64 * 1024;

/// Why a list of globs is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("the pattern `{pattern}` is not a glob: {why}")]
    Syntax { pattern: String, why: String },
    #[error("the pattern `{pattern}` can never fit: {why}")]
    NeverFits { pattern: String, why: &'static str },
    #[error(
        "the patterns are too many or too long: at most 1000 of 4096 bytes each and 64 KiB together are allowed"
    )]
    TooMany,
}

/// Globs over full paths; `*` and `?` stay inside a component, `**` crosses them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns {
    set: GlobSet,
    globs: Vec<String>,
}

impl Patterns {
    pub(crate) fn compile(patterns: &[String]) -> Result<Self, PatternError> {
        let bytes: usize = patterns.iter().map(String::len).sum();
        let long = patterns.iter().any(|pattern| pattern.len() > MAX_PATTERN_BYTES);
        if patterns.len() > MAX_PATTERNS || bytes > MAX_ALL_BYTES || long {
            return Err(PatternError::TooMany);
        }
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            check(pattern)?;
            let glob = GlobBuilder::new(pattern).literal_separator(true).build().map_err(|error| {
                PatternError::Syntax { pattern: excerpt(pattern), why: excerpt(&error.kind().to_string()) }
            })?;
            set.add(glob);
        }
        let set = set.build().map_err(|error| PatternError::Syntax {
            pattern: excerpt(error.glob().unwrap_or_default()),
            why: excerpt(&error.kind().to_string()),
        })?;
        Ok(Self { set, globs: patterns.to_vec() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// The patterns as they were written.
    pub(crate) fn globs(&self) -> &[String] {
        &self.globs
    }

    pub(crate) fn fits(&self, path: &str) -> bool {
        self.set.is_match(path)
    }

    /// Whether some pattern could fit `area` or a path beneath it; never `false` by mistake.
    pub(crate) fn may_fit_within(&self, area: &RelativePath) -> bool {
        self.fits(area.as_str()) || self.globs.iter().any(|glob| may_fit_beneath(glob, area))
    }

    /// Whether some pattern fits every path beneath `area`; never `true` by mistake.
    pub(crate) fn fits_all_beneath(&self, area: &RelativePath) -> bool {
        self.globs.iter().any(|glob| {
            let Some(above) = glob.strip_suffix("**") else { return false };
            let Some(directory) = above.strip_suffix('/') else { return above.is_empty() };
            let plain = plain_components(directory);
            plain.len() == directory.split('/').count()
                && plain.len() <= area.components().count()
                && plain.iter().zip(area.components()).all(|(a, b)| *a == b)
        })
    }
}

fn may_fit_beneath(glob: &str, area: &RelativePath) -> bool {
    let depth = area.components().count();
    // What has no `**` and no class, which may name a slash, fits no path with more slashes than it has itself.
    let is_bounded = !glob.contains("**") && !glob.contains('[');
    if is_bounded && glob.split('/').count() <= depth {
        return false;
    }
    let plain = plain_components(glob);
    plain.iter().zip(area.components()).all(|(a, b)| *a == b)
}

/// The leading components that stand for themselves.
fn plain_components(glob: &str) -> Vec<&str> {
    glob.split('/')
        .take_while(|component| !component.contains(['*', '?', '[', ']', '{', '}', '\\']))
        .collect()
}

fn check(pattern: &str) -> Result<(), PatternError> {
    let why = if pattern.starts_with('/') {
        "paths are relative, so leave the leading slash away"
    } else if pattern.ends_with('/') {
        "paths name files, so write `**` behind the directory"
    } else if pattern.split('/').any(|component| matches!(component, "" | "." | "..")) {
        "no path has an empty, `.` or `..` component"
    } else {
        return Ok(());
    };
    Err(PatternError::NeverFits { pattern: excerpt(pattern), why })
}

#[cfg(test)]
mod tests {
    use super::{PatternError, Patterns};

    fn fits(pattern: &str, path: &str) -> bool {
        Patterns::compile(&[pattern.to_owned()]).unwrap().fits(path)
    }

    #[test]
    fn a_star_stays_inside_a_component_and_two_cross_them() {
        let table = [
            ("*.json", "config.json", true),
            ("*.json", "sub/config.json", false),
            ("**/*.json", "config.json", true),
            ("**/*.json", "a/b/config.json", true),
            ("a/**", "a/b/c", true),
            ("a/**", "ab", false),
            ("a", "a/b", false),
            ("model-0000[12]-*", "model-00002-of-4", true),
            ("*.{gguf,bin}", "x.bin", true),
            ("?", "ab", false),
            ("*", ".hidden", true),
            (r"\*", "*", true),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(fits(pattern, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn patterns_that_are_broken_or_can_never_fit_are_refused() {
        let compile = |pattern: &str| Patterns::compile(&[pattern.to_owned()]).unwrap_err();
        for never in ["/a", "a/", "a//b", "../a", "a/./b", ""] {
            assert!(matches!(compile(never), PatternError::NeverFits { .. }), "{never}");
        }
        for broken in ["[", "{a", "a}", "[z-a]"] {
            assert!(matches!(compile(broken), PatternError::Syntax { .. }), "{broken}");
        }
        assert_eq!(compile(&"a".repeat(5000)), PatternError::TooMany);
        assert_eq!(Patterns::compile(&vec!["a".to_owned(); 1001]).unwrap_err(), PatternError::TooMany);
    }
}
