//! Every object against Kubernetes' own schemas, as the Python package `kubernetes-validate` ships them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::chart::manifests::{Manifests, text};
use crate::command;
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

/// Groups that are not Kubernetes' own: no schema is at hand, so their objects are judged by the rules alone.
const WITHOUT_SCHEMA: [&str; 2] = ["monitoring.coreos.com/", "stowage.dev/"];

/// The program, and a place for what it reads.
pub(super) struct Schemas {
    program: PathBuf,
    scratch: PathBuf,
}

impl Schemas {
    pub(super) fn new(workspace: &Workspace, toolbox: &Toolbox) -> Result<Self> {
        let program = toolbox.program(Tool::KubernetesValidate).map_err(anyhow::Error::msg)?;
        Ok(Self { program, scratch: workspace.target().join("chart") })
    }

    /// Validates the objects; unknown keys are errors.
    pub(super) fn check(&self, name: &str, kubernetes: &str, manifests: &Manifests) -> Result<()> {
        let known: Vec<&Value> = manifests.iter().filter(|object| has_schema(object)).collect();
        // One document each: JSON is YAML.
        let documents: Vec<String> = known.iter().map(|object| format!("--- {object}\n")).collect();
        let file = self.scratch.join(format!("{}-objects.yaml", name.replace('/', "-")));
        fs::write(&file, documents.concat()).with_context(|| format!("cannot write {}", file.display()))?;
        let mut validate = Command::new(&self.program);
        command::quiet(validate.args(["--kubernetes-version", kubernetes, "--strict"]).arg(file))
    }
}

fn has_schema(object: &Value) -> bool {
    !WITHOUT_SCHEMA.iter().any(|group| text(&object["apiVersion"]).starts_with(group))
}
