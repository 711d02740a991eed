//! Figures, and the table of them. Pure, but for what the machine is.

use std::{fmt::Write, fs};

use serde::Serialize;

/// All that one run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What it ran on.
    pub(crate) machine: String,
    /// The folder of the programs that were measured.
    pub(crate) programs: String,
    /// The rows, in the order they were taken.
    pub(crate) rows: Vec<Row>,
    /// The rows that could not be taken, and why.
    pub(crate) failed: Vec<String>,
}

/// One comparison.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    /// What is compared.
    pub(crate) title: String,
    /// The machine's load average over a minute, before and after.
    pub(crate) load: [f64; 2],
    /// How long the row took.
    pub(crate) seconds: f64,
    /// What came out.
    pub(crate) figures: Vec<Figure>,
    /// The samples it came from.
    pub(crate) panels: Vec<Panel>,
}

/// One number.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What it tells.
    pub(crate) name: String,
    /// How much.
    pub(crate) value: f64,
    /// Of what; empty for a ratio.
    pub(crate) unit: &'static str,
    /// What it must keep to, if anything.
    pub(crate) bar: Option<Bar>,
}

/// What a figure must keep to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// Series of samples that share a scale.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Panel {
    /// What is shown.
    pub(crate) title: String,
    /// The scale's unit.
    pub(crate) unit: &'static str,
    /// Where the bar lies on this scale, if it does.
    pub(crate) limit: Option<f64>,
    /// The series.
    pub(crate) series: Vec<Series>,
}

/// Samples of one thing.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    /// Of what.
    pub(crate) name: String,
    /// In the order they were taken.
    pub(crate) samples: Vec<f64>,
}

impl Row {
    /// Adds a figure.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &'static str, bar: Option<Bar>) {
        self.figures.push(Figure {
            name: name.to_owned(),
            value,
            unit,
            bar,
        });
    }

    /// Adds a panel.
    pub(crate) fn panel(&mut self, title: &str, unit: &'static str, limit: Option<f64>, series: Vec<Series>) {
        self.panels.push(Panel {
            title: title.to_owned(),
            unit,
            limit,
            series,
        });
    }
}

impl Series {
    /// A series.
    pub(crate) fn new(name: &str, samples: Vec<f64>) -> Self {
        Self {
            name: name.to_owned(),
            samples,
        }
    }
}

impl Bar {
    /// Whether the value keeps to it.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// The table.
pub(crate) fn table(report: &Report) -> String {
    let rows = report.rows.iter();
    let names = rows.flat_map(|row| row.figures.iter().map(|figure| figure.name.chars().count()));
    let width = names.max().unwrap_or(0);
    let mut text = format!("{}\nprograms: {}\n", report.machine, report.programs);
    for row in &report.rows {
        let [before, after] = row.load;
        let _ = writeln!(
            text,
            "\n{}  (load {before:.1} → {after:.1}, {:.0} s)",
            row.title, row.seconds
        );
        for figure in &row.figures {
            let value = format!("{} {}", number(figure.value), figure.unit);
            let bar = match figure.bar {
                None => String::new(),
                Some(bar) => {
                    let mark = if bar.holds(figure.value) { "✓" } else { "✗ missed" };
                    let (sign, value) = match bar {
                        Bar::AtMost(value) => ("≤", value),
                        Bar::AtLeast(value) => ("≥", value),
                    };
                    format!("{sign} {value} {} {mark}", figure.unit)
                }
            };
            let line = format!("  {:<width$}  {value:>12}   {bar}", figure.name);
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    for failed in &report.failed {
        let _ = writeln!(text, "\nnot measured: {failed}");
    }
    text
}

/// Three digits, as far as they say something.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// The load average over a minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

/// Processors and kernel.
pub(crate) fn machine() -> String {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let models = cpuinfo.lines().filter(|line| line.starts_with("model name"));
    let model = models
        .clone()
        .next()
        .and_then(|line| line.split_once(": "))
        .map_or("", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{count} × {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bar_is_marked() {
        let mut row = Row {
            title: "r".into(),
            load: [0.25, 1.0],
            ..Row::default()
        };
        row.figure("slow", 20.5, "ms", Some(Bar::AtMost(20.0)));
        row.figure("fast", 8.0, "×", Some(Bar::AtLeast(8.0)));
        row.figure("plain", 1234.5, "", None);
        let report = Report {
            machine: "m".into(),
            programs: "p".into(),
            rows: vec![row],
            failed: vec![],
        };
        let expected = "m\nprograms: p\n\nr  (load 0.2 → 1.0, 0 s)\n  slow        20.5 ms   ≤ 20 ms ✗ missed\n  \
                        fast         8.00 ×   ≥ 8 × ✓\n  plain         1234\n";
        assert_eq!(table(&report), expected);
    }
}
