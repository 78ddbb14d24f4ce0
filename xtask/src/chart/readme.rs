//! The chart's README, from the comments in `values.yaml`.
//!
//! A line `## Title` opens a section. The comment right above a key describes that key and all below it that have none of their
//! own. A key without any description is an error.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What stands above the table.
const INTRODUCTION: &str = "# Stowage

Mounts OCI artifacts into pods as read-only volumes, without unpacking.

<!-- Made from values.yaml by `cargo xtask chart`. -->

```console
$ kubectl create namespace stowage-system
$ kubectl label namespace stowage-system pod-security.kubernetes.io/enforce=privileged
$ helm install stowage charts/stowage --namespace stowage-system
```

Where Pod Security is enforced, no plugin starts in a namespace without that label, and `--create-namespace` makes one without it.
The node plugin is privileged: Kubernetes allows Bidirectional mount propagation to privileged containers only. It runs one
container, sees the pods' directories and its own store, has no rights on secrets, and no host PIDs.
[Installing](../../docs/guides/install.md) says more, also how to [upgrade and uninstall](../../docs/guides/upgrade-uninstall.md).

Needs Kubernetes 1.31 or newer. Unknown values are refused.
";

/// A key of the file, or the title of a section.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Section(String),
    Key { path: Vec<String>, comment: String },
}

/// The whole README.
pub(super) fn render(values: &str) -> Result<String> {
    let defaults: Value = serde_saphyr::from_str(values).context("values.yaml is no YAML")?;
    let lines = read(values);
    let mut text = INTRODUCTION.to_owned();
    let described: Vec<&Vec<String>> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Key { path, comment } if !comment.is_empty() => Some(path),
            _ => None,
        })
        .collect();
    for line in &lines {
        match line {
            Line::Section(title) => {
                write!(text, "\n## {title}\n\n| value | default | |\n| --- | --- | --- |\n")?;
            }
            Line::Key { path, comment } => {
                let parent =
                    described.iter().any(|other| other.len() < path.len() && path.starts_with(other));
                let child = described.iter().any(|other| other.len() > path.len() && other.starts_with(path));
                match (comment.is_empty(), parent, child) {
                    (false, false, false) => {
                        let default = path.iter().fold(&defaults, |value, key| &value[key]);
                        writeln!(text, "| `{}` | {} | {comment} |", path.join("."), cell(default))?;
                    }
                    (true, true, false) | (true, false, true) => {}
                    (true, ..) => bail!("values.yaml does not say what {} is", path.join(".")),
                    (false, ..) => bail!("values.yaml describes {} and something within it", path.join(".")),
                }
            }
        }
    }
    Ok(text)
}

/// Keys with the comments above them, told apart by how far they are indented; items of lists are not followed.
fn read(values: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut comment = String::new();
    let mut stack: Vec<(usize, String)> = Vec::new();
    let mut skipped_from: Option<usize> = None;
    for line in values.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(title) = trimmed.strip_prefix("## ") {
            comment.clear();
            lines.push(Line::Section(title.to_owned()));
        } else if let Some(words) = trimmed.strip_prefix("# ") {
            let gap = if comment.is_empty() { "" } else { " " };
            comment = format!("{comment}{gap}{words}");
        } else if trimmed.is_empty() {
            comment.clear();
        } else if trimmed.starts_with('-') {
            skipped_from = Some(indent);
        } else if let Some((key, _)) = trimmed.split_once(':')
            && skipped_from.is_none_or(|from| indent <= from)
        {
            skipped_from = None;
            stack.retain(|(outer, _)| *outer < indent);
            stack.push((indent, key.to_owned()));
            let path = stack.iter().map(|(_, key)| key.clone()).collect();
            lines.push(Line::Key { path, comment: std::mem::take(&mut comment) });
        }
    }
    lines
}

/// A default as a cell of the table.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_described_by_the_comment_above_it() {
        let values = "# Not a description.\n\n## Part\n\na:\n  # The first\n  # one.\n  b: 1\n  # A whole.\n  c:\n    d: [x]\n    e:\n      - f: 1\n        g: 2\n# Text.\nh: \"\"\n";
        let text = render(values).unwrap();
        let table = text.split_once("## Part").unwrap().1;
        assert_eq!(
            table,
            "\n\n| value | default | |\n| --- | --- | --- |\n| `a.b` | `1` | The first one. |\n\
             | `a.c` | `{\"d\":[\"x\"],\"e\":[{\"f\":1,\"g\":2}]}` | A whole. |\n| `h` | empty | Text. |\n"
        );
    }

    #[test]
    fn a_key_without_description_is_an_error() {
        let error = render("## Part\na:\n  # Text.\n  b: 1\n  c: 2\n").unwrap_err();
        assert_eq!(error.to_string(), "values.yaml does not say what a.c is");
    }
}
