//! The report in `docs/benchmarks`: one page, and a file for each plot.

use std::fmt::Write as _;

use crate::figures::{Section, Table};
use crate::worker::Report;

/// Names and contents of all files.
pub(crate) fn files(report: &Report) -> Vec<(String, String)> {
    let charts = report.sections.iter().flat_map(|section| &section.charts);
    let mut files: Vec<(String, String)> =
        charts.map(|(name, chart)| (format!("{name}.svg"), chart.to_svg())).collect();
    files.push(("README.md".to_owned(), page(report)));
    files
}

/// Writing to a String cannot fail, so results of `write!` are dropped here.
fn page(report: &Report) -> String {
    let mut page = String::from(
        "# Benchmarks\n\nWritten by `cargo xtask bench`; do not edit. Programs that are compared ran in turn, in the same \
         run, as processes of their own; figures are medians.\n\n",
    );
    if !report.full_size {
        page.push_str("**This was a quick run, smaller than the targets mean.**\n\n");
    }
    page.push_str(
        "| row | what | measured | target | reached | notes |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for section in &report.sections {
        for row in &section.rows {
            let cells = [&row.what, &row.measured, &row.target].map(|cell| escape(cell)).join(" | ");
            let notes = escape(&row.notes.join("; "));
            let _ = writeln!(page, "| {} | {cells} | {} | {notes} |", section.name, row.verdict.word());
        }
    }
    for section in &report.sections {
        describe(&mut page, section);
    }
    page.push_str("\n## The machine\n\n| | |\n| --- | --- |\n");
    for (name, what) in report.machine.lines() {
        let _ = writeln!(page, "| {name} | {} |", escape(&what));
    }
    if let Some(rate) = report.copy_megabytes_per_second {
        let _ = writeln!(page, "| a plain copy on this disk, synced | {rate:.0} MB/s |");
    }
    page.push_str(
        "\n## How to repeat it\n\nAs root, on a real disk with 60 GB free:\n\n```console\n\
         # cargo xtask bench                   # everything; writes this page\n\
         # cargo xtask bench --quick           # every row, smaller, in three minutes\n\
         # cargo xtask bench --row pull        # one row; `--help` has the others\n\
         # cargo xtask bench --json out.json   # every single run as JSON\n```\n\n\
         The programs that it compares with are installed by the same command. `figures.json` beside this page has every\n\
         single run.\n",
    );
    page
}

fn describe(page: &mut String, section: &Section) {
    if section.charts.is_empty() && section.tables.is_empty() {
        return;
    }
    let _ = write!(page, "\n## {}\n", section.name);
    for (name, chart) in &section.charts {
        let _ = write!(page, "\n![{}]({name}.svg)\n", escape(chart.title()));
    }
    for table in &section.tables {
        put(page, table);
    }
}

fn put(page: &mut String, table: &Table) {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escape(cell)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let _ = write!(page, "\n{}\n\n{}\n", escape(&table.title), line(&table.columns));
    let _ = writeln!(page, "|{}", " --- |".repeat(table.columns.len()));
    for cells in &table.lines {
        let _ = writeln!(page, "{}", line(cells));
    }
}

/// Text for a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Row;
    use crate::machine::Machine;
    use crate::svg::{Bars, Chart};

    #[test]
    fn the_page_has_every_row_plot_and_table() {
        let mut table = Table::new("each tool", &["tool", "wall"]);
        table.line(["stowage".into(), "1 s".into()]);
        let chart = Chart::Bars(Bars { title: "Wall time".into(), ..Bars::default() });
        let section = Section {
            name: "pull".into(),
            rows: vec![Row::judged("wall", "0.9 x", "<= 1.0 x", true).note("a | b")],
            tables: vec![table],
            charts: vec![("pull-wall", chart)],
            ..Section::default()
        };
        let report = Report {
            machine: Machine { kernel: "6.18".into(), ..Machine::default() },
            full_size: false,
            copy_megabytes_per_second: Some(512.4),
            sections: vec![section],
        };
        let files = files(&report);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["pull-wall.svg", "README.md"]);
        let page = &files[1].1;
        for words in [
            "| pull | wall | 0.9 x | &lt;= 1.0 x | yes | a \\| b |",
            "![Wall time](pull-wall.svg)",
            "| tool | wall |\n| --- | --- |\n| stowage | 1 s |",
            "| kernel | 6.18 |",
            "512 MB/s",
            "quick run",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }
}
