//! What ran, how it ended, how long it took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How a phase that could be judged ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It held; the text is a remark, often empty.
    Passed(String),
    /// It was not run; the text says why.
    Skipped(String),
    /// It did not hold; the text says what.
    Failed(String),
}

struct Row {
    phase: String,
    outcome: Outcome,
    took: Duration,
}

/// The phases of one call, in their order.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Runs a phase and records how it ended; an error is a failure. Says whether the phase held.
    pub(crate) fn phase(&mut self, name: &str, run: impl FnOnce() -> Result<Outcome>) -> bool {
        println!("==> {name}");
        let start = Instant::now();
        let outcome = run().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        self.record(name, outcome, start.elapsed())
    }

    /// Records a phase that ran elsewhere. Says whether it held.
    pub(crate) fn record(&mut self, name: &str, outcome: Outcome, took: Duration) -> bool {
        let held = !matches!(outcome, Outcome::Failed(_));
        if let Outcome::Failed(why) = &outcome {
            eprintln!("{name}: {why}");
        }
        self.rows.push(Row { phase: name.to_owned(), outcome, took });
        held
    }

    /// The names of the phases that did not hold.
    pub(crate) fn failed(&self) -> Vec<&str> {
        let failed = self.rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed(_)));
        failed.map(|row| row.phase.as_str()).collect()
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("\n{}", self.table());
    }

    fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.phase.len()).max().unwrap_or(0).max("phase".len());
        let mut lines = vec![format!("{:width$}  {:7}  {:>8}  note", "phase", "result", "time")];
        let mut total = Duration::ZERO;
        for Row { phase, outcome, took } in &self.rows {
            let (result, note) = match outcome {
                Outcome::Passed(note) => ("ok", note),
                Outcome::Skipped(note) => ("skipped", note),
                Outcome::Failed(note) => ("FAILED", note),
            };
            let note = note.lines().next().unwrap_or_default();
            let line = format!("{phase:width$}  {result:7}  {:>8}  {note}", seconds(*took));
            lines.push(line.trim_end().to_owned());
            total += *took;
        }
        lines.push(format!("{:width$}  {:7}  {:>8}", "sum", "", seconds(total)));
        lines.join("\n")
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_a_row_and_an_error_is_a_failure() {
        let mut report = Report::default();
        assert!(report.phase("format", || Ok(Outcome::Passed(String::new()))));
        assert!(report.record("advisories", Outcome::Skipped("no database".into()), Duration::from_secs(2)));
        assert!(!report.phase("deny", || anyhow::bail!("ring is linked\nsecond line")));
        assert_eq!(report.failed(), ["deny"]);
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5, "{table}");
        assert!(lines[1].starts_with("format      ok"), "{table}");
        assert!(lines[2].contains("skipped") && lines[2].ends_with("2.0 s  no database"), "{table}");
        assert!(lines[3].contains("FAILED") && lines[3].ends_with("ring is linked"), "{table}");
    }
}
