//! Tables on a terminal: aligned, cut into lines where they are long, without colours unless a person looks.

use crate::figures::{Row, Section, Table, Verdict};

/// The widest the last column gets.
const NOTES: usize = 72;
const GAP: &str = "  ";

/// The rows of all sections as one table.
pub(crate) fn rows(sections: &[Section], colour: bool) -> String {
    let rows: Vec<(&str, &Row)> = sections
        .iter()
        .flat_map(|section| section.rows.iter().map(|row| (section.name.as_str(), row)))
        .collect();
    let head = ["row", "what", "measured", "target", "reached"];
    let mut widths = head.map(width);
    for (name, row) in &rows {
        let cells = [name, row.what.as_str(), &row.measured, &row.target, row.verdict.word()];
        for (widest, cell) in widths.iter_mut().zip(cells) {
            *widest = (*widest).max(width(cell));
        }
    }
    let mut out = String::new();
    let mut put = |cells: [&str; 5], note: &str, verdict: Option<Verdict>| {
        let mut line = String::new();
        for (index, (cell, widest)) in cells.iter().zip(widths).enumerate() {
            let padded = pad(cell, widest);
            match verdict {
                Some(verdict) if colour && index == 4 => line.push_str(&paint(&padded, verdict)),
                _ => line.push_str(&padded),
            }
            line.push_str(GAP);
        }
        line.push_str(note);
        out.push_str(line.trim_end());
        out.push('\n');
    };
    put(head, "notes", None);
    let mut before = "";
    for (name, row) in rows {
        let shown = if name == before { "" } else { name };
        before = name;
        let notes = wrap(&row.notes.join("; "), NOTES);
        let mut notes = notes.iter().map(String::as_str);
        let cells = [shown, row.what.as_str(), &row.measured, &row.target, row.verdict.word()];
        put(cells, notes.next().unwrap_or(""), Some(row.verdict));
        for note in notes {
            put([""; 5], note, None);
        }
    }
    out
}

/// One table of raw figures, indented beneath its title.
pub(crate) fn plain(table: &Table) -> String {
    let mut widths: Vec<usize> = table.columns.iter().map(|column| width(column)).collect();
    for line in &table.lines {
        for (widest, cell) in widths.iter_mut().zip(line) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, widest)| pad(cell, *widest)).collect();
        format!("  {}", cells.join(GAP)).trim_end().to_owned()
    };
    let mut lines = vec![table.title.clone(), line(&table.columns)];
    lines.extend(table.lines.iter().map(|cells| line(cells)));
    lines.join("\n") + "\n"
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

fn paint(text: &str, verdict: Verdict) -> String {
    let colour = match verdict {
        Verdict::Reached => "32",
        Verdict::Missed => "1;31",
        Verdict::Shown | Verdict::NotMeasured => "2",
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// Lines of at most `width` characters, broken at spaces; a longer word stays whole.
fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections() -> Vec<Section> {
        let pull = Section {
            name: "pull".into(),
            rows: vec![
                Row::judged("wall against oras", "0.87 x", "<= 1.0 x", true).note("9 pairs"),
                Row::judged("CPU", "1.3 x", "<= 1.2 x", false).note("word ".repeat(30)),
            ],
            ..Section::default()
        };
        let tar = Section {
            name: "tar".into(),
            rows: vec![Row::missing("mountable", "<= 100 ms", "not there yet (issue 4)")],
            ..Section::default()
        };
        vec![pull, tar]
    }

    #[test]
    fn columns_are_aligned_and_long_notes_go_on_below() {
        let text = rows(&sections(), false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("row   what"), "{text}");
        assert!(
            lines[1].starts_with("pull  wall against oras  0.87 x    <= 1.0 x   yes      9 pairs"),
            "{text}"
        );
        assert!(lines[2].starts_with("      CPU"), "{text}");
        assert!(lines[3].trim_start().starts_with("word"), "{text}");
        let notes = lines[0].find("notes").unwrap();
        assert!(lines[3][..notes].trim().is_empty(), "{text}");
        assert!(lines.last().unwrap().starts_with("tar   mountable"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn colours_change_no_alignment() {
        let coloured = rows(&sections(), true);
        assert!(coloured.contains("\x1b[32myes    \x1b[0m"), "{coloured}");
        let plain = ["\x1b[32m", "\x1b[1;31m", "\x1b[2m", "\x1b[0m"]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, rows(&sections(), false));
    }

    #[test]
    fn raw_figures_stand_beneath_their_title() {
        let mut table = Table::new("each tool", &["tool", "wall"]);
        table.line(["stowage".into(), "1 s".into()]);
        table.line(["µ".into(), "10 s".into()]);
        assert_eq!(plain(&table), "each tool\n  tool     wall\n  stowage  1 s\n  µ        10 s\n");
    }

    #[test]
    fn no_word_is_cut() {
        assert_eq!(wrap("aa bb ccccccc d", 5), ["aa bb", "ccccccc", "d"]);
        assert!(wrap("", 5).is_empty());
    }
}
