//! Alerts and dashboard speak of series and labels that exist.
//!
//! `docs/reference/metrics.md` stands between them and the program: a test compares it with what both registries render, and the
//! check compares every expression with it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::chart::manifests::{items, text};
use crate::command;
use crate::workspace::Workspace;

/// Series by name, each with its labels.
type Series = BTreeMap<String, BTreeSet<String>>;

/// What is added to the name of a histogram.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];
/// Labels that Prometheus adds to every series, by itself and by what the `PodMonitor` says.
const OF_TARGETS: [&str; 8] =
    ["job", "instance", "namespace", "pod", "container", "endpoint", "node", "component"];

/// Every series and label in alerts and dashboard is in `docs/reference/metrics.md`.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let read = |path: &str| command::read(&workspace.root().join(path));
    let documented = documented(&read("docs/reference/metrics.md")?);
    for (file, expressions) in [
        ("alerts.yaml", of_alerts(&read("charts/stowage/templates/monitoring/alerts.yaml")?)?),
        ("dashboard.json", of_dashboard(&read("charts/stowage/files/dashboard.json")?)?),
    ] {
        ensure!(!expressions.is_empty(), "{file} asks for nothing");
        for expression in expressions {
            judge(&expression, &documented).with_context(|| format!("{file} asks for {expression}"))?;
        }
    }
    Ok(())
}

/// The expressions of the alerts, with what Helm fills in left out.
fn of_alerts(template: &str) -> Result<Vec<String>> {
    let mut plain = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        plain.push_str(before);
        // A text for people may hold the same marks.
        let ends = if after.trim_start().starts_with('"') { "quote }}" } else { "}}" };
        rest = after.split_once(ends).context("a template does not end")?.1;
    }
    plain.push_str(rest);
    let rules: Value = serde_saphyr::from_str(&plain).context("the alerts are no YAML")?;
    let groups = items(&rules["spec"]["groups"]).iter().flat_map(|group| items(&group["rules"]));
    Ok(groups.map(|rule| text(&rule["expr"]).to_owned()).collect())
}

/// The expressions of panels and variables.
fn of_dashboard(dashboard: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    collect(&serde_json::from_str(dashboard).context("the dashboard is no JSON")?, &mut found);
    Ok(found)
}

fn collect(value: &Value, found: &mut Vec<String>) {
    let texts = ["expr", "definition"].iter().filter_map(|key| value[*key].as_str());
    found.extend(texts.map(str::to_owned));
    let inner = value
        .as_array()
        .into_iter()
        .flatten()
        .chain(value.as_object().into_iter().flat_map(|map| map.values()));
    for value in inner {
        collect(value, found);
    }
}

/// Fails where an expression has a series that is not known, or a label that none of its series has.
fn judge(expression: &str, known: &Series) -> Result<()> {
    let mut labels: BTreeSet<&str> = OF_TARGETS.into();
    let mut rest = expression;
    while let Some(start) = rest.find("stowage_") {
        let tail = &rest[start..];
        let end = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
        let (name, after) = tail.split_at(end);
        let (base, own) = series(name, known).with_context(|| format!("there is no series {name}"))?;
        labels.extend(own.iter().map(String::as_str));
        if base != name {
            labels.insert("le");
        }
        if let Some((matchers, _)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            for matcher in matchers.split(',') {
                let label = matcher.split(['=', '!', '~']).next().unwrap_or_default().trim();
                let there = own.contains(label) || OF_TARGETS.contains(&label);
                ensure!(there, "{name} has no label {label}");
            }
        }
        rest = after;
    }
    for word in ["by (", "on (", "ignoring (", "without ("] {
        for after in expression.split(word).skip(1) {
            let list = after.split_once(')').context("a list of labels does not end")?.0;
            for label in list.split(',').map(str::trim) {
                ensure!(labels.contains(label), "no series here has the label {label}");
            }
        }
    }
    Ok(())
}

/// A series by its name, or a histogram by one of its three.
fn series<'a>(name: &str, known: &'a Series) -> Option<(&'a String, &'a BTreeSet<String>)> {
    let base = OF_HISTOGRAMS.iter().find_map(|suffix| name.strip_suffix(suffix));
    known.get_key_value(name).or_else(|| known.get_key_value(base?))
}

/// The series in the first cells of the tables.
fn documented(reference: &str) -> Series {
    let cells = reference.lines().filter_map(|line| line.strip_prefix("| `stowage_")?.split(" | ").next());
    let mut found = Series::new();
    for cell in cells {
        let cell = format!("`stowage_{cell}");
        for word in cell.split('`').filter(|word| word.starts_with("stowage_")) {
            let (name, labels) = word.split_once('{').unwrap_or((word, ""));
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            found.insert(name.to_owned(), labels.map(str::to_owned).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stowage_telemetry::controller_metrics::ArtifactNumbers;
    use stowage_telemetry::{ControllerMetrics, Metrics, Series as _};

    use super::*;

    const REFERENCE: &str = include_str!("../../../docs/reference/metrics.md");

    /// What a scrape says.
    fn rendered(scrape: &str) -> Series {
        let mut found = Series::new();
        let mut histograms = Vec::new();
        for line in scrape.lines() {
            if let Some(name) = line.strip_prefix("# TYPE ").and_then(|line| line.strip_suffix(" histogram"))
            {
                histograms.push(name);
            }
            let Some((series, _)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let base = histograms.iter().find(|histogram| {
                name.strip_prefix(**histogram).is_some_and(|suffix| OF_HISTOGRAMS.contains(&suffix))
            });
            let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0));
            let labels = labels.filter(|label| *label != "le").map(str::to_owned);
            found.entry(base.map_or(name, |base| base).to_owned()).or_default().extend(labels);
        }
        found
    }

    #[test]
    fn the_reference_tells_of_the_series_that_the_programs_render() {
        let node = Metrics::new();
        node.publish("ok");
        node.unpublish("ok", Duration::from_secs(1));
        node.mounted(Duration::from_secs(1), 0, 1);
        node.erofs("file");
        node.events("written", 1);
        let controller = ControllerMetrics::new();
        controller.request("create_volume", "ok", Duration::from_secs(1));
        controller.reconcile("ok", Duration::from_secs(1));
        controller.watch_artifacts(Some(Box::new(ArtifactNumbers::default)));
        let mut programs = rendered(&node.render().unwrap());
        programs.extend(rendered(&controller.text().unwrap()));
        assert_eq!(documented(REFERENCE), programs);
    }

    #[test]
    fn what_no_program_renders_is_found_in_an_expression() {
        let known = documented(REFERENCE);
        let judge = |expression: &str| {
            judge(expression, &known).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(
            judge("sum by (node, le) (rate(stowage_publish_duration_seconds_bucket{cache=\"hit\"}[5m]))"),
            ""
        );
        assert_eq!(judge("stowage_volume"), "there is no series stowage_volume");
        assert_eq!(
            judge("stowage_publishes_total{code=~\"x\"}"),
            "stowage_publishes_total has no label code"
        );
        assert_eq!(judge("sum by (cache) (stowage_volumes)"), "no series here has the label cache");
    }

    #[test]
    fn expressions_are_found_in_a_template_and_in_a_dashboard() {
        let template = "{{- if .A }}\nspec:\n  groups:\n    - rules:\n        - expr: up{job=\"{{ .B }}\"}\n          annotations:\n            \
                        a: {{ \"on {{ $labels.node }}\" | quote }}\n{{- end }}\n";
        assert_eq!(of_alerts(template).unwrap(), ["up{job=\"\"}"]);
        let dashboard = r#"{"panels": [{"targets": [{"expr": "a"}]}], "templating": {"definition": "b"}}"#;
        assert_eq!(of_dashboard(dashboard).unwrap(), ["a", "b"]);
    }
}
