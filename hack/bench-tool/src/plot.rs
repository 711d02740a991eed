//! The report as a drawing: a panel for each comparison, a strip for each series, a dot for each sample. Pure.

use std::fmt::Write;

use crate::{
    report::{Panel, Report, number},
    stats::median,
};

const WIDTH: f64 = 900.0;
/// Where the scale begins and ends; names stand before it, medians after it.
const LEFT: f64 = 260.0;
const RIGHT: f64 = 780.0;
const STRIP: f64 = 24.0;
const HEAD: f64 = 34.0;
const FOOT: f64 = 34.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#222}.t{font-weight:600}.s{font-size:11px;fill:#666}\
    .d{fill:#2b6cb0;fill-opacity:.35}.b{fill:#2b6cb0;fill-opacity:.55}.m{stroke:#1a365d;stroke-width:2.5}\
    .g{stroke:#ddd}.l{stroke:#c53030;stroke-width:1.5;stroke-dasharray:5 3}";

/// The drawing.
pub(crate) fn svg(report: &Report) -> String {
    let mut body = String::new();
    let mut top = 30.0;
    let _ = writeln!(
        body,
        r#"<text class="t" x="16" y="22">{}</text>"#,
        escape(&report.machine)
    );
    for row in &report.rows {
        let [before, after] = row.load;
        top += 26.0;
        let title = escape(&row.title);
        let _ = writeln!(
            body,
            r#"<text class="t" x="16" y="{top}">{title} <tspan class="s">load {before:.1} → {after:.1}</tspan></text>"#
        );
        for panel in &row.panels {
            top = draw(&mut body, panel, top);
        }
    }
    let height = top + 16.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">
<style>{STYLE}</style>
<rect width="100%" height="100%" fill="#fff"/>
{body}</svg>
"##
    )
}

/// Draws a panel below `top`; returns where it ends.
fn draw(body: &mut String, panel: &Panel, top: f64) -> f64 {
    let samples = panel.series.iter().flat_map(|series| series.samples.iter().copied());
    let largest = samples.chain(panel.limit).fold(0.0_f64, f64::max);
    let step = step(largest);
    let end = (largest / step).ceil().max(1.0) * step;
    let at = |value: f64| LEFT + (RIGHT - LEFT) * value.max(0.0) / end;
    let strips = top + HEAD;
    let bottom = strips + STRIP * panel.series.len() as f64;
    let _ = writeln!(
        body,
        r#"<text x="{LEFT}" y="{}">{} <tspan class="s">{}</tspan></text>"#,
        top + 22.0,
        escape(&panel.title),
        panel.unit
    );
    for tick in 0..=((end / step).round() as u32) {
        let value = f64::from(tick) * step;
        let x = at(value);
        let _ = writeln!(body, r#"<path class="g" d="M{x:.1} {strips}V{bottom}"/>"#);
        let _ = writeln!(
            body,
            r#"<text class="s" x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#,
            bottom + 14.0,
            (value * 1000.0).round() / 1000.0
        );
    }
    for (number, series) in panel.series.iter().enumerate() {
        draw_series(body, series, strips + STRIP * (number as f64 + 0.5), &at);
    }
    if let Some(limit) = panel.limit {
        let _ = writeln!(
            body,
            r#"<path class="l" d="M{:.1} {}V{}"/>"#,
            at(limit),
            strips - 4.0,
            bottom + 4.0
        );
    }
    bottom + FOOT
}

fn draw_series(body: &mut String, series: &crate::report::Series, y: f64, at: &impl Fn(f64) -> f64) {
    let middle = median(&series.samples);
    let _ = writeln!(
        body,
        r#"<text x="{}" y="{}" text-anchor="end">{}</text><text x="{}" y="{}">{}</text>"#,
        LEFT - 10.0,
        y + 4.0,
        escape(&series.name),
        RIGHT + 14.0,
        y + 4.0,
        number(middle)
    );
    // A single figure is a length; many are places.
    if let [value] = series.samples[..] {
        let width = at(value) - LEFT;
        let _ = writeln!(
            body,
            r#"<rect class="b" x="{LEFT}" y="{}" width="{width:.1}" height="12"/>"#,
            y - 6.0
        );
        return;
    }
    for sample in &series.samples {
        let _ = writeln!(body, r#"<circle class="d" cx="{:.1}" cy="{y}" r="4"/>"#, at(*sample));
    }
    let _ = writeln!(body, r#"<path class="m" d="M{:.1} {}v16"/>"#, at(middle), y - 8.0);
}

/// A round distance between ticks, for some five of them.
fn step(largest: f64) -> f64 {
    if largest <= 0.0 {
        return 1.0;
    }
    let rough = largest / 5.0;
    let size = 10.0_f64.powf(rough.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|round| rough / size <= round + 1e-9);
    size * round.unwrap_or(10.0)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Row, Series};

    #[test]
    fn ticks_stand_at_round_places() {
        for (largest, expected) in [
            (0.0, 1.0),
            (5.0, 1.0),
            (9.0, 2.0),
            (20.1, 5.0),
            (340.0, 100.0),
            (0.3, 0.1),
        ] {
            assert!((step(largest) - expected).abs() < 1e-9, "{largest}: {}", step(largest));
        }
    }

    #[test]
    fn each_sample_has_its_place_and_text_is_escaped() {
        let mut row = Row {
            title: "a < b".into(),
            ..Row::default()
        };
        let series = vec![Series::new("s", vec![0.0, 5.0, 10.0]), Series::new("one", vec![10.0])];
        row.panel("p", "ms", Some(5.0), series);
        let report = Report {
            machine: "m".into(),
            programs: String::new(),
            rows: vec![row],
            failed: vec![],
        };
        let svg = svg(&report);
        assert!(svg.contains("a &lt; b"));
        for place in [
            r#"cx="260.0""#,
            r#"cx="520.0""#,
            r#"cx="780.0""#,
            r#"width="520.0""#,
            r#"d="M520.0 "#,
        ] {
            assert!(svg.contains(place), "{place}: {svg}");
        }
    }
}
