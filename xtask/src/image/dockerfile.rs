//! The instructions of our Dockerfile. One that is not known is an error, so that the proof leaves none out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The whole file.
#[derive(Debug)]
pub(super) struct Dockerfile {
    pub(super) stages: Vec<Stage>,
}

/// From one `FROM` to the next.
#[derive(Debug)]
pub(super) struct Stage {
    /// The image that it begins with, with arguments filled in.
    pub(super) base: String,
    /// The name that others copy by.
    pub(super) name: Option<String>,
    pub(super) steps: Vec<Step>,
}

/// What changes files, or says how the image starts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Copy {
        from: Option<String>,
        sources: Vec<String>,
        /// Absolute, and ends with a slash where it is a directory.
        target: String,
    },
    Run {
        line: String,
        folder: PathBuf,
    },
    Label(String, String),
    Entrypoint(Vec<String>),
}

impl Dockerfile {
    /// Reads the file.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut global = BTreeMap::new();
        let mut stages: Vec<Stage> = Vec::new();
        let (mut arguments, mut folder) = (BTreeMap::new(), PathBuf::from("/"));
        for line in logical_lines(text) {
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
            let rest = rest.trim();
            match (word, stages.last_mut()) {
                ("ARG", stage) => {
                    let (name, value) =
                        rest.split_once('=').with_context(|| format!("`{line}` has no default"))?;
                    let scope = if stage.is_none() { &mut global } else { &mut arguments };
                    scope.insert(name.to_owned(), value.to_owned());
                }
                ("FROM", _) => {
                    let words: Vec<&str> = rest.split_whitespace().collect();
                    let name = match words[..] {
                        [_] => None,
                        [_, "AS", name] => Some(name.to_owned()),
                        _ => bail!("`{line}` is more than an image and a name"),
                    };
                    stages.push(Stage { base: expand(words[0], &global)?, name, steps: Vec::new() });
                    (arguments, folder) = (BTreeMap::new(), PathBuf::from("/"));
                }
                ("WORKDIR", Some(_)) => folder = folder.join(rest),
                ("COPY", Some(stage)) => stage.steps.push(copy(rest, &folder)?),
                ("RUN", Some(stage)) => {
                    ensure!(!rest.starts_with(['-', '[']), "`{line}` has options or is a list");
                    stage.steps.push(Step::Run { line: rest.to_owned(), folder: folder.clone() });
                }
                ("LABEL", Some(stage)) => {
                    for (key, value) in labels(rest)? {
                        stage.steps.push(Step::Label(key, expand(&value, &arguments)?));
                    }
                }
                ("ENTRYPOINT", Some(stage)) => {
                    let words = serde_json::from_str(rest).with_context(|| format!("`{line}` is no list"))?;
                    stage.steps.push(Step::Entrypoint(words));
                }
                _ => bail!("the proof does not know what `{line}` does"),
            }
        }
        ensure!(!stages.is_empty(), "the Dockerfile has no FROM");
        Ok(Self { stages })
    }
}

/// Lines without comments, those that end with a backslash joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(begun) = line.strip_suffix('\\') {
            open += begun;
        } else {
            lines.push(std::mem::take(&mut open) + line);
        }
    }
    lines
}

fn copy(rest: &str, folder: &Path) -> Result<Step> {
    let mut words: Vec<&str> = rest.split_whitespace().collect();
    let from = words.first().and_then(|word| word.strip_prefix("--from=")).map(str::to_owned);
    if from.is_some() {
        words.remove(0);
    }
    let target = words.pop().with_context(|| format!("`COPY {rest}` has no target"))?;
    ensure!(
        !words.is_empty() && !words[0].starts_with("--"),
        "`COPY {rest}` has no source, or unknown options"
    );
    let is_folder = target == "." || target.ends_with('/');
    let mut target = folder.join(target.trim_start_matches("./").trim_end_matches('.')).display().to_string();
    if is_folder && !target.ends_with('/') {
        target.push('/');
    }
    Ok(Step::Copy { from, sources: words.into_iter().map(str::to_owned).collect(), target })
}

/// `key="value"` pairs.
fn labels(rest: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = rest;
    while let Some((key, more)) = rest.split_once("=\"") {
        let (value, more) = more.split_once('"').with_context(|| format!("the label {key} is not closed"))?;
        found.push((key.trim().to_owned(), value.to_owned()));
        rest = more;
    }
    ensure!(rest.trim().is_empty(), "`{rest}` is no label with a quoted value");
    Ok(found)
}

/// Puts the values of arguments in.
fn expand(text: &str, arguments: &BTreeMap<String, String>) -> Result<String> {
    let mut parts = text.split("${");
    let mut expanded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').with_context(|| format!("`{text}` has an open brace"))?;
        expanded += arguments.get(name).with_context(|| format!("`{text}` has no argument {name}"))?;
        expanded += rest;
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = include_str!("../../../Dockerfile");
    const WORKSPACE: &str = include_str!("../../../Cargo.toml");
    const IGNORED: &str = include_str!("../../../.dockerignore");

    fn ours() -> Dockerfile {
        Dockerfile::parse(OURS).unwrap()
    }

    #[test]
    fn stages_have_their_steps_with_arguments_and_folders_filled_in() {
        let text = "ARG BASE=debian:12\n# A comment.\nFROM ${BASE} AS a\nWORKDIR /s\nCOPY x y ./\nRUN one && \\\n    two\n\
                    FROM scratch\nARG V=1\nCOPY --from=a /s/z /z\nLABEL k=\"v${V}\" \\\n  l=\"m\"\nENTRYPOINT [\"/z\"]\n";
        let file = Dockerfile::parse(text).unwrap();
        assert_eq!(file.stages[0].base, "debian:12");
        assert_eq!(file.stages[0].name.as_deref(), Some("a"));
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            file.stages[0].steps,
            [
                Step::Copy { from: None, sources: words(&["x", "y"]), target: "/s/".into() },
                Step::Run { line: "one && two".into(), folder: "/s".into() },
            ]
        );
        assert_eq!(
            file.stages[1].steps,
            [
                Step::Copy { from: Some("a".into()), sources: words(&["/s/z"]), target: "/z".into() },
                Step::Label("k".into(), "v1".into()),
                Step::Label("l".into(), "m".into()),
                Step::Entrypoint(words(&["/z"])),
            ]
        );
    }

    #[test]
    fn an_instruction_that_is_not_known_is_an_error() {
        for text in [
            "FROM a\nHEALTHCHECK NONE\n",
            "FROM a\nRUN --mount=type=cache,target=/x y\n",
            "FROM ${B}\n",
            "COPY a b\n",
        ] {
            assert!(Dockerfile::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_image_is_debian_12_throughout_and_has_the_rust_of_the_workspace() {
        let version = WORKSPACE.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap();
        let rust = format!("/rust:{}-bookworm", version.trim_end_matches('"'));
        let file = ours();
        let (last, builders) = file.stages.split_last().unwrap();
        assert!(builders.iter().all(|stage| stage.base.ends_with(&rust)), "{rust}");
        assert!(last.base.contains("/cc-debian12:"), "{}", last.base);
        assert!(
            !last.steps.iter().any(|step| matches!(step, Step::Run { .. })),
            "the last image has no shell"
        );
    }

    #[test]
    fn whatever_is_copied_is_sent_and_nothing_else_is() {
        let file = ours();
        let copied = file.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| match step {
            Step::Copy { from: None, sources, .. } => Some(sources),
            _ => None,
        });
        let mut copied: Vec<&str> = copied.flatten().map(String::as_str).collect();
        copied.sort_unstable();
        copied.dedup();
        let mut sent: Vec<&str> = IGNORED.lines().filter_map(|line| line.strip_prefix('!')).collect();
        sent.sort_unstable();
        assert_eq!(copied, sent);
        assert!(IGNORED.lines().any(|line| line == "*"));
        // Cargo wants the manifests of all members.
        let members = WORKSPACE.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
        for member in members.split('"').skip(1).step_by(2).map(|member| member.trim_end_matches("/*")) {
            assert!(copied.contains(&member), "{member} is a member of the workspace");
        }
    }

    #[test]
    fn the_image_has_oci_labels_and_starts_the_program() {
        let file = ours();
        let last = file.stages.last().unwrap();
        for key in ["title", "description", "source", "licenses", "version", "revision"] {
            let key = format!("org.opencontainers.image.{key}");
            let label = last
                .steps
                .iter()
                .any(|step| matches!(step, Step::Label(name, value) if *name == key && !value.is_empty()));
            assert!(label, "{key}");
        }
        assert!(last.steps.contains(&Step::Entrypoint(vec!["/usr/bin/stowage".to_owned()])));
    }
}
