//! What a run of the benchmark finds out: rows with a target, tables of raw figures, charts.

use serde::Serialize;
use serde_json::Value;

use crate::svg::Chart;

/// Whether a figure is where it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// It is.
    Reached,
    /// It is not.
    Missed,
    /// There is no target; the figure says something about another one.
    Shown,
    /// It could not be measured here; the note says why.
    NotMeasured,
}

impl Verdict {
    /// Reached or missed.
    pub(crate) fn of(reached: bool) -> Self {
        if reached { Self::Reached } else { Self::Missed }
    }

    /// One word for the table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reached => "yes",
            Self::Missed => "NO",
            Self::Shown => "–",
            Self::NotMeasured => "n/a",
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// The figure.
    pub(crate) measured: String,
    /// Where it has to be.
    pub(crate) target: String,
    /// Whether it is.
    pub(crate) verdict: Verdict,
    /// How it came about, and what it does not say.
    pub(crate) notes: Vec<String>,
}

impl Row {
    /// A figure with a target.
    pub(crate) fn judged(
        what: impl Into<String>,
        measured: impl Into<String>,
        target: impl Into<String>,
        reached: bool,
    ) -> Self {
        Self {
            what: what.into(),
            measured: measured.into(),
            target: target.into(),
            verdict: Verdict::of(reached),
            notes: Vec::new(),
        }
    }

    /// A figure without a target.
    pub(crate) fn shown(what: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { verdict: Verdict::Shown, ..Self::judged(what, measured, "", true) }
    }

    /// What could not be measured, and why.
    pub(crate) fn missing(
        what: impl Into<String>,
        target: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::NotMeasured, ..Self::judged(what, "", target, false) }.note(why)
    }

    /// Adds a note.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Says that the target belongs to the full size, where this run was smaller.
    pub(crate) fn at_full_size(self, full: bool) -> Self {
        if full { self } else { self.note("smaller than the target means") }
    }
}

/// Raw figures behind the rows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    /// What it shows.
    pub(crate) title: String,
    /// Its columns.
    pub(crate) columns: Vec<String>,
    /// Its lines, a cell for each column.
    pub(crate) lines: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.into(), columns, lines: Vec::new() }
    }

    /// Adds a line.
    pub(crate) fn line<const N: usize>(&mut self, cells: [String; N]) {
        self.lines.push(cells.into());
    }

    /// Adds a line that says why there are no figures.
    pub(crate) fn failed(&mut self, name: &str, why: &str) {
        let mut cells = vec![String::new(); self.columns.len()];
        name.clone_into(&mut cells[0]);
        if let Some(last) = cells.last_mut() {
            why.clone_into(last);
        }
        self.lines.push(cells);
    }
}

/// What one scenario found out.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Section {
    /// Its name on the command line.
    pub(crate) name: String,
    /// How long it took, in seconds.
    pub(crate) took: f64,
    /// Whether it broke off; its one row says why.
    pub(crate) failed: bool,
    /// The lines of the table.
    pub(crate) rows: Vec<Row>,
    /// What is behind them.
    pub(crate) tables: Vec<Table>,
    /// Every single run.
    pub(crate) raw: Value,
    /// Plots, by the name of their file.
    #[serde(skip)]
    pub(crate) charts: Vec<(&'static str, Chart)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_figure_is_reached() {
        let row = Row::judged("pull", "1.1 x", "<= 1.0 x", false).at_full_size(false);
        assert_eq!((row.verdict, row.verdict.word()), (Verdict::Missed, "NO"));
        assert!(row.notes[0].contains("smaller than"));
        assert!(Row::judged("pull", "", "", true).at_full_size(true).notes.is_empty());
        let row = Row::missing("tar", "<= 1 s", "not there yet");
        assert_eq!((row.verdict, row.measured.as_str()), (Verdict::NotMeasured, ""));
    }

    #[test]
    fn the_json_holds_words_and_no_drawings() {
        let mut section = Section { name: "pull".into(), ..Section::default() };
        section.rows.push(Row::shown("disk", "1 GiB"));
        section.rows.push(Row::judged("memory", "70 MiB", "<= 64 MiB", false));
        section.charts.push(("wall", Chart::default()));
        let json = serde_json::to_value(&section).unwrap();
        assert_eq!(json["rows"][0]["verdict"], "shown");
        assert_eq!(json["rows"][1]["verdict"], "missed");
        assert_eq!(json["rows"][1]["target"], "<= 64 MiB");
        assert!(json.get("charts").is_none());
    }
}
