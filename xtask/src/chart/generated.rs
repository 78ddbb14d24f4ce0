//! Files that are made from others.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::chart::command_line::Program;
use crate::chart::helm::{Helm, NAMESPACE};
use crate::chart::manifests::{Manifests, text};
use crate::chart::readme;
use crate::command;
use crate::workspace::Workspace;

/// A file, and what it should hold.
pub(super) struct Generated {
    /// Its path in the repository.
    pub(super) path: String,
    pub(super) content: String,
}

impl Generated {
    /// Writes it; false where it was so already.
    pub(super) fn write(&self, workspace: &Workspace) -> Result<bool> {
        if self.is_current(workspace).is_ok() {
            return Ok(false);
        }
        let file = workspace.root().join(&self.path);
        fs::write(&file, &self.content).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(true)
    }

    /// Fails where the file has other content.
    pub(super) fn is_current(&self, workspace: &Workspace) -> Result<()> {
        if command::read(&workspace.root().join(&self.path)).ok().as_ref() != Some(&self.content) {
            bail!("{} is not what it is made from: run `cargo xtask chart`", self.path);
        }
        Ok(())
    }
}

/// The definitions of our own kinds, one file each.
pub(super) fn crds(program: &Program) -> Result<Vec<Generated>> {
    let printed = program.crds()?;
    let mut files = Vec::new();
    for document in documents(&printed) {
        let definition = Manifests::parse(document)?;
        let plural = text(&definition.the("CustomResourceDefinition")?["spec"]["names"]["plural"]).to_owned();
        let path = format!("charts/stowage/files/crds/{plural}.yaml");
        files
            .push(Generated { path, content: format!("# Printed by `stowage crd`.\n{}\n", document.trim()) });
    }
    Ok(files)
}

/// README of the chart and plain manifests.
pub(super) fn from_chart(workspace: &Workspace, helm: &Helm) -> Result<Vec<Generated>> {
    let values = command::read(&workspace.root().join("charts/stowage/values.yaml"))?;
    Ok(vec![
        Generated { path: "charts/stowage/README.md".to_owned(), content: readme::render(&values)? },
        Generated { path: "deploy/stowage.yaml".to_owned(), content: plain(&helm.plain_manifests()?) },
    ])
}

/// The rendered chart as a file that stands for itself.
fn plain(rendered: &str) -> String {
    format!(
        "# Rendered from charts/stowage by `cargo xtask chart`: change the chart, not this file.\n\
         apiVersion: v1\n\
         kind: Namespace\n\
         metadata:\n  \
           name: {NAMESPACE}\n  \
           labels:\n    \
             # The node plugin is privileged.\n    \
             pod-security.kubernetes.io/enforce: privileged\n\
         {}",
        // Helm's own marks; nobody manages these objects by it.
        rendered.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: manifests")
    )
}

fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---")
        .map(|document| document.trim_start_matches("---"))
        .filter(|document| !document.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart() {
        assert_eq!(documents("---\na: 1\n---\nb: 2\n").map(str::trim).collect::<Vec<_>>(), ["a: 1", "b: 2"]);
        assert_eq!(documents("a: 1\n").count(), 1);
    }

    #[test]
    fn plain_manifests_begin_with_their_namespace() {
        let text = plain(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app.kubernetes.io/managed-by: Helm}}\n",
        );
        let manifests = Manifests::parse(&text).unwrap();
        let kinds: Vec<_> = manifests.iter().map(|object| text_of(&object["kind"])).collect();
        assert_eq!(kinds, ["Namespace", "Pod"]);
        assert!(!text.contains("Helm"));
    }

    fn text_of(value: &serde_json::Value) -> String {
        crate::chart::manifests::text(value).to_owned()
    }
}
