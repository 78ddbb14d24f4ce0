//! Helm charts.
//!
//! Types: helm/helm pkg/registry/constants.go; the config is the chart's metadata (pkg/registry/client.go, `Push`); the
//! names are those of `helm pull` (`pkg/downloader/chart_downloader.go`).

use serde_json::{Value, json};
use stowage_artifact::{Family, LayoutError, Manifest, PlanOptions, needs_config};

use crate::fixture::{
    TITLE, artifact_with, assert_lines, assert_refused, digest, layer, plan_config, plan_default,
};

const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";

fn metadata(name: &str, version: &str) -> String {
    json!({"name": name, "version": version, "apiVersion": "v2", "type": "application", "appVersion": "9"})
        .to_string()
}

fn chart(config: &str, annotations: &[(&str, &str)]) -> Manifest {
    let layers: [Value; 2] = [layer(CHART, "chart", annotations), layer(PROVENANCE, "prov", annotations)];
    artifact_with(None, CONFIG, config, &layers)
}

#[test]
fn a_chart_is_the_file_that_helm_pull_writes() {
    let config = metadata("nginx", "1.2.3+build.4");
    let manifest = chart(&config, &[]);
    assert!(needs_config(&manifest, &PlanOptions::default()));
    let files =
        ["= helm", "nginx-1.2.3+build.4.tgz 444 raw chart", "nginx-1.2.3+build.4.tgz.prov 444 raw prov"];
    assert_lines(plan_config(&manifest, &config, &[]), &files);
    assert_lines(plan_config(&manifest, &config, &[("tar", "file")]), &files);
    assert_lines(
        plan_config(&manifest, &config, &[("tar", "expand")]),
        &["= helm", files[2], "tar chart+gzip fallback:nginx-1.2.3+build.4.tgz files"],
    );
    let rejected = plan_config(&manifest, &config, &[("tar", "reject")]);
    assert!(matches!(rejected, Err(LayoutError::TarRejected { .. })));
    let without = plan_config(&manifest, &config, &[("tar", "reject"), ("exclude", "*.tgz")]);
    assert_lines(without, &["= helm", files[2], "- nginx-1.2.3+build.4.tgz"]);
    assert_eq!(plan_default(&manifest).unwrap_err(), LayoutError::NoConfig);
}

#[test]
fn the_type_from_before_helm_3_8_is_a_chart_too() {
    let config = metadata("old", "0.1.0");
    let layers = [layer("application/tar+gzip", "chart", &[]), layer("text/plain", "x", &[(TITLE, "NOTES")])];
    let manifest = artifact_with(None, CONFIG, &config, &layers);
    let expected = ["= helm", "NOTES 444 raw x", "old-0.1.0.tgz 444 raw chart"];
    assert_lines(plan_config(&manifest, &config, &[]), &expected);
}

#[test]
fn titles_of_the_chart_count_for_nothing() {
    let config = metadata("a", "1");
    let manifest = chart(&config, &[(TITLE, "../../x")]);
    let expected = ["= helm", "a-1.tgz 444 raw chart", "a-1.tgz.prov 444 raw prov"];
    assert_lines(plan_config(&manifest, &config, &[]), &expected);
}

#[test]
fn hostile_metadata_is_refused() {
    let expected = "the config blob of this helm cannot be used: the name or the version of the chart has a slash, so \
                    they are no file name";
    for (name, version) in [("../../etc/x", "1"), ("x", "1/../../y"), ("/", "1")] {
        let config = metadata(name, version);
        assert_refused(plan_config(&chart(&config, &[]), &config, &[]), expected);
    }
    let config = metadata("a\nb", "1");
    let expected = format!(
        "layer 0 ({}, {CHART}) is named by the name and the version of the chart, which is refused: the path \
         `a\\nb-1.tgz` has a control character, which no file name in a volume may have",
        digest("chart")
    );
    assert_refused(plan_config(&chart(&config, &[]), &config, &[]), &expected);
    let long = metadata(&"n".repeat(300), "1");
    assert!(matches!(plan_config(&chart(&long, &[]), &long, &[]), Err(LayoutError::Named { .. })));
    for broken in ["", "{}", "[]", r#"{"name":"x"}"#, r#"{"name":"x","version":1}"#] {
        let error = plan_config(&chart(broken, &[]), broken, &[]).unwrap_err();
        assert!(matches!(error, LayoutError::Config { family: Family::Helm, .. }), "{broken}: {error}");
    }
}

#[test]
fn metadata_too_large_to_be_read_is_refused() {
    let large = " ".repeat(5 << 20);
    let manifest = chart(&large, &[]);
    let error = LayoutError::LargeConfig { bytes: 5 << 20 };
    assert_eq!(plan_config(&manifest, &large, &[]).unwrap_err(), error);
    assert_eq!(plan_default(&manifest).unwrap_err(), error);
}
