//! Volume attributes: what a pod's author may say about a volume (`architecture.md`, "Volume attributes").

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use self::error::AttributeError;
use crate::descriptor::Descriptor;
use crate::excerpt::excerpt;
use crate::file_choice::FileChoice;
use crate::patterns::Patterns;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::relative_path::RelativePath;

/// The longest value of one attribute, in bytes.
const MAX_VALUE_BYTES: usize = 256 * 1024;

const REFERENCE: &str = "reference";
const PULL_POLICY: &str = "pullPolicy";
const INCLUDE: &str = "include";
const EXCLUDE: &str = "exclude";
const SUB_PATH: &str = "subPath";
const FILES: &str = "files";
const LAYOUT: &str = "layout";
const TAR: &str = "tar";
const PLATFORM: &str = "platform";
const VARIANT: &str = "variant";

/// Defines an enum whose values are words of an attribute.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            const EXPECTED: &str = concat!("one of", $(" `", $word, "`",)+);

            /// The word that stands in the attribute.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            fn parse(key: &'static str, value: &str) -> Result<Self, AttributeError> {
                match value {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(AttributeError::Value { key, value: excerpt(value), expected: Self::EXPECTED }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// When the registry is asked, with the meanings that Kubernetes gives these words for images.
    PullPolicy {
        /// Only when the artifact is not in the store.
        IfNotPresent = "IfNotPresent",
        /// Every time a volume is made: a tag is resolved anew.
        Always = "Always",
        /// Never: the artifact must be in the store.
        Never = "Never",
    }
}

words! {
    /// The shape of the volume.
    LayoutMode {
        /// The artifact's files under their names.
        Files = "files",
        /// An OCI image layout directory.
        Oci = "oci",
        /// A directory for `OLLAMA_MODELS`.
        Ollama = "ollama",
    }
}

words! {
    /// What becomes of layers that are tars.
    TarMode {
        /// Their members become files.
        Expand = "expand",
        /// Each becomes one file.
        File = "file",
        /// They are an error.
        Reject = "reject",
    }
}

/// The `variant` attribute: an annotation of an entry of an index, or its artifact type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VariantChoice {
    /// The annotation's key, or `artifactType`.
    pub key: String,
    /// What it must be.
    pub value: String,
}

impl VariantChoice {
    fn parse(text: &str) -> Result<Self, AttributeError> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(AttributeError::Value {
                key: VARIANT,
                value: excerpt(text),
                expected: "`key=value`, where the key is an annotation or `artifactType`",
            }),
        }
    }

    pub(crate) fn matches(&self, entry: &Descriptor) -> bool {
        let artifact_type = (self.key == "artifactType").then_some(entry.artifact_type.as_deref()).flatten();
        artifact_type.or_else(|| entry.annotation(&self.key)) == Some(self.value.as_str())
    }
}

impl fmt::Display for VariantChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// Everything a volume's author asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeAttributes {
    /// What to mount.
    pub reference: Reference,
    /// When to ask the registry.
    pub pull_policy: PullPolicy,
    /// Globs of the files to take, sorted; all files when empty.
    pub include: Vec<String>,
    /// Globs of the files to leave out, sorted.
    pub exclude: Vec<String>,
    /// The directory that becomes the root of the volume.
    pub sub_path: Option<RelativePath>,
    /// The explicit choice of files.
    pub files: Option<Vec<FileChoice>>,
    /// The shape of the volume.
    pub layout: LayoutMode,
    /// What becomes of tars; the artifact's family decides when nothing is said.
    pub tar: Option<TarMode>,
    /// Which platform's manifest to take from an index.
    pub platform: Option<Platform>,
    /// Which variant to take from an index.
    pub variant: Option<VariantChoice>,
}

impl VolumeAttributes {
    /// Every key that is known.
    pub const KEYS: [&str; 10] =
        [REFERENCE, PULL_POLICY, INCLUDE, EXCLUDE, SUB_PATH, FILES, LAYOUT, TAR, PLATFORM, VARIANT];

    /// Attributes with `reference` and every default.
    pub fn new(reference: Reference) -> Self {
        Self {
            pull_policy: default_pull_policy(&reference),
            reference,
            include: Vec::new(),
            exclude: Vec::new(),
            sub_path: None,
            files: None,
            layout: LayoutMode::Files,
            tar: None,
            platform: None,
            variant: None,
        }
    }

    /// Reads our own keys; an unknown one is an error, an empty value counts as absent.
    pub fn parse(attributes: &BTreeMap<String, String>) -> Result<Self, AttributeError> {
        for (key, value) in attributes {
            if !Self::KEYS.contains(&key.as_str()) {
                return Err(AttributeError::unknown(key));
            }
            if value.len() > MAX_VALUE_BYTES {
                return Err(AttributeError::Long { key: excerpt(key), bytes: value.len() });
            }
        }
        let value = |key| attributes.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
        let reference: Reference = value(REFERENCE).ok_or(AttributeError::NoReference)?.parse()?;
        let mut parsed = Self::new(reference);
        if let Some(policy) = value(PULL_POLICY) {
            parsed.pull_policy = PullPolicy::parse(PULL_POLICY, policy)?;
        }
        parsed.include = patterns(INCLUDE, value(INCLUDE).unwrap_or_default())?;
        parsed.exclude = patterns(EXCLUDE, value(EXCLUDE).unwrap_or_default())?;
        parsed.sub_path = value(SUB_PATH).map(RelativePath::parse).transpose()?;
        // Not trimmed: the first line of a YAML list is indented like the others.
        let files = attributes.get(FILES).filter(|files| !files.trim().is_empty());
        parsed.files = files.map(|files| file_choices(files)).transpose()?;
        if let Some(layout) = value(LAYOUT) {
            parsed.layout = LayoutMode::parse(LAYOUT, layout)?;
        }
        if let Some(tar) = value(TAR) {
            parsed.tar = Some(TarMode::parse(TAR, tar)?);
        }
        parsed.platform = value(PLATFORM).map(str::parse).transpose()?;
        parsed.variant = value(VARIANT).map(VariantChoice::parse).transpose()?;
        parsed.check_combination()?;
        Ok(parsed)
    }

    /// The attributes in one fixed spelling: equal maps mean equal volumes, and `parse` reads them back.
    pub fn canonical(&self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let mut put = |key: &str, value: String| map.insert(key.to_owned(), value);
        put(REFERENCE, self.reference.to_string());
        put(PULL_POLICY, self.pull_policy.to_string());
        for (key, globs) in [(INCLUDE, &self.include), (EXCLUDE, &self.exclude)] {
            if !globs.is_empty() {
                put(key, globs.join("\n"));
            }
        }
        if let Some(sub_path) = &self.sub_path {
            put(SUB_PATH, sub_path.to_string());
        }
        if let Some(files) = &self.files {
            put(FILES, to_json(files));
        }
        if self.layout != LayoutMode::Files {
            put(LAYOUT, self.layout.to_string());
        }
        if let Some(tar) = self.tar {
            put(TAR, tar.to_string());
        }
        if let Some(platform) = &self.platform {
            put(PLATFORM, platform.to_string());
        }
        if let Some(variant) = &self.variant {
            put(VARIANT, variant.to_string());
        }
        map
    }

    /// The other layouts have a fixed shape, from which nothing can be left out.
    fn check_combination(&self) -> Result<(), AttributeError> {
        let given = [
            (INCLUDE, !self.include.is_empty()),
            (EXCLUDE, !self.exclude.is_empty()),
            (SUB_PATH, self.sub_path.is_some()),
            (FILES, self.files.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((key, _)) if self.layout != LayoutMode::Files => {
                Err(AttributeError::Combination { key, layout: self.layout })
            }
            _ => Ok(()),
        }
    }
}

/// As for images: a tag that moves by habit is asked for every time, anything else once.
fn default_pull_policy(reference: &Reference) -> PullPolicy {
    if !reference.is_pinned() && reference.tag_or_latest() == "latest" {
        PullPolicy::Always
    } else {
        PullPolicy::IfNotPresent
    }
}

/// Globs, one a line; their order means nothing, so they are kept sorted.
fn patterns(key: &'static str, text: &str) -> Result<Vec<String>, AttributeError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let patterns: Vec<String> = lines.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect();
    Patterns::compile(&patterns).map_err(|error| AttributeError::Pattern { key, why: error.to_string() })?;
    Ok(patterns)
}

fn file_choices(text: &str) -> Result<Vec<FileChoice>, AttributeError> {
    let choices = read_list(text).map_err(|why| AttributeError::Files { why: excerpt(&why) })?;
    if choices.is_empty() {
        return Err(AttributeError::Files { why: "the list is empty".to_owned() });
    }
    let mut paths = BTreeSet::new();
    for choice in &choices {
        if choice.select.is_empty() {
            return Err(AttributeError::EmptySelect { path: excerpt(choice.path.as_str()) });
        }
        if !paths.insert(&choice.path) {
            return Err(AttributeError::DuplicatePath { path: excerpt(choice.path.as_str()) });
        }
    }
    Ok(choices)
}

#[expect(clippy::expect_used, reason = "strings in plain structs always have a JSON form")]
fn to_json(files: &[FileChoice]) -> String {
    serde_json::to_string(files).expect("a list of files has a JSON form")
}

/// JSON where the text is JSON, else YAML: indentation by tabs is legal in only one of them.
fn read_list(text: &str) -> Result<Vec<FileChoice>, String> {
    if let Ok(choices) = serde_json::from_str(text) {
        return Ok(choices);
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}
