//! One version for the program, the chart and the image.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command;
use crate::workspace::Workspace;

/// The version of the workspace, which this program shares.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Fails unless `Chart.yaml` and the Dockerfile say what the workspace says.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let read = |path: &str| command::read(&workspace.root().join(path));
    same(&read("charts/stowage/Chart.yaml")?, &read("Dockerfile")?, VERSION)
}

fn same(chart: &str, dockerfile: &str, version: &str) -> Result<()> {
    let chart: Value = serde_saphyr::from_str(chart).context("Chart.yaml is no YAML")?;
    let argument = dockerfile.lines().find_map(|line| line.trim().strip_prefix("ARG VERSION="));
    for (place, found) in [
        ("version in Chart.yaml", chart["version"].as_str()),
        ("appVersion in Chart.yaml", chart["appVersion"].as_str()),
        ("ARG VERSION in the Dockerfile", argument),
    ] {
        ensure!(found == Some(version), "{place} is {found:?}, and the workspace has {version}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_was_left_behind_is_found() {
        let chart = |app: &str| format!("version: 1.2.0\nappVersion: {app}\n");
        same(&chart("1.2.0"), "FROM a\nARG VERSION=1.2.0\n", "1.2.0").unwrap();
        let said = |chart: &str, dockerfile: &str, version: &str| {
            same(chart, dockerfile, version).unwrap_err().to_string()
        };
        assert!(said(&chart("1.1.0"), "ARG VERSION=1.2.0", "1.2.0").starts_with("appVersion"));
        assert!(said(&chart("1.2.0"), "ARG VERSION=1.1.0", "1.2.0").starts_with("ARG VERSION"));
        assert!(said(&chart("1.2.0"), "FROM a", "1.2.0").contains("None"));
        assert!(said(&chart("1.2.0"), "ARG VERSION=1.2.0", "1.3.0").starts_with("version"));
    }
}
