//! What an agent says at `/metrics/resource`: Prometheus' text format (version 0.0.4), as far as it is about processor
//! time and memory of the node and its containers. Pure.
//!
//! What is not understood is passed over, line by line: an agent may say more than is asked here. What is kept is
//! bounded by [`MOST`].

use std::collections::HashMap;

/// The most containers one node may tell of.
pub const MOST: usize = 20_000;

/// Counters of a container or node as they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Processor time used since its start, in billionths of a second.
    pub cpu: u64,
    /// Memory that can't be taken back, in bytes.
    pub memory: u64,
    /// When it was started, in milliseconds since 1970, if that is told.
    pub started: Option<i64>,
}

/// A node's counters at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The node's own.
    pub node: Option<Sample>,
    /// Of containers, by namespace and name of the pod.
    pub pods: HashMap<(String, String), HashMap<String, Sample>>,
}

/// A sample that is coming together.
#[derive(Default)]
struct Parts {
    cpu: Option<(u64, i64)>,
    memory: Option<u64>,
    started: Option<i64>,
}

impl Parts {
    /// Without both numbers there is none, and zero is no number: of what has ended, or never began.
    fn sample(&self) -> Option<Sample> {
        let ((cpu, at), memory) = (self.cpu?, self.memory?);
        (cpu > 0 && memory > 0).then_some(Sample {
            at,
            cpu,
            memory,
            started: self.started,
        })
    }
}

/// Reads an agent's answer; `now` (milliseconds since 1970) is the time of what has none of its own.
pub fn parse(text: &str, now: i64) -> Reading {
    let mut node = Parts::default();
    let mut containers: HashMap<(String, String, String), Parts> = HashMap::new();
    for line in text.lines() {
        let Some(told) = Line::parse(line) else { continue };
        let (part, what) = if let Some(what) = told.name.strip_prefix("node_") {
            (&mut node, what)
        } else if let Some(what) = told.name.strip_prefix("container_") {
            let Some(key) = told.container() else { continue };
            if containers.len() >= MOST && !containers.contains_key(&key) {
                continue;
            }
            (containers.entry(key).or_default(), what)
        } else {
            continue;
        };
        match what {
            "cpu_usage_seconds_total" => {
                part.cpu = scaled(told.value, 1e9).map(|cpu| (cpu, told.at.unwrap_or(now)));
            }
            "memory_working_set_bytes" => part.memory = scaled(told.value, 1.0),
            "start_time_seconds" => {
                part.started = scaled(told.value, 1e3).and_then(|at| i64::try_from(at).ok());
            }
            _ => {}
        }
    }
    let mut pods: HashMap<(String, String), Option<HashMap<String, Sample>>> = HashMap::new();
    for ((namespace, pod, container), parts) in containers {
        let of_pod = pods.entry((namespace, pod)).or_insert_with(|| Some(HashMap::new()));
        match (parts.sample(), of_pod) {
            (Some(sample), Some(known)) => {
                known.insert(container, sample);
            }
            // Numbers of a part would be taken for the whole.
            (_, of_pod) => *of_pod = None,
        }
    }
    Reading {
        node: node.sample(),
        pods: pods
            .into_iter()
            .filter_map(|(key, containers)| Some((key, containers?)))
            .collect(),
    }
}

/// A number that is one, scaled and without its fraction.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is in range"
)]
fn scaled(value: f64, scale: f64) -> Option<u64> {
    let scaled = (value * scale).round();
    (scaled.is_finite() && scaled >= 0.0 && scaled < i64::MAX as f64).then_some(scaled as u64)
}

/// `name{label="value",…} value [milliseconds]`
struct Line<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
    at: Option<i64>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':')?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        let mut words = rest.split_ascii_whitespace();
        let value = words.next()?.parse().ok()?;
        let at = match words.next() {
            Some(word) => Some(word.parse().ok()?),
            None => None,
        };
        (!name.is_empty() && words.next().is_none()).then_some(Self {
            name,
            labels,
            value,
            at,
        })
    }

    fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(one, _)| *one == name)?;
        Some(&*found.1).filter(|value| !value.is_empty())
    }

    fn container(&self) -> Option<(String, String, String)> {
        let label = |name| self.label(name).map(str::to_owned);
        Some((label("namespace")?, label("pod")?, label("container")?))
    }
}

/// More labels than that no metric of an agent has.
const MOST_LABELS: usize = 32;

/// The labels up to the closing brace, and what follows.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once('=')?;
        let (value, after) = value(quoted.trim_start().strip_prefix('"')?)?;
        if labels.len() == MOST_LABELS {
            return None;
        }
        labels.push((name.trim(), value));
        rest = after;
    }
}

/// A label's value up to the closing quote, with its escapes resolved, and what follows.
fn value(rest: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = rest.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &rest[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(namespace: &str, pod: &str) -> (String, String) {
        (namespace.to_owned(), pod.to_owned())
    }

    #[test]
    fn an_agents_answer_becomes_samples_and_what_is_strange_is_passed_over() {
        let text = r#"# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="app",namespace="a",pod="web"} 1.5 1700000000123
container_cpu_usage_seconds_total{container="half",namespace="a",pod="part"} 1.5 1700000000123
container_cpu_usage_seconds_total{container="ended",namespace="a",pod="done"} 0 1700000000123
container_memory_working_set_bytes{container="ended",namespace="a",pod="done"} 0 1700000000123
container_memory_working_set_bytes{container="app",namespace="a",pod="web"} 2.048e+06 1700000000123
container_start_time_seconds{container="app",namespace="a",pod="web"} 1.6999999995e+09
container_cpu_usage_seconds_total{container="app",namespace="a"} 9
container_cpu_usage_seconds_total{container="app",namespace="a",pod="web" 9
node_cpu_usage_seconds_total 10.25 1700000000500
node_memory_working_set_bytes 4096
node_swap_usage_bytes NaN 1
something_else{} x
"#;
        let sample = |at, cpu, memory, started| Sample {
            at,
            cpu,
            memory,
            started,
        };
        let app = sample(1_700_000_000_123, 1_500_000_000, 2_048_000, Some(1_699_999_999_500));
        let expected = Reading {
            node: Some(sample(1_700_000_000_500, 10_250_000_000, 4096, None)),
            pods: HashMap::from([(key("a", "web"), HashMap::from([("app".to_owned(), app)]))]),
        };
        assert_eq!(parse(text, 7), expected);
    }

    #[test]
    fn a_node_may_tell_of_so_many_containers_and_no_more() {
        use std::fmt::Write as _;
        let mut text = String::new();
        for number in 0..=MOST {
            let labels = format!("{{container=\"c\",namespace=\"a\",pod=\"p{number}\"}}");
            let _ = write!(
                text,
                "container_cpu_usage_seconds_total{labels} 1\ncontainer_memory_working_set_bytes{labels} 1\n"
            );
        }
        assert_eq!(parse(&text, 0).pods.len(), MOST);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(\\PC|[\n\"\\\\{}=,])*") {
            parse(&text, 0);
        }

        #[test]
        fn lines_almost_right_are_survived(text in "container_(cpu_usage_seconds_total|x)\\{[a-z=\",\\\\ ]{0,30}\\}? ?[0-9.eE+-]{0,10} ?[0-9-]{0,25}") {
            parse(&text, 0);
        }

        #[test]
        fn what_is_written_is_read(pod in "\\PC{1,20}", cpu in 1u64..1_000_000, memory in 1u64..1 << 40, at in 0i64..1 << 50) {
            let escaped = pod.replace('\\', "\\\\").replace('"', "\\\"");
            let labels = format!("{{container=\"c\",namespace=\"n\",pod=\"{escaped}\"}}");
            let text = format!(
                "container_cpu_usage_seconds_total{labels} {cpu} {at}\ncontainer_memory_working_set_bytes{labels} {memory} {at}\n"
            );
            let reading = parse(&text, 0);
            let sample = Sample { at, cpu: cpu * 1_000_000_000, memory, started: None };
            prop_assert_eq!(reading.pods.get(&key("n", &pod)), Some(&HashMap::from([("c".to_owned(), sample)])));
        }
    }
}
