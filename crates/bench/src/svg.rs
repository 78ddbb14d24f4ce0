//! Plots as SVG, legible on light and dark ground: bars for comparisons, lines for how one thing follows another.

mod bars;
mod canvas;
mod lines;

/// A plot.
#[derive(Clone, Debug)]
pub(crate) enum Chart {
    /// Horizontal bars, one beneath the other, each of one or more pieces.
    Bars(Bars),
    /// Lines over a horizontal axis.
    Lines(Lines),
}

impl Default for Chart {
    fn default() -> Self {
        Self::Bars(Bars::default())
    }
}

/// Horizontal bars.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bars {
    /// What is compared.
    pub(crate) title: String,
    /// Under which circumstances.
    pub(crate) subtitle: String,
    /// The axis, with its unit.
    pub(crate) axis: String,
    /// What the pieces of a bar are, in their order; one name or none means bars of one piece.
    pub(crate) pieces: Vec<String>,
    /// The bars.
    pub(crate) each: Vec<Bar>,
    /// Lines across all bars: where, and what it is.
    pub(crate) limits: Vec<(f64, String)>,
}

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// What it is.
    pub(crate) label: String,
    /// The lengths of its pieces.
    pub(crate) values: Vec<f64>,
    /// The words at its end.
    pub(crate) text: String,
    /// Whether it is the one to look at.
    pub(crate) ours: bool,
}

/// Lines over an axis of numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    /// What is shown.
    pub(crate) title: String,
    /// Under which circumstances.
    pub(crate) subtitle: String,
    /// The horizontal axis, with its unit.
    pub(crate) across: String,
    /// The vertical axis, with its unit.
    pub(crate) up: String,
    /// The lines: name, points from left to right.
    pub(crate) curves: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What it is.
    pub(crate) name: String,
    /// Its points.
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether it is a bound and not a measurement.
    pub(crate) bound: bool,
    /// Whether each point has its value written at it.
    pub(crate) values: bool,
}

impl Chart {
    /// What it shows.
    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Bars(bars) => &bars.title,
            Self::Lines(lines) => &lines.title,
        }
    }

    /// The whole file.
    pub(crate) fn to_svg(&self) -> String {
        match self {
            Self::Bars(bars) => bars::draw(bars),
            Self::Lines(lines) => lines::draw(lines),
        }
    }
}

/// Round numbers for the marks of an axis from 0 to at least `most`: about five of them.
fn marks(most: f64) -> Vec<f64> {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let rough = most / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|round| round * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let mut marks = vec![0.0];
    while marks.last().is_some_and(|last| *last < most * 0.999_999) {
        marks.push(marks.len() as f64 * step);
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_reach_the_largest_value() {
        assert_eq!(marks(4.2), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(marks(600.0), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(marks(0.034).len(), 5);
        assert_eq!(marks(0.0).last(), Some(&1.0));
        assert_eq!(marks(f64::NAN).last(), Some(&1.0));
        for most in [0.001, 0.9, 1.0, 3.3, 47.0, 99.9, 12345.0] {
            let marks = marks(most);
            assert!(*marks.last().unwrap() >= most * 0.999 && marks.len() <= 8, "{most}: {marks:?}");
        }
    }

    /// The names of the elements that were opened and not closed again.
    fn unclosed(svg: &str) -> Vec<String> {
        let mut open: Vec<String> = Vec::new();
        for tag in svg.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "{svg}");
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap().to_owned());
            }
        }
        open
    }

    #[test]
    fn both_kinds_are_well_formed_and_say_everything() {
        let bar = |label: &str, values: &[f64], ours| Bar {
            label: label.into(),
            values: values.to_vec(),
            text: format!("{} s", values.iter().sum::<f64>()),
            ours,
        };
        let bars = Chart::Bars(Bars {
            title: "Wall <time>".into(),
            subtitle: "4 & more".into(),
            axis: "seconds".into(),
            pieces: vec!["user".into(), "system".into()],
            each: vec![bar("stowage", &[1.0, 0.5], true), bar("oras", &[2.0, 1.0], false)],
            limits: vec![(2.5, "limit".into())],
        });
        let lines = Chart::Lines(Lines {
            title: "Rate".into(),
            subtitle: "50 MB/s each".into(),
            across: "connections".into(),
            up: "MB/s".into(),
            curves: vec![
                Line {
                    name: "stowage".into(),
                    points: vec![(1.0, 49.0), (12.0, 430.0)],
                    bound: false,
                    values: true,
                },
                Line {
                    name: "bound".into(),
                    points: vec![(1.0, 50.0), (12.0, 600.0)],
                    bound: true,
                    values: false,
                },
            ],
        });
        for (chart, words) in [
            (
                bars,
                &["Wall &lt;time&gt;", "4 &amp; more", "seconds", "stowage", "1.5 s", "system", "limit"][..],
            ),
            (lines, &["Rate", "connections", "MB/s", "stowage", "430", "bound", "polyline"][..]),
        ] {
            let svg = chart.to_svg();
            assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"), "{svg}");
            assert!(svg.contains("prefers-color-scheme: dark"));
            assert!(unclosed(&svg).is_empty(), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            for word in words {
                assert!(svg.contains(word), "{word}: {svg}");
            }
        }
    }

    #[test]
    fn nothing_to_show_is_drawn_all_the_same() {
        for chart in [Chart::default(), Chart::Lines(Lines::default())] {
            let svg = chart.to_svg();
            assert!(unclosed(&svg).is_empty() && !svg.contains("NaN"), "{svg}");
        }
    }
}
