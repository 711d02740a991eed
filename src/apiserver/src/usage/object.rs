//! `NodeMetrics` and `PodMetrics`, as metrics-server writes them. Pure.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Consumed, GROUP, VERSION};
use crate::cache::Entry;

/// A `NodeMetrics`.
pub(super) fn node(entry: &Arc<Entry>, consumed: &Consumed, now: Timestamp) -> Bytes {
    let mut object = head("NodeMetrics", entry, consumed, now);
    object["usage"] = usage(consumed);
    object.to_string().into()
}

/// A `PodMetrics`, with its containers by name; there is one at least.
pub(super) fn pod(entry: &Arc<Entry>, containers: &[(&str, Consumed)], now: Timestamp) -> Bytes {
    // The pod's reading is the earliest of its containers'.
    let earliest = containers
        .iter()
        .map(|(_, consumed)| *consumed)
        .min_by_key(|consumed| consumed.at);
    let mut object = head("PodMetrics", entry, &earliest.unwrap_or_default(), now);
    object["metadata"]["namespace"] = entry.namespace().into();
    let container = |(name, consumed): &(&str, Consumed)| json!({"name": name, "usage": usage(consumed)});
    object["containers"] = containers.iter().map(container).collect();
    object.to_string().into()
}

fn head(kind: &str, entry: &Arc<Entry>, consumed: &Consumed, now: Timestamp) -> Value {
    let mut metadata = json!({"name": entry.name(), "creationTimestamp": seconds(now)});
    let labels: Map<String, Value> = entry
        .projection()
        .labels()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    if !labels.is_empty() {
        metadata["labels"] = labels.into();
    }
    let at = Timestamp::from_millisecond(consumed.at).unwrap_or(now);
    json!({
        "kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": metadata,
        "timestamp": seconds(at), "window": duration(consumed.window),
    })
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn usage(consumed: &Consumed) -> Value {
    json!({
        "cpu": scaled(consumed.cpu, 1000, &["n", "u", "m", ""]),
        "memory": scaled(consumed.memory, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi"]),
    })
}

/// A quantity with the largest unit that leaves it whole.
fn scaled(mut value: u64, step: u64, units: &[&str]) -> String {
    if value == 0 {
        return "0".to_owned();
    }
    let mut at = 0;
    while at + 1 < units.len() && value.is_multiple_of(step) {
        value /= step;
        at += 1;
    }
    format!("{value}{}", units[at])
}

/// As Go writes durations: `15.023s`, `1m0s`. Of milliseconds.
fn duration(milliseconds: u64) -> String {
    let (minutes, rest) = (milliseconds / 60_000, milliseconds % 60_000);
    if milliseconds < 1000 {
        return if milliseconds == 0 {
            "0s".to_owned()
        } else {
            format!("{milliseconds}ms")
        };
    }
    let fraction = format!(".{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let seconds = format!("{}{fraction}s", rest / 1000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_the_largest_unit_that_leaves_them_whole() {
        for (cpu, memory, expected) in [
            (0, 0, json!({"cpu": "0", "memory": "0"})),
            (1_234_567, 1000, json!({"cpu": "1234567n", "memory": "1000"})),
            (5_000_000, 2048, json!({"cpu": "5m", "memory": "2Ki"})),
            (3_000_000_000, 3 << 30, json!({"cpu": "3", "memory": "3Gi"})),
        ] {
            let consumed = Consumed {
                cpu,
                memory,
                ..Consumed::default()
            };
            assert_eq!(usage(&consumed), expected);
        }
    }

    #[test]
    fn windows_are_written_as_go_does() {
        for (milliseconds, expected) in [
            (0, "0s"),
            (7, "7ms"),
            (1000, "1s"),
            (15_020, "15.02s"),
            (60_000, "1m0s"),
            (3_661_500, "1h1m1.5s"),
        ] {
            assert_eq!(duration(milliseconds), expected);
        }
    }
}
