//! Which manifest of an index a volume is made of.

use crate::attributes::VariantChoice;
use crate::descriptor::Descriptor;
use crate::document::Index;
use crate::excerpt::excerpt;
use crate::platform::Platform;

/// How many choices an error lists.
const LISTED: usize = 20;

/// Marks attestations and the like, which describe another entry.
const DOCKER_REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Why no manifest of an index could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The index has no entry that could be a volume.
    #[error(
        "the index has no manifest that could become a volume (attestations and unknown platforms do not count)"
    )]
    NoCandidates,
    /// No entry is what was asked for.
    #[error(
        "no manifest of the index has {wanted}: choose with `platform` or `variant` from {}",
        list(choices)
    )]
    NoMatch {
        /// What was asked for.
        wanted: String,
        /// What there is.
        choices: Vec<String>,
    },
    /// Several entries are equally good.
    #[error(
        "several manifests of the index fit {wanted}: set `platform` or `variant` so that one is left of {}",
        list(choices)
    )]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The entries that are equally good.
        choices: Vec<String>,
    },
}

fn list(choices: &[String]) -> String {
    let shown = choices.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join("; ");
    match choices.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

impl Index {
    /// The entries that could become a volume.
    pub fn candidates(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|entry| {
            let unknown = entry
                .platform
                .as_ref()
                .is_some_and(|platform| platform.os == "unknown" || platform.architecture == "unknown");
            !unknown && entry.annotation(DOCKER_REFERENCE_TYPE).is_none()
        })
    }

    /// Chooses by the `platform` and `variant` attributes, else by `node`'s platform, else the only one there is.
    ///
    /// A chosen entry may be an index again: choose from that in the same way.
    pub fn select(
        &self,
        platform: Option<&Platform>,
        variant: Option<&VariantChoice>,
        node: &Platform,
    ) -> Result<&Descriptor, SelectError> {
        let all: Vec<&Descriptor> = self.candidates().collect();
        if all.is_empty() {
            return Err(SelectError::NoCandidates);
        }
        let mut left = all.clone();
        if let Some(variant) = variant {
            left.retain(|entry| variant.matches(entry));
        }
        if let Some(platform) = platform {
            left = best_for(platform, &left);
        }
        if left.is_empty() {
            return Err(SelectError::NoMatch {
                wanted: wanted(platform, variant, node),
                choices: describe(&all),
            });
        }
        let mut fits = platform.is_some() || variant.is_some();
        if platform.is_none() {
            let native = best_for(node, &left);
            if !native.is_empty() {
                left = native;
                fits = true;
            }
        }
        let first = left[0];
        if left.iter().all(|entry| entry.digest == first.digest) {
            return Ok(first);
        }
        let (wanted, choices) = (wanted(platform, variant, node), describe(&left));
        Err(if fits {
            SelectError::Ambiguous { wanted, choices }
        } else {
            SelectError::NoMatch { wanted, choices }
        })
    }
}

/// The entries that run best on `platform`; none when nothing runs there.
fn best_for<'a>(platform: &Platform, entries: &[&'a Descriptor]) -> Vec<&'a Descriptor> {
    let rank = |entry: &&Descriptor| entry.platform.as_ref().and_then(|built_for| platform.rank(built_for));
    let Some(best) = entries.iter().filter_map(rank).max() else { return Vec::new() };
    entries.iter().copied().filter(|entry| rank(entry) == Some(best)).collect()
}

/// What was asked for, in words; the node's platform where nothing was.
fn wanted(platform: Option<&Platform>, variant: Option<&VariantChoice>, node: &Platform) -> String {
    let platform = match (platform, variant) {
        (Some(platform), _) => Some(format!("the platform {platform}")),
        (None, Some(_)) => None,
        (None, None) => Some(format!("the node's platform {node}")),
    };
    let variant = variant.map(|variant| format!("the variant `{}`", excerpt(&variant.to_string())));
    [platform, variant].into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

fn describe(entries: &[&Descriptor]) -> Vec<String> {
    entries.iter().map(|entry| describe_one(entry)).collect()
}

/// An entry in the words that `platform` and `variant` take.
fn describe_one(entry: &Descriptor) -> String {
    let platform =
        entry.platform.as_ref().map(|platform| format!("platform {}", excerpt(&platform.to_string())));
    let kind = entry.artifact_type.as_ref().map(|kind| format!("artifactType={}", excerpt(kind)));
    let annotations = entry.annotations.iter().take(4).map(|(key, value)| excerpt(&format!("{key}={value}")));
    let words: Vec<String> = platform.into_iter().chain(kind).chain(annotations).collect();
    if words.is_empty() { entry.digest.to_string() } else { excerpt(&words.join(", ")) }
}
