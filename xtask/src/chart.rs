//! The chart in `charts/stowage`: what is made from it, and what must hold of it.
//!
//! `cargo xtask chart` writes the generated files; the check `chart` of `cargo xtask ci` fails when they differ from what it would
//! write, and judges what Helm renders for a row of values.

mod cases;
mod command_line;
mod files;
mod generated;
mod helm;
mod manifests;
mod metrics;
mod pods;
mod readme;
mod rights;
mod rules;
mod schemas;
mod values_schema;
mod versions;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::report::Outcome;
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

use self::cases::{CASES, REFUSALS};
use self::command_line::Program;
use self::generated::Generated;
pub(crate) use self::helm::NEWEST;

use self::helm::Helm;
use self::manifests::Manifests;
use self::schemas::Schemas;

/// The programs that judge the chart.
pub(crate) const TOOLS: [Tool; 2] = [Tool::Helm, Tool::KubernetesValidate];

/// Writes the generated files.
pub(crate) fn generate(workspace: &Workspace) -> Result<()> {
    let toolbox = Toolbox::provide(workspace, &[Tool::Helm]);
    let helm = Helm::new(workspace, &toolbox)?;
    write(workspace, &generated::from_chart(workspace, &helm)?)?;
    let program = Program::build(workspace)?;
    if write(workspace, &generated::crds(&program)?)? {
        // They are part of what is rendered.
        write(workspace, &generated::from_chart(workspace, &helm)?)?;
    }
    Ok(())
}

/// Writes the files that are not so already; false where there were none.
fn write(workspace: &Workspace, files: &[Generated]) -> Result<bool> {
    let mut any = false;
    for file in files {
        if file.write(workspace)? {
            println!("{} written", file.path);
            any = true;
        }
    }
    Ok(any)
}

/// A change of the chart's own version changes no pod.
fn restarts_nothing(helm: &Helm) -> Result<()> {
    let case = &CASES[0];
    let before = Manifests::parse(&helm.template(case)?)?;
    let after = Manifests::parse(&helm.template_of_another_version(case)?)?;
    pods::same(&before, &after)
}

/// Checks the chart; the error lists everything that does not hold.
pub(crate) fn check(workspace: &Workspace, toolbox: &Toolbox) -> Result<Outcome> {
    let helm = Helm::new(workspace, toolbox)?;
    let schemas = Schemas::new(workspace, toolbox)?;
    let program = Program::build(workspace)?;
    let mut wrong = Vec::new();
    let mut note = |what: &str, result: Result<()>| {
        if let Err(error) = result {
            wrong.push(format!("{what}: {error:#}"));
        }
    };

    for made in [generated::crds(&program), generated::from_chart(workspace, &helm)] {
        match made {
            Ok(files) => files.iter().for_each(|file| note("generated", file.is_current(workspace))),
            Err(error) => note("generated", Err(error)),
        }
    }
    note("versions", versions::check(workspace));
    note("metrics", metrics::check(workspace));
    note("values.schema.json", values_schema::check(workspace, &program));
    note("a chart of another version", restarts_nothing(&helm));
    let mut objects = 0;
    for case in &CASES {
        note(case.name, helm.lint(case));
        let rendered = helm.template(case).and_then(|text| Manifests::parse(&text));
        match rendered {
            Ok(manifests) => {
                objects += manifests.iter().count();
                note(case.name, rules::check(case, &manifests));
                note(case.name, schemas.check(case.name, case.kubernetes, &manifests));
                note(case.name, program.accepts(workspace, case.name, &manifests));
                if case.name == "everything-on" {
                    let reference = command::read(&workspace.root().join("docs/reference/crd.md"));
                    let told = reference.and_then(|text| rights::documented(&text, &manifests));
                    note("docs/reference/crd.md", told);
                }
            }
            Err(error) => note(case.name, Err(error)),
        }
    }
    for (file, kubernetes) in [
        ("deploy/stowage.yaml", helm::OLDEST),
        ("deploy/policies/limit-references.yaml", helm::OLDEST),
        ("deploy/policies/copy-pull-secrets.yaml", helm::NEWEST),
    ] {
        let read = command::read(&workspace.root().join(file)).and_then(|text| Manifests::parse(&text));
        note(file, read.and_then(|manifests| schemas.check(file, kubernetes, &manifests)));
    }
    for refusal in &REFUSALS {
        note(refusal.case.name, helm.refuses(refusal).context("values that must be refused"));
    }

    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    let (cases, refusals) = (CASES.len(), REFUSALS.len());
    Ok(Outcome::Passed(format!("{cases} renderings, {objects} objects, {refusals} refusals")))
}
