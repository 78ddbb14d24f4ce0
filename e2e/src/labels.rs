//! What marks the objects of a run, so that they are found again and removed.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// The label with the name of the run.
pub(crate) const RUN: &str = "stowage.dev/e2e-run";
/// The label with the name of the scenario.
pub(crate) const SCENARIO: &str = "stowage.dev/e2e-scenario";

/// A name for this run that no other run had: what is cached from one run is not met in the next.
pub(crate) fn new_run() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", since.as_secs(), std::process::id())
}

/// The selector of everything that a scenario of a run made.
pub(crate) fn selector(run: &str, scenario: &str) -> String {
    format!("{RUN}={run},{SCENARIO}={scenario}")
}

/// A name that no other scenario gives: what one leaves behind is in nobody's way.
pub(crate) fn name(scenario: &str, short: &str) -> String {
    format!("{scenario}-{short}")
}

/// Adds the labels of a run, and of a scenario, to a manifest.
pub(crate) fn mark(manifest: &mut Value, run: &str, scenario: &str) {
    let metadata = &mut manifest["metadata"];
    if metadata["labels"].is_null() {
        metadata["labels"] = json!({});
    }
    metadata["labels"][RUN] = json!(run);
    metadata["labels"][SCENARIO] = json!(scenario);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_there_stay() {
        let mut manifest = json!({ "metadata": { "name": "a", "labels": { "app": "b" } } });
        mark(&mut manifest, "r", "s");
        let labels = json!({ "app": "b", RUN: "r", SCENARIO: "s" });
        assert_eq!(manifest["metadata"], json!({ "name": "a", "labels": labels }));
        let mut bare = json!({ "metadata": { "name": "a" } });
        mark(&mut bare, "r", "s");
        assert_eq!(bare["metadata"]["labels"][SCENARIO], "s");
    }

    #[test]
    fn the_name_of_a_run_is_a_label_and_part_of_a_name() {
        let run = new_run();
        assert!(run.len() <= 30 && run.chars().all(|c| c.is_ascii_hexdigit() || c == '-'), "{run}");
    }
}
