//! Horizontal bars.

use super::canvas::{Anchor, Canvas, TOP, WIDTH, text_width};
use super::{Bars, marks};
use crate::quantity::significant;

const BAR: f64 = 22.0;
const PITCH: f64 = 34.0;
const RIGHT: f64 = 24.0;

/// The pieces of bars to look at, and of the others.
const OURS: [&str; 6] = ["a", "b", "e", "c", "d", "f"];
const THEIRS: [&str; 6] = ["c", "d", "e", "a", "b", "f"];

pub(super) fn draw(chart: &Bars) -> String {
    let several = chart.pieces.len() > 1;
    let legend = if several { 36.0 } else { 14.0 };
    let top = TOP + legend;
    let bottom = top + PITCH * chart.each.len() as f64;
    let mut canvas = Canvas::new(bottom + 58.0, &chart.title, &chart.subtitle);
    let left = 36.0 + widest(chart.each.iter().map(|bar| bar.label.as_str()));
    let room = 16.0 + widest(chart.each.iter().map(|bar| bar.text.as_str()));
    let length = |values: &[f64]| values.iter().sum::<f64>();
    let bars = chart.each.iter().map(|bar| length(&bar.values));
    let most = bars.chain(chart.limits.iter().map(|(at, _)| *at)).fold(0.0, f64::max);
    let marks = marks(most);
    let end = marks.last().copied().unwrap_or(1.0);
    let scale = (WIDTH - left - RIGHT - room) / end;
    let x = |value: f64| left + value * scale;

    for mark in &marks {
        canvas.line((x(*mark), top - 4.0), (x(*mark), bottom), if *mark == 0.0 { "axis" } else { "grid" });
        canvas.text(x(*mark), bottom + 18.0, Anchor::Middle, "soft", &significant(*mark));
    }
    canvas.text(x(end / 2.0), bottom + 40.0, Anchor::Middle, "soft", &chart.axis);
    if several {
        // Both kinds of bars have the same pieces; the legend shows the colours of each.
        let theirs = chart.each.iter().any(|bar| !bar.ours);
        let ours = chart.each.iter().any(|bar| bar.ours);
        let mut at = left;
        for (index, piece) in chart.pieces.iter().enumerate() {
            for classes in [ours.then_some(OURS), theirs.then_some(THEIRS)].into_iter().flatten() {
                canvas.rect(at, top - 40.0, 12.0, 12.0, classes[index % classes.len()]);
                at += 15.0;
            }
            canvas.text(at + 3.0, top - 29.5, Anchor::Start, "soft", piece);
            at += 22.0 + text_width(piece);
        }
    }
    for (at, name) in &chart.limits {
        canvas.line((x(*at), top - 4.0), (x(*at), bottom), "limit");
        let (anchor, shift) = if x(*at) > WIDTH / 2.0 { (Anchor::End, -6.0) } else { (Anchor::Start, 6.0) };
        canvas.text(x(*at) + shift, top - 8.0, anchor, "limit-text", name);
    }
    for (index, bar) in chart.each.iter().enumerate() {
        let y = top + PITCH * index as f64 + (PITCH - BAR) / 2.0;
        let middle = y + BAR / 2.0 + 4.5;
        let class = if bar.ours { "strong" } else { "" };
        canvas.text(left - 10.0, middle, Anchor::End, class, &bar.label);
        let classes = if bar.ours { OURS } else { THEIRS };
        let mut from = 0.0;
        for (piece, value) in bar.values.iter().enumerate() {
            canvas.rect(x(from), y, (value * scale).max(0.5), BAR, classes[piece % classes.len()]);
            from += value;
        }
        canvas.text(x(from) + 7.0, middle, Anchor::Start, &format!("value {class}"), &bar.text);
    }
    canvas.finish()
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    texts.map(text_width).fold(40.0, f64::max)
}
