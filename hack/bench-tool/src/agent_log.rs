//! When the agent did what, by its own log: its clock is the machine's, so its lines compare with ours.

use std::{
    fs::File,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use jiff::Timestamp;

/// Between two looks at the file: short beside what is measured, and cheap beside what runs.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long anything may take that is waited for in the log.
const PATIENCE: Duration = Duration::from_secs(120);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// When it was said.
    pub(crate) at: Timestamp,
    /// The pod that it is about, without its namespace; empty if about none.
    pub(crate) pod: String,
    /// The message with its fields.
    pub(crate) text: String,
}

impl Line {
    /// A line as `tracing` writes it; `None` for anything else.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (at, rest) = line.trim_start().split_once(' ')?;
        let (_level, rest) = rest.trim_start().split_once(' ')?;
        let (spans, rest) = rest.split_once("}: ").unwrap_or(("", rest));
        let (_target, text) = rest.split_once(": ")?;
        let pod = value(spans, "pod{pod=")
            .or_else(|| value(text, " pod="))
            .unwrap_or_default();
        let pod = pod.split_once('/').map_or(pod, |(_, name)| name);
        Some(Self {
            at: at.parse().ok()?,
            pod: pod.to_owned(),
            text: text.to_owned(),
        })
    }

    /// Whether the message begins with these words, and is about the pod of this name on the node `n1`.
    pub(crate) fn says(&self, words: &str, pod: &str) -> bool {
        self.text.starts_with(words) && self.pod.strip_suffix("-n1") == Some(pod)
    }

    /// A field of the message.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        value(&self.text, &format!(" {name}="))
    }
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let from = text.find(key)? + key.len();
    let rest = &text[from..];
    rest.split([' ', '}']).next().map(|value| value.trim_matches('"'))
}

/// The log as it grows.
#[derive(Debug)]
pub(crate) struct AgentLog {
    file: File,
    half: Vec<u8>,
    lines: Vec<Line>,
}

impl AgentLog {
    /// From the file's begin on.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            file: File::open(path).with_context(|| format!("opening {}", path.display()))?,
            half: Vec::new(),
            lines: Vec::new(),
        })
    }

    /// All that was said so far.
    pub(crate) fn lines(&mut self) -> anyhow::Result<&[Line]> {
        self.file
            .read_to_end(&mut self.half)
            .context("reading the agent's log")?;
        let whole = self.half.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(&self.half[..whole]).into_owned();
        self.half.drain(..whole);
        self.lines.extend(text.lines().filter_map(Line::parse));
        Ok(&self.lines)
    }

    /// The first line that says this of the pod, waited for.
    pub(crate) async fn wait_for(&mut self, words: &str, pod: &str) -> anyhow::Result<Line> {
        self.find(&format!("{words:?} of {pod}"), |line| line.says(words, pod))
            .await
    }

    /// The first line that fits, waited for.
    pub(crate) async fn find(&mut self, what: &str, fits: impl Fn(&Line) -> bool) -> anyhow::Result<Line> {
        let begun = Instant::now();
        let mut seen = 0;
        loop {
            let lines = self.lines()?;
            if let Some(line) = lines[seen..].iter().find(|line| fits(line)) {
                return Ok(line.clone());
            }
            seen = lines.len();
            if begun.elapsed() > PATIENCE {
                bail!("the agent did not say {what} within {PATIENCE:?}");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Milliseconds from one time to another.
pub(crate) fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_pod_tells_when_what_and_of_whom() {
        let line = "2026-11-20T12:00:00.000250Z  INFO pod{pod=default/web-n1 uid=u}: bosun_node::pod::apply: \
                    creating container container=main attempt=1 since_exit_us=5120";
        let line = Line::parse(line).expect("a line");
        assert!(line.says("creating container", "web"));
        assert!(!line.says("creating container", "we"));
        assert_eq!(line.field("since_exit_us"), Some("5120"));
        assert_eq!(line.field("since"), None);
        let begun = "2026-11-20T12:00:00Z".parse().expect("a time");
        assert!((milliseconds(begun, line.at) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn a_line_outside_a_span_may_name_its_pod_in_a_field() {
        let line =
            "2026-11-20T12:00:00Z  INFO bosun_node::manager: manifest read file=\"a.yaml\" pod=default/a-n1 uid=u";
        let line = Line::parse(line).expect("a line");
        assert!(line.says("manifest read", "a"));
        assert_eq!(line.field("file"), Some("a.yaml"));
        assert_eq!(Line::parse("thread main panicked"), None);
    }
}
