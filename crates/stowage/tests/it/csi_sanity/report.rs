//! What the suite says of itself: Ginkgo's JSON report.

use std::path::Path;

use serde::Deserialize;

/// How a spec ended.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Passed,
    /// Also what the suite itself has switched off.
    #[serde(alias = "pending")]
    Skipped,
    /// Failed, panicked, timed out, interrupted.
    #[serde(other)]
    Bad,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    suite_succeeded: bool,
    spec_reports: Vec<Spec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    #[serde(default)]
    leaf_node_text: String,
    state: State,
    #[serde(default)]
    failure: Failure,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    message: String,
}

/// One run of the suite.
#[derive(Debug)]
pub(super) struct Report {
    suites: Vec<Suite>,
    specs: Vec<(String, State, String)>,
}

impl Report {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("no report at {}: {error}", path.display());
        let text = std::fs::read(path).map_err(|error| said(&error))?;
        let mut suites: Vec<Suite> = serde_json::from_slice(&text).map_err(|error| said(&error))?;
        let specs = suites.iter_mut().flat_map(|suite| std::mem::take(&mut suite.spec_reports));
        let specs = specs.map(|spec| {
            let mut words = spec.container_hierarchy_texts.unwrap_or_default();
            words.extend([spec.leaf_node_text].into_iter().filter(|text| !text.is_empty()));
            let name = if words.is_empty() { spec.leaf_node_type.clone() } else { words.join(" ") };
            (spec.leaf_node_type == "It", name, spec.state, spec.failure.message)
        });
        // Steps before and after the suite count only where they fail.
        let specs = specs.filter(|(is_spec, _, state, _)| *is_spec || *state == State::Bad);
        let specs = specs.map(|(_, name, state, message)| (name, state, message)).collect();
        Ok(Self { suites, specs })
    }

    /// The specs that ended so, by name.
    pub(super) fn names(&self, state: State) -> Vec<&str> {
        let ended_so = self.specs.iter().filter(|(_, ended, _)| *ended == state);
        let mut names: Vec<_> = ended_so.map(|(name, ..)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// What is not as it should be.
    pub(super) fn failures(&self) -> Vec<String> {
        let bad = self.specs.iter().filter(|(_, state, _)| *state == State::Bad);
        let mut failures: Vec<_> = bad.map(|(name, _, message)| format!("{name}: {message}")).collect();
        if failures.is_empty() && !self.suites.iter().all(|suite| suite.suite_succeeded) {
            failures.push("the suite failed outside of its specs".to_owned());
        }
        failures
    }
}
