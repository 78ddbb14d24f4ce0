//! How scenarios ended: the table, `junit.xml`, the exit code.

use std::fmt::Write as _;
use std::time::Duration;

/// How one scenario ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything held.
    Passed,
    /// The cluster cannot show it; the text says why.
    Skipped(String),
    /// Something did not hold; the text says what.
    Failed(String),
    /// It was not played; the text says why.
    Unplayed(String),
}

/// The row of what takes everything away again.
pub(crate) const TEARDOWN: &str = "teardown";

/// One scenario that ran.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) scenario: String,
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Row {
    /// A row.
    pub(crate) fn new(scenario: &str, verdict: Verdict, took: Duration) -> Self {
        Self { scenario: scenario.to_owned(), verdict, took }
    }

    /// The row as one line.
    pub(crate) fn line(&self) -> String {
        self.columns(0)
    }

    fn columns(&self, width: usize) -> String {
        let Self { scenario, verdict, took } = self;
        let (result, note) = match verdict {
            Verdict::Passed => ("ok", ""),
            Verdict::Skipped(why) => ("skipped", why.as_str()),
            Verdict::Failed(why) => ("FAILED", why.as_str()),
            Verdict::Unplayed(why) => ("NOT RUN", why.as_str()),
        };
        let note = note.lines().next().unwrap_or_default();
        let line = format!("{scenario:width$}  {result:7}  {:>6.1}s  {note}", took.as_secs_f64());
        line.trim_end().to_owned()
    }
}

/// All that ran, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    rows: Vec<Row>,
}

impl Summary {
    /// Adds a scenario that ended.
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Whether there is a row of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row.scenario == name)
    }

    /// Whether nothing failed or was left out, and something was shown at all.
    pub(crate) fn held(&self) -> bool {
        let passed = |row: &Row| row.verdict == Verdict::Passed && row.scenario != TEARDOWN;
        let held = |row: &Row| matches!(row.verdict, Verdict::Passed | Verdict::Skipped(_));
        self.rows.iter().any(passed) && self.rows.iter().all(held)
    }

    /// A line each, and their sum.
    pub(crate) fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.scenario.len()).max().unwrap_or(0).max("scenario".len());
        let mut table = format!("{:width$}  {:7}  {:>7}  note\n", "scenario", "result", "time");
        for row in &self.rows {
            table.push_str(&row.columns(width));
            table.push('\n');
        }
        let _ = write!(
            table,
            "{} passed, {} failed, {} skipped",
            self.count(|verdict| *verdict == Verdict::Passed),
            self.count(|verdict| matches!(verdict, Verdict::Failed(_))),
            self.count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        );
        match self.count(|verdict| matches!(verdict, Verdict::Unplayed(_))) {
            0 => table.push('\n'),
            unplayed => drop(writeln!(table, ", {unplayed} not run")),
        }
        table
    }

    /// The same in the form that most CI systems read.
    pub(crate) fn junit(&self) -> String {
        let seconds: f64 = self.rows.iter().map(|row| row.took.as_secs_f64()).sum();
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            xml,
            "<testsuite name=\"stowage-e2e\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.1}\">",
            self.rows.len(),
            self.count(|verdict| matches!(verdict, Verdict::Failed(_))),
            self.count(|verdict| matches!(verdict, Verdict::Unplayed(_))),
            self.count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        );
        for Row { scenario, verdict, took } in &self.rows {
            let _ = write!(
                xml,
                "  <testcase classname=\"stowage-e2e\" name=\"{}\" time=\"{:.1}\"",
                escaped(scenario),
                took.as_secs_f64()
            );
            let _ = match verdict {
                Verdict::Passed => writeln!(xml, "/>"),
                Verdict::Skipped(why) => {
                    writeln!(xml, "><skipped message=\"{}\"/></testcase>", escaped(why))
                }
                Verdict::Failed(why) => writeln!(xml, ">{}</testcase>", told("failure", why)),
                Verdict::Unplayed(why) => writeln!(xml, ">{}</testcase>", told("error", why)),
            };
        }
        xml.push_str("</testsuite>\n");
        xml
    }

    fn count(&self, picks: fn(&Verdict) -> bool) -> usize {
        self.rows.iter().filter(|row| picks(&row.verdict)).count()
    }
}

fn told(element: &str, why: &str) -> String {
    let first = escaped(why.lines().next().unwrap_or_default());
    format!("<{element} message=\"{first}\">{}</{element}>", escaped(why))
}

/// Text for XML 1.0, which knows no other control characters than tab and the ends of lines.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(character),
            control if control.is_control() => out.push('\u{fffd}'),
            plain => out.push(plain),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let row = |scenario: &str, verdict| Row::new(scenario, verdict, Duration::from_millis(1250));
        let mut summary = Summary::default();
        summary.add(row("inline-oras", Verdict::Passed));
        summary.add(row("image-volume", Verdict::Skipped("Kubernetes 1.31 has none".into())));
        summary.add(row("static-pv", Verdict::Failed("the pod said \"a < b\" & \u{1b}[31m\nmore".into())));
        summary
    }

    #[test]
    fn the_table_has_a_line_for_each_scenario_and_their_sum() {
        let table = summary().table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5, "{table}");
        assert_eq!(lines[1], "inline-oras   ok          1.2s");
        assert!(lines[2].ends_with("Kubernetes 1.31 has none"), "{table}");
        assert!(lines[3].contains("FAILED") && !table.contains("more"), "{table}");
        assert_eq!(lines[4], "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_failure_or_a_run_that_showed_nothing_does_not_hold() {
        let mut mixed = summary();
        assert!(!mixed.held());
        mixed.rows.pop();
        assert!(mixed.held());
        mixed.rows.remove(0);
        assert!(!mixed.held(), "only skipped");
        mixed.add(Row::new(TEARDOWN, Verdict::Passed, Duration::ZERO));
        assert!(!mixed.held(), "that it went away shows nothing");
        assert!(!Summary::default().held());
    }

    #[test]
    fn what_was_not_played_is_an_error_and_does_not_hold() {
        let mut summary = Summary::default();
        summary.add(Row::new("inline-oras", Verdict::Passed, Duration::ZERO));
        assert!(summary.held() && summary.has("inline-oras") && !summary.has("static-pv"));
        summary.add(Row::new("static-pv", Verdict::Unplayed("interrupted".into()), Duration::ZERO));
        assert!(!summary.held());
        assert!(
            summary.table().ends_with("1 passed, 0 failed, 0 skipped, 1 not run\n"),
            "{}",
            summary.table()
        );
        let xml = summary.junit();
        assert!(xml.contains("errors=\"1\""), "{xml}");
        assert!(xml.contains("><error message=\"interrupted\">interrupted</error></testcase>"), "{xml}");
    }

    #[test]
    fn junit_counts_and_escapes() {
        let xml = summary().junit();
        assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"3.8\""), "{xml}");
        assert!(
            xml.contains("<testcase classname=\"stowage-e2e\" name=\"inline-oras\" time=\"1.2\"/>"),
            "{xml}"
        );
        let failure = "message=\"the pod said &quot;a &lt; b&quot; &amp; \u{fffd}[31m\">the pod said";
        assert!(xml.contains(failure), "{xml}");
        assert!(!xml.contains('\u{1b}'));
    }
}
