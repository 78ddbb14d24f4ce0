//! The chart against the program it starts: every flag exists, and the configuration is accepted.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::chart::manifests::{Manifests, items, text, title};
use crate::command;
use crate::workspace::Workspace;

/// An address that no machine has (RFC 5737), so that a program with a good configuration ends before it does anything.
const NOWHERE: &str = "203.0.113.1:1";

/// The built `stowage`.
pub(super) struct Program {
    path: PathBuf,
}

impl Program {
    /// Builds it the way the tests do, so that beside them nothing is built twice.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        command::quiet(workspace.cargo().args(["test", "--workspace", "--locked", "--no-run", "--quiet"]))?;
        let path = workspace.target().join("debug/stowage");
        ensure!(path.is_file(), "{} was not built", path.display());
        Ok(Self { path })
    }

    /// The definitions of our own kinds.
    pub(super) fn crds(&self) -> Result<String> {
        command::capture(Command::new(&self.path).arg("crd"))
    }

    /// The JSON schema of a part's configuration, `node` or `controller`.
    pub(super) fn schema(&self, part: &str) -> Result<String> {
        command::capture(Command::new(&self.path).args(["config", "schema", part]))
    }

    /// Fails unless every container of our image has a command line that `--help` knows, and the two long-running ones a
    /// configuration that they read.
    pub(super) fn accepts(&self, workspace: &Workspace, case: &str, manifests: &Manifests) -> Result<()> {
        for object in manifests.iter() {
            let pod = match text(&object["kind"]) {
                "DaemonSet" | "Deployment" | "Job" => &object["spec"]["template"]["spec"],
                _ => continue,
            };
            for container in
                items(&pod["containers"]).iter().filter(|container| container["name"] == "stowage")
            {
                self.knows(&items(&container["args"]).iter().map(text).collect::<Vec<_>>())
                    .with_context(|| title(object))?;
            }
        }
        for map in manifests.of_kind("ConfigMap") {
            for part in ["node", "controller"] {
                if let Some(file) = map["data"][format!("{part}.yaml")].as_str() {
                    self.reads(workspace, case, part, file).with_context(|| format!("{part}.yaml"))?;
                }
            }
        }
        Ok(())
    }

    fn knows(&self, args: &[&str]) -> Result<()> {
        let (name, flags) = args.split_first().context("a container of ours starts no command")?;
        let help = command::capture(Command::new(&self.path).args([name, "--help"]))?;
        let unknown = unknown(flags, &help);
        ensure!(unknown.is_empty(), "`stowage {name} --help` does not know {unknown:?}");
        Ok(())
    }

    fn reads(&self, workspace: &Workspace, case: &str, part: &str, configuration: &str) -> Result<()> {
        let file = workspace.target().join("chart").join(format!("{case}-{part}.config.yaml"));
        fs::write(&file, without_files(configuration)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(&self.path);
        command.args([part, "--config"]).arg(&file).args(["--http", NOWHERE]);
        match part {
            "node" => command.args(["--node-id", "n", "--kubernetes", "false"]),
            _ => command.args(["--csi", "false", "--kubernetes", "false"]),
        };
        let ended =
            command.stdin(Stdio::null()).output().with_context(|| format!("cannot start stowage {part}"))?;
        let said = String::from_utf8_lossy(&ended.stderr);
        if !said.contains(NOWHERE) {
            bail!("`stowage {part}` ends before it listens: {}", said.trim());
        }
        Ok(())
    }
}

/// The configuration without files that this machine does not have; `files.rs` sees to it that pods do.
fn without_files(configuration: &str) -> Result<String> {
    let mut value: Value = serde_saphyr::from_str(configuration).context("this is no YAML")?;
    if let Some(registries) = value.get_mut("registries").and_then(Value::as_object_mut) {
        registries.remove("caFiles");
    }
    if let Some(credentials) = value.get_mut("credentials").and_then(Value::as_object_mut) {
        credentials.remove("providers");
    }
    Ok(value.to_string())
}

/// The flags of a command line that a help text does not name.
fn unknown<'a>(flags: &[&'a str], help: &str) -> Vec<&'a str> {
    let words = help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '<' | '>' | '='));
    let known: BTreeSet<&str> = words.filter(|word| word.starts_with("--")).collect();
    flags
        .iter()
        .map(|flag| flag.split_once('=').map_or(*flag, |(name, _)| name))
        .filter(|name| !known.contains(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_help_does_not_name_is_found() {
        let help = "Options:\n      --csi-socket <PATH>  The socket [env: X=]\n      --registration <R>\n  -h, --help\n";
        assert!(unknown(&["--csi-socket=/csi", "--registration=true"], help).is_empty());
        assert_eq!(
            unknown(&["--csi-socke=/csi", "--registration-dir=/r"], help),
            ["--csi-socke", "--registration-dir"]
        );
    }

    #[test]
    fn files_of_the_nodes_are_left_out_and_nothing_else() {
        let text = "kind: A\nregistries: {caFiles: [/a], plainHttp: [b]}\ncredentials: {dockerConfig: /c}\n";
        let value: Value = serde_json::from_str(&without_files(text).unwrap()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"kind": "A", "registries": {"plainHttp": ["b"]}, "credentials": {"dockerConfig": "/c"}})
        );
    }
}
