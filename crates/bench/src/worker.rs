//! Runs the scenarios and hands their figures out.

use std::fs;
use std::io::IsTerminal as _;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::bench::Bench;
use crate::cli::{Plan, Scale, Work};
use crate::figures::{Row, Section, Verdict};
use crate::machine::Machine;
use crate::scenarios::Scenario;
use crate::{disk, document, peers, quantity, table};

/// Everything that a run found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where.
    pub(crate) machine: Machine,
    /// Whether sizes were those that the targets mean.
    pub(crate) full_size: bool,
    /// Rate of a plain copy, synced, in MB/s, where a scenario measured it.
    pub(crate) copy_megabytes_per_second: Option<f64>,
    /// What.
    pub(crate) sections: Vec<Section>,
}

/// Measures what the plan asks for.
pub(crate) fn run(work: &Work) -> Result<()> {
    // Should the supervisor be killed, nobody else would end us.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("cannot follow the supervisor into its death")?;
    let plan = &work.plan;
    let bench = Bench::new(work)?;
    let machine = describe(&bench, plan);
    for (name, what) in machine.lines() {
        bench.say(format!("{name}: {what}"));
    }
    let free = disk::free(&bench.dir(""))?;
    bench.say(format!("free on the disk: {}", quantity::bytes(free)));
    let wanted = if plan.rows.is_empty() { Scenario::ALL.to_vec() } else { plan.rows.clone() };
    let sections: Vec<Section> = wanted.iter().map(|scenario| section(&bench, *scenario)).collect();
    let report = Report {
        machine,
        full_size: plan.scale.is_full(),
        copy_megabytes_per_second: copy_rate(&sections),
        sections,
    };
    print(&report);
    hand_out(&report, plan)
}

fn describe(bench: &Bench, plan: &Plan) -> Machine {
    let mut machine = Machine::describe(&bench.dir(""), &plan.commit);
    machine.programs = bench.peers.versions();
    let others = ["docker-registry", "tar", "umoci"].map(|name| (name, "--version"));
    for (name, argument) in others.into_iter().chain([("openssl", "version")]) {
        if let Ok(tool) = stowage_testkit::tools::Tool::find(name) {
            machine.programs.push((name.to_owned(), peers::version(tool.path(), &[argument])));
        }
    }
    machine.missing = bench.peers.missing().to_vec();
    machine
}

/// One scenario; what goes wrong in it is its row, not the end of the others.
fn section(bench: &Bench, scenario: Scenario) -> Section {
    bench.say(format!("--- {}", scenario.name()));
    let started = Instant::now();
    let mut section = scenario.run(bench).unwrap_or_else(|error| {
        let why = format!("{error:#}");
        bench.say(format!("{} failed: {why}", scenario.name()));
        Section { rows: vec![Row::missing(scenario.name(), "", why)], failed: true, ..Section::default() }
    });
    scenario.name().clone_into(&mut section.name);
    section.took = started.elapsed().as_secs_f64();
    bench.say(format!("{} took {}", scenario.name(), quantity::seconds(section.took)));
    section
}

fn copy_rate(sections: &[Section]) -> Option<f64> {
    sections.iter().find_map(|section| section.raw["copyMegabytesPerSecond"].as_f64())
}

fn print(report: &Report) {
    for section in &report.sections {
        for table in &section.tables {
            println!("{}", table::plain(table));
        }
    }
    println!("{}", table::rows(&report.sections, std::io::stdout().is_terminal()));
    let rows = || report.sections.iter().flat_map(|section| &section.rows);
    let count = |verdict| rows().filter(|row| row.verdict == verdict).count();
    let took: f64 = report.sections.iter().map(|section| section.took).sum();
    println!(
        "{} figures reached, {} missed, {} not measured; {}{}",
        count(Verdict::Reached),
        count(Verdict::Missed),
        count(Verdict::NotMeasured),
        quantity::seconds(took),
        if report.full_size { "" } else { "; smaller than full size" }
    );
}

fn hand_out(report: &Report, plan: &Plan) -> Result<()> {
    let json = serde_json::to_string_pretty(report).context("cannot write the figures as JSON")? + "\n";
    if let Some(path) = &plan.json {
        fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(docs) = &plan.docs {
        fs::create_dir_all(docs).with_context(|| format!("cannot create {}", docs.display()))?;
        for (name, content) in document::files(report) {
            let path = docs.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let path = docs.join("figures.json");
        fs::write(&path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    // The smoke test must hear of a scenario that broke; a missed figure is a finding, not a failure.
    if plan.scale == Scale::Tiny
        && let Some(section) = report.sections.iter().find(|section| section.failed)
    {
        bail!("{} could not be measured", section.name);
    }
    Ok(())
}
