//! The chart, by helm.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::arguments::Arguments;

/// The name of the release.
const RELEASE: &str = "stowage-e2e";

/// An installed chart.
#[derive(Debug)]
pub(crate) struct Install<'a> {
    arguments: &'a Arguments,
}

impl<'a> Install<'a> {
    /// Installs the chart with the image under test and plain http to these hosts.
    pub(crate) async fn run(arguments: &'a Arguments, image: &str, hosts: &[String]) -> Result<Self> {
        std::fs::create_dir_all(&arguments.output)
            .with_context(|| format!("cannot make {}", arguments.output.display()))?;
        let file = arguments.output.join("values.json");
        std::fs::write(&file, values(image, &arguments.driver, hosts)?.to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let install = Self { arguments };
        install.helm(&install_line(arguments, &file)).await?;
        Ok(install)
    }

    /// Takes the chart away again.
    pub(crate) async fn remove(&self) -> Result<()> {
        let words = ["uninstall", RELEASE, "--wait", "--timeout=5m", "--namespace"];
        let mut line: Vec<OsString> = words.map(OsString::from).into();
        line.push(self.arguments.plugin_namespace.clone().into());
        self.helm(&line).await
    }

    async fn helm(&self, line: &[OsString]) -> Result<()> {
        let arguments = self.arguments;
        let mut helm = Command::new(&arguments.helm);
        helm.args(line);
        if let Some(kubeconfig) = &arguments.kubeconfig {
            helm.arg("--kubeconfig").arg(kubeconfig);
        }
        if let Some(context) = &arguments.context {
            helm.arg("--kube-context").arg(context);
        }
        let program = arguments.helm.display();
        let output = helm.output().await.with_context(|| format!("cannot start `{program}`"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{program} {}` failed: {}", line[0].display(), said.trim());
        }
        Ok(())
    }
}

fn install_line(arguments: &Arguments, values: &Path) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["install".into(), RELEASE.into(), arguments.chart.clone().into()];
    line.extend(["--create-namespace", "--wait", "--timeout=10m", "--namespace"].map(OsString::from));
    line.push(arguments.plugin_namespace.clone().into());
    // What the caller gives beats ours.
    for file in std::iter::once(values).chain(arguments.values.iter().map(std::path::PathBuf::as_path)) {
        line.push("--values".into());
        line.push(file.into());
    }
    line
}

/// The values that the tests need. JSON is YAML, too.
fn values(image: &str, driver: &str, hosts: &[String]) -> Result<Value> {
    let registries = json!({ "plainHttp": hosts });
    // A test cluster's disk is that of the machine which runs it, and often nearly full.
    let store = json!({ "minFreePercent": 3 });
    Ok(json!({
        "image": image_values(image)?,
        "csiDriver": { "name": driver },
        "node": { "config": { "registries": registries, "store": store } },
        "controller": { "enabled": true, "config": { "registries": registries } },
    }))
}

/// `repository:tag`, or `repository@digest`, as the chart takes it.
fn image_values(image: &str) -> Result<Value> {
    if let Some((repository, digest)) = image.split_once('@') {
        return Ok(json!({ "repository": repository, "digest": digest, "pullPolicy": "IfNotPresent" }));
    }
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => {
            Ok(json!({ "repository": repository, "tag": tag, "pullPolicy": "IfNotPresent" }))
        }
        _ => {
            bail!("the image `{image}` has no tag and no digest; the chart would take another one's: add one")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn an_image_is_split_as_the_chart_takes_it() {
        let tagged = image_values("localhost:5000/stowage:e2e").unwrap();
        assert_eq!(
            (&tagged["repository"], &tagged["tag"]),
            (&json!("localhost:5000/stowage"), &json!("e2e"))
        );
        let pinned = image_values("ghcr.io/a/stowage@sha256:00").unwrap();
        assert_eq!(
            (&pinned["repository"], &pinned["digest"]),
            (&json!("ghcr.io/a/stowage"), &json!("sha256:00"))
        );
        assert!(image_values("localhost:5000/stowage").unwrap_err().to_string().contains("no tag"));
    }

    #[test]
    fn node_and_controller_speak_plain_http_to_the_registry() {
        let values = values("a/b:c", "csi.stowage.dev", &["10.96.0.9:5000".to_owned()]).unwrap();
        for part in ["node", "controller"] {
            assert_eq!(values[part]["config"]["registries"]["plainHttp"], json!(["10.96.0.9:5000"]));
        }
    }

    #[test]
    fn the_callers_values_come_after_ours() {
        let arguments = ["stowage-e2e", "--image=a:b", "--install", "--values=mine.yaml"];
        let line = install_line(&Arguments::parse_from(arguments), Path::new("ours.json"));
        let position = |word: &str| line.iter().position(|each| each == word);
        assert!(position("ours.json") < position("mine.yaml"), "{line:?}");
    }

    #[tokio::test]
    async fn a_failure_of_helm_is_told_in_its_words() {
        let directory = tempfile::tempdir().unwrap();
        let helm = directory.path().join("helm");
        std::fs::write(&helm, "#!/bin/sh\necho \"no such chart\" >&2\nexit 1\n").unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&helm, permissions).unwrap();
        let mut arguments = Arguments::parse_from(["stowage-e2e", "--image=a:b", "--install"]);
        arguments.helm = helm;
        arguments.output = directory.path().join("out");
        let error = Install::run(&arguments, "a:b", &[]).await.unwrap_err().to_string();
        assert!(error.ends_with("helm install` failed: no such chart"), "{error}");
        assert!(arguments.output.join("values.json").exists());
    }
}
