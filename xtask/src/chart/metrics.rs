//! Alerts and dashboard speak of metrics that exist.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::command;
use crate::workspace::Workspace;

/// What is added to the name of a histogram.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Every name in alerts and dashboard is in `docs/reference/metrics.md`.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let documented = names(&command::read(&workspace.root().join("docs/reference/metrics.md"))?);
    for file in ["charts/stowage/templates/monitoring/alerts.yaml", "charts/stowage/files/dashboard.json"] {
        let used = names(&command::read(&workspace.root().join(file))?);
        ensure!(!used.is_empty(), "{file} uses no metric");
        let unknown: Vec<&String> = used.iter().filter(|name| !is_documented(name, &documented)).collect();
        ensure!(
            unknown.is_empty(),
            "{file} uses metrics that docs/reference/metrics.md does not have: {unknown:?}"
        );
    }
    Ok(())
}

fn is_documented(name: &str, documented: &BTreeSet<String>) -> bool {
    let base = OF_HISTOGRAMS.iter().find_map(|suffix| name.strip_suffix(suffix));
    documented.contains(name) || base.is_some_and(|base| documented.contains(base))
}

/// Words that begin with `stowage_`, but for the crates: those are written `stowage_engine=`.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '=');
    let metrics = words.filter(|word| word.starts_with("stowage_") && !word.contains('='));
    metrics.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_from_crates_and_histograms_are_known_by_their_base() {
        let documented =
            names("| `stowage_volumes` | `stowage_wait_seconds{cache}` | `--log stowage_engine=debug`");
        assert_eq!(documented.iter().collect::<Vec<_>>(), ["stowage_volumes", "stowage_wait_seconds"]);
        assert!(is_documented("stowage_wait_seconds_bucket", &documented));
        assert!(!is_documented("stowage_volumes_lost", &documented));
    }
}
