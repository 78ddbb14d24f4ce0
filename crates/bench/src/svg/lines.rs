//! Lines over an axis of numbers.

use super::canvas::{Anchor, Canvas, TOP, WIDTH, text_width};
use super::{Lines, marks};
use crate::quantity::significant;

const LEFT: f64 = 78.0;
const RIGHT: f64 = 36.0;
const HEIGHT: f64 = 260.0;
const CLASSES: [(&str, &str); 4] =
    [("line la", "pa"), ("line lb", "pb"), ("line lc", "pc"), ("line ld", "pd")];

pub(super) fn draw(chart: &Lines) -> String {
    let top = TOP + 26.0;
    let bottom = top + HEIGHT;
    let mut canvas = Canvas::new(bottom + 60.0, &chart.title, &chart.subtitle);
    let points = || chart.curves.iter().flat_map(|line| &line.points);
    let across = marks(points().map(|(x, _)| *x).fold(0.0, f64::max));
    let up = marks(points().map(|(_, y)| *y).fold(0.0, f64::max));
    let (right, ceiling) = (across.last().copied().unwrap_or(1.0), up.last().copied().unwrap_or(1.0));
    let place =
        |(x, y): (f64, f64)| (LEFT + x / right * (WIDTH - LEFT - RIGHT), bottom - y / ceiling * HEIGHT);

    for mark in &up {
        let (from, to) = (place((0.0, *mark)), place((right, *mark)));
        canvas.line(from, to, if *mark == 0.0 { "axis" } else { "grid" });
        canvas.text(LEFT - 8.0, from.1 + 4.0, Anchor::End, "soft", &significant(*mark));
    }
    for mark in &across {
        let (x, y) = place((*mark, 0.0));
        canvas.line((x, y), (x, y + 4.0), "axis");
        canvas.text(x, y + 19.0, Anchor::Middle, "soft", &significant(*mark));
    }
    canvas.text(f64::midpoint(LEFT, WIDTH - RIGHT), bottom + 42.0, Anchor::Middle, "soft", &chart.across);
    canvas.text_upwards(24.0, f64::midpoint(top, bottom), "soft", &chart.up);

    let mut legend = LEFT;
    let mut measured = CLASSES.iter().cycle();
    for line in &chart.curves {
        let placed: Vec<(f64, f64)> = line.points.iter().copied().map(place).collect();
        let (stroke, fill) = match measured.next() {
            Some(classes) if !line.bound => *classes,
            _ => ("limit", ""),
        };
        canvas.line((legend, top - 22.0), (legend + 20.0, top - 22.0), stroke);
        canvas.text(legend + 26.0, top - 18.0, Anchor::Start, "soft", &line.name);
        legend += 44.0 + text_width(&line.name);
        canvas.polyline(&placed, stroke);
        if line.values {
            for ((x, y), (_, value)) in placed.iter().zip(&line.points) {
                canvas.dot(*x, *y, fill);
                canvas.text(*x, y - 10.0, Anchor::Middle, "value strong", &significant(*value));
            }
        }
    }
    canvas.finish()
}
