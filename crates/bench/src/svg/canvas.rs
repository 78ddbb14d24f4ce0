//! The ground every plot is drawn on.

use std::fmt::{Display, Write as _};

/// Width of every plot, in pixels.
pub(super) const WIDTH: f64 = 760.0;
/// Where the drawing starts below title and subtitle.
pub(super) const TOP: f64 = 78.0;

/// Colours by class, once for light and once for dark ground; both palettes keep apart for people who see few colours.
const STYLE: &str = "\
.ground{fill:#ffffff}text{font-family:system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328;font-size:13px}\
.title{font-size:17px;font-weight:600}.soft{fill:#59636e;font-size:12px}.strong{font-weight:600}.value{paint-order:stroke;stroke:#ffffff;stroke-width:4px}\
.grid{stroke:#d9dee4;stroke-width:1}.axis{stroke:#8b949e;stroke-width:1}\
.limit{stroke:#cf222e;stroke-width:1.5;stroke-dasharray:6 4;fill:none}.limit-text{fill:#cf222e;font-size:12px}\
.a{fill:#0969da}.b{fill:#82b8f5}.c{fill:#6e7781}.d{fill:#afb8c1}.e{fill:#d4a72c}.f{fill:#4d2d00}\
.line{fill:none;stroke-width:2.5}.la{stroke:#0969da}.lb{stroke:#bc4c00}.lc{stroke:#1a7f37}.ld{stroke:#8250df}\
.pa{fill:#0969da}.pb{fill:#bc4c00}.pc{fill:#1a7f37}.pd{fill:#8250df}\
@media (prefers-color-scheme: dark){.ground{fill:#0d1117}.value{stroke:#0d1117}text{fill:#e6edf3}.soft{fill:#9198a1}\
.grid{stroke:#2a313c}.axis{stroke:#656c76}.limit{stroke:#ff7b72}.limit-text{fill:#ff7b72}\
.a{fill:#4493f8}.b{fill:#1f5fae}.c{fill:#9198a1}.d{fill:#59636e}.e{fill:#d29922}.f{fill:#f0d9a8}\
.la{stroke:#4493f8}.lb{stroke:#f0883e}.lc{stroke:#3fb950}.ld{stroke:#ab7df8}\
.pa{fill:#4493f8}.pb{fill:#f0883e}.pc{fill:#3fb950}.pd{fill:#ab7df8}}";

/// Where a text stands at its point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// An SVG that grows.
pub(super) struct Canvas {
    body: String,
    height: f64,
    title: String,
}

impl Canvas {
    /// The ground with title and subtitle.
    pub(super) fn new(height: f64, title: &str, subtitle: &str) -> Self {
        let mut canvas = Self { body: String::new(), height, title: escape(title) };
        canvas.text(24.0, 32.0, Anchor::Start, "title", title);
        canvas.text(24.0, 52.0, Anchor::Start, "soft", subtitle);
        canvas
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        self.text_with(x, y, anchor, class, text, "");
    }

    /// A text that reads upwards.
    pub(super) fn text_upwards(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let turn = format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"");
        self.text_with(x, y, Anchor::Middle, class, text, &turn);
    }

    fn text_with(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str, more: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\"{more}>{}</text>",
            escape(text)
        ));
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" class=\"{class}\"/>"
        ));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.push(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    pub(super) fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!("<polyline points=\"{}\" class=\"{class}\"/>", points.join(" ")));
    }

    pub(super) fn dot(&mut self, x: f64, y: f64, class: &str) {
        self.push(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" class=\"{class}\"/>"));
    }

    /// The file.
    pub(super) fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect x=\"0\" y=\"0\" width=\"{WIDTH}\" height=\"{height}\" class=\"ground\"/>\n{body}</svg>\n",
            height = self.height,
            title = self.title,
            body = self.body,
        )
    }

    fn push(&mut self, element: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// About how wide a text of 13 pixels is.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 7.9
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
