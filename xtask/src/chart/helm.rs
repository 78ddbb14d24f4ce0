//! Helm itself, on a set of values.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::chart::cases::{Case, Refusal};
use crate::command;
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

/// The oldest Kubernetes that the chart installs to.
pub(super) const OLDEST: &str = "1.31";
/// The newest one that it was written for.
pub(crate) const NEWEST: &str = "1.36";
/// Where `deploy/` and the renderings here are meant to be installed.
pub(super) const NAMESPACE: &str = "stowage-system";

/// The program, and the chart it works on.
pub(super) struct Helm {
    program: PathBuf,
    chart: PathBuf,
    scratch: PathBuf,
}

impl Helm {
    pub(super) fn new(workspace: &Workspace, toolbox: &Toolbox) -> Result<Self> {
        let scratch = workspace.target().join("chart");
        fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        let program = toolbox.program(Tool::Helm).map_err(anyhow::Error::msg)?;
        Ok(Self { program, chart: workspace.root().join("charts/stowage"), scratch })
    }

    /// What Helm itself finds wrong, warnings included.
    pub(super) fn lint(&self, case: &Case) -> Result<()> {
        let mut lint = self.on("lint", case)?;
        command::quiet(lint.args(["--strict", "--quiet"]).arg(&self.chart))
    }

    /// The objects of a case as text, hooks included.
    pub(super) fn template(&self, case: &Case) -> Result<String> {
        let mut template = self.on("template", case)?;
        for version in case.api_versions {
            template.args(["--api-versions", version]);
        }
        command::capture(template.arg(case.release).arg(&self.chart))
    }

    /// The objects of the default values, without hooks.
    pub(super) fn plain_manifests(&self) -> Result<String> {
        let mut template = Command::new(&self.program);
        template.args([
            "template",
            "--namespace",
            NAMESPACE,
            "--kube-version",
            OLDEST,
            "--no-hooks",
            "stowage",
        ]);
        command::capture(template.arg(&self.chart))
    }

    /// The objects of a case as the same chart renders them under another version of its own.
    pub(super) fn template_of_another_version(&self, case: &Case) -> Result<String> {
        let copy = self.scratch.join("another-version");
        if copy.exists() {
            fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
        }
        command::quiet(Command::new("cp").arg("-R").arg(&self.chart).arg(&copy))?;
        let file = copy.join("Chart.yaml");
        let chart = command::read(&file)?;
        let lines =
            chart.lines().map(|line| if line.starts_with("version:") { "version: 99.0.0" } else { line });
        let changed: Vec<&str> = lines.collect();
        fs::write(&file, changed.join("\n")).with_context(|| format!("cannot write {}", file.display()))?;
        command::capture(self.on("template", case)?.arg(case.release).arg(&copy))
    }

    /// Fails unless Helm refuses the values and says why.
    pub(super) fn refuses(&self, refusal: &Refusal) -> Result<()> {
        let mut template = self.on("template", &refusal.case)?;
        let Err(error) = command::capture(template.arg(refusal.case.release).arg(&self.chart)) else {
            bail!("Helm accepts them");
        };
        let said = format!("{error:#}");
        if !said.contains(refusal.because) {
            bail!("Helm does not say `{}`, but: {said}", refusal.because);
        }
        Ok(())
    }

    fn on(&self, verb: &str, case: &Case) -> Result<Command> {
        let values = self.scratch.join(format!("{}.yaml", case.name));
        fs::write(&values, case.values).with_context(|| format!("cannot write {}", values.display()))?;
        let mut command = Command::new(&self.program);
        command
            .args([verb, "--namespace", NAMESPACE, "--kube-version", case.kubernetes, "--values"])
            .arg(values);
        Ok(command)
    }
}
