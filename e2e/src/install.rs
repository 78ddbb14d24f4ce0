//! The chart, by helm.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use kube::Client;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::arguments::Arguments;
use crate::artifacts;

/// The name of the release.
const RELEASE: &str = "stowage-e2e";

/// A chart that is installed, or on its way: it is to be removed as soon as helm was started.
#[derive(Debug)]
pub(crate) struct Install<'a> {
    arguments: &'a Arguments,
    finished: bool,
}

impl<'a> Install<'a> {
    /// One of which nothing is there yet.
    pub(crate) fn new(arguments: &'a Arguments) -> Self {
        Self { arguments, finished: false }
    }

    /// Installs the chart with the image under test and plain http to these hosts.
    pub(crate) async fn run(&mut self, client: &Client, image: &str, hosts: &[String]) -> Result<()> {
        let arguments = self.arguments;
        let bring = self.brings_definition(client).await?;
        if !bring {
            println!("the cluster has a CachedArtifact definition of its own, which is used as it is");
        }
        std::fs::create_dir_all(&arguments.output)
            .with_context(|| format!("cannot make {}", arguments.output.display()))?;
        let file = arguments.output.join("values.json");
        std::fs::write(&file, values(arguments, image, hosts, bring)?.to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        self.helm(&install_line(arguments, &file)).await?;
        self.finished = true;
        Ok(())
    }

    /// Whether the definition of `CachedArtifact` is the chart's affair: it is absent, or was left by one of our runs.
    async fn brings_definition(&self, client: &Client) -> Result<bool> {
        let Some(there) = artifacts::definition(client).await? else { return Ok(true) };
        let annotations = there.metadata.annotations.unwrap_or_default();
        let annotation = |name: &str| annotations.get(&format!("meta.helm.sh/{name}")).map(String::as_str);
        let namespace = self.arguments.plugin_namespace.as_str();
        Ok(annotation("release-name") == Some(RELEASE) && annotation("release-namespace") == Some(namespace))
    }

    /// Takes the chart away again, or what there is of it.
    pub(crate) async fn remove(&self) -> Result<()> {
        let words = ["uninstall", RELEASE, "--wait", "--timeout=5m", "--ignore-not-found", "--namespace"];
        let mut line: Vec<OsString> = words.map(OsString::from).into();
        line.push(self.arguments.plugin_namespace.clone().into());
        if !self.finished {
            // The check before an uninstallation runs an image that may be the very thing that is missing.
            line.push("--no-hooks".into());
        }
        self.helm(&line).await
    }

    async fn helm(&self, line: &[OsString]) -> Result<()> {
        let arguments = self.arguments;
        let mut helm = Command::new(&arguments.helm);
        // In a group of its own: Ctrl-C is for us, and we end helm when it is no longer wanted.
        helm.args(line).kill_on_drop(true).process_group(0);
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
fn values(arguments: &Arguments, image: &str, hosts: &[String], definition: bool) -> Result<Value> {
    let registries = json!({ "plainHttp": hosts });
    // A test cluster's disk is that of the machine which runs it, and often nearly full.
    let store = json!({ "minFreePercent": 3 });
    let mut provisioner = json!({ "enabled": !arguments.without_provisioner });
    if let Some(image) = &arguments.provisioner_image {
        provisioner["image"] = image_values(image)?;
    }
    Ok(json!({
        "image": image_values(image)?,
        "csiDriver": { "name": arguments.driver },
        "crds": { "install": definition, "keep": false },
        "node": { "config": { "registries": registries, "store": store } },
        "controller": {
            "enabled": true,
            "config": { "registries": registries },
            "provisioner": provisioner,
        },
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
    use std::io::Write as _;

    use clap::Parser as _;

    use super::*;
    use crate::api_server::ApiServer;

    fn arguments(more: &[&str]) -> Arguments {
        Arguments::parse_from(["stowage-e2e", "--image=a:b", "--install"].iter().chain(more))
    }

    /// A helm that writes down how it is called. Written by a child: a program that this process wrote would be busy while
    /// another test, which inherited the descriptor, starts one.
    fn helm(directory: &Path, script: &str) -> Arguments {
        let program = directory.join("helm");
        let script = format!("#!/bin/sh\necho \"$*\" >> {}\n{script}\n", directory.join("log").display());
        let mut install = std::process::Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(&program).stdin(std::process::Stdio::piped());
        let mut child = install.spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        Arguments { helm: program, output: directory.join("out"), ..arguments(&[]) }
    }

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
        let hosts = ["10.96.0.9:5000".to_owned()];
        let values = values(&arguments(&[]), "a/b:c", &hosts, true).unwrap();
        for part in ["node", "controller"] {
            assert_eq!(values[part]["config"]["registries"]["plainHttp"], json!(["10.96.0.9:5000"]));
        }
    }

    #[test]
    fn the_provisioner_is_the_callers_choice_and_the_definition_goes_with_the_chart() {
        let values = |more: &[&str], definition| values(&arguments(more), "a/b:c", &[], definition).unwrap();
        let theirs = values(&["--provisioner-image=r:5000/p:v1"], true);
        let image = json!({ "repository": "r:5000/p", "tag": "v1", "pullPolicy": "IfNotPresent" });
        assert_eq!(theirs["controller"]["provisioner"], json!({ "enabled": true, "image": image }));
        assert_eq!(theirs["crds"], json!({ "install": true, "keep": false }));
        let none = values(&["--without-provisioner"], false);
        assert_eq!(none["controller"]["provisioner"], json!({ "enabled": false }));
        assert_eq!(none["crds"], json!({ "install": false, "keep": false }));
    }

    #[tokio::test]
    async fn a_definition_that_somebody_else_brought_is_left_alone() {
        let owned = |release: &str, namespace: &str| json!({ "meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace });
        for (annotations, brings) in [
            (None, true),
            (Some(json!({})), false),
            (Some(owned("stowage", "stowage-system")), false),
            (Some(owned(RELEASE, "elsewhere")), false),
            (Some(owned(RELEASE, "stowage-system")), true),
        ] {
            let (server, arguments) = (ApiServer::new(), arguments(&[]));
            let (client, install) = (server.client(), Install::new(&arguments));
            let (found, ()) = tokio::join!(install.brings_definition(&client), async {
                let path =
                    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/cachedartifacts.stowage.dev";
                let call = server.expect("GET", path).await;
                let Some(annotations) = &annotations else {
                    return call.refuse(404, "NotFound", "no such definition");
                };
                let kind = "CustomResourceDefinition";
                call.answer(
                    200,
                    &json!({
                        "apiVersion": "apiextensions.k8s.io/v1", "kind": kind,
                        "metadata": { "name": "c", "annotations": annotations },
                    }),
                );
            });
            assert_eq!(found.unwrap(), brings, "{annotations:?}");
        }
    }

    #[test]
    fn the_callers_values_come_after_ours() {
        let line = install_line(&arguments(&["--values=mine.yaml"]), Path::new("ours.json"));
        let position = |word: &str| line.iter().position(|each| each == word);
        assert!(position("ours.json") < position("mine.yaml"), "{line:?}");
    }

    #[tokio::test]
    async fn an_installation_that_fails_is_told_in_helms_words_and_taken_away_without_hooks() {
        let directory = tempfile::tempdir().unwrap();
        let arguments =
            helm(directory.path(), "[ $1 = uninstall ] || { echo \"no such chart\" >&2; exit 1; }");
        let (server, mut install) = (ApiServer::new(), Install::new(&arguments));
        let client = server.client();
        let (failed, ()) = tokio::join!(install.run(&client, "a:b", &[]), async {
            server.next().await.refuse(404, "NotFound", "no such definition");
        });
        let error = failed.unwrap_err().to_string();
        assert!(error.ends_with("helm install` failed: no such chart"), "{error}");
        assert!(arguments.output.join("values.json").exists());

        install.remove().await.unwrap();
        install.finished = true;
        install.remove().await.unwrap();
        let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines[1].contains("--ignore-not-found") && lines[1].ends_with("--no-hooks"), "{log}");
        assert!(!lines[2].contains("--no-hooks"), "{log}");
    }
}
