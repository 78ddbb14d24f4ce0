//! Platforms: `os/architecture[/variant]`, as in the entries of an index.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;

const MAX_PART_BYTES: usize = 64;

/// Why a text is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a platform: write it as `os/architecture` or `os/architecture/variant`, such as `linux/arm64`"
)]
pub struct PlatformError {
    text: String,
}

/// An operating system and a processor architecture, in Go's names (`linux/amd64`, `linux/arm/v7`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture, such as `amd64`.
    pub architecture: String,
    /// Variant of the architecture, such as `v7`; absent where it is the usual one.
    pub variant: Option<String>,
}

impl Platform {
    /// A platform from its parts, in the usual spelling (`x86_64` becomes `amd64`, `arm64/v8` becomes `arm64`).
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = os.to_ascii_lowercase();
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (architecture.to_ascii_lowercase().as_str(), variant) {
            ("x86_64" | "x86-64", variant) => ("amd64".to_owned(), variant),
            ("aarch64", variant) => ("arm64".to_owned(), variant),
            ("i386" | "i486" | "i586" | "i686" | "x86", variant) => ("386".to_owned(), variant),
            ("armhf", None) => ("arm".to_owned(), None),
            ("armel", None) => ("arm".to_owned(), Some("v6".to_owned())),
            (other, variant) => (other.to_owned(), variant),
        };
        let number = variant.as_deref().map(|variant| variant.strip_prefix('v').unwrap_or(variant));
        let usual =
            usual_level(&architecture).is_some_and(|(usual, _)| number == Some(usual.to_string().as_str()));
        let variant = if usual { None } else { variant };
        Self { os, architecture, variant }
    }

    /// The platform that this program was built for.
    pub fn current() -> Self {
        let architecture = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new(std::env::consts::OS, architecture, None)
    }

    /// How well something built for `other` runs here: higher is better, `None` means not at all.
    ///
    /// A machine runs what is built for its own level of the architecture and for lower ones.
    pub(crate) fn rank(&self, other: &Self) -> Option<u32> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        match (self.level(), other.level()) {
            (Some(own), Some(theirs)) => (theirs <= own).then_some(theirs),
            _ => (self.variant == other.variant).then_some(0),
        }
    }

    fn level(&self) -> Option<u32> {
        let (usual, lowest) = usual_level(&self.architecture)?;
        let Some(variant) = &self.variant else { return Some(usual) };
        let level = variant.strip_prefix('v').unwrap_or(variant).parse().ok()?;
        (level >= lowest).then_some(level)
    }
}

/// The level that an architecture without a variant means, and the lowest that there is.
fn usual_level(architecture: &str) -> Option<(u32, u32)> {
    match architecture {
        "amd64" => Some((1, 1)),
        "arm64" => Some((8, 8)),
        "arm" => Some((7, 5)),
        _ => None,
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError { text: excerpt(text) };
        let is_part = |part: &&str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty() && part.len() <= MAX_PART_BYTES && part.bytes().all(legal)
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(is_part) {
            return Err(error());
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn names_of_one_platform_are_one_value() {
        for (text, usual) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm"),
            ("linux/armel", "linux/arm/v6"),
            ("wasip1/wasm", "wasip1/wasm"),
        ] {
            assert_eq!(platform(text).to_string(), usual, "{text}");
            assert_eq!(platform(usual), platform(text));
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd 64", "linux/a\n", &"x/y".repeat(100)]
        {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_machine_runs_its_own_level_and_lower_ones() {
        let table = [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v2", false),
            ("linux/amd64/v3", "linux/amd64/v2", true),
            ("linux/amd64/v3", "linux/amd64", true),
            ("linux/arm64", "linux/arm64/v9", false),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/amd64", "linux/arm64", false),
            ("linux/riscv64", "linux/riscv64", true),
            ("linux/mips", "linux/mips/softfloat", false),
        ];
        for (machine, built_for, runs) in table {
            assert_eq!(platform(machine).rank(&platform(built_for)).is_some(), runs, "{machine} {built_for}");
        }
        assert!(
            platform("linux/amd64/v3").rank(&platform("linux/amd64/v3"))
                > platform("linux/amd64/v3").rank(&platform("linux/amd64"))
        );
    }

    #[test]
    fn the_current_platform_has_the_spelling_of_an_index() {
        assert_eq!(platform(&Platform::current().to_string()), Platform::current());
    }
}
