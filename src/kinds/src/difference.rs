//! What changed between two structures, for the message that says it may not.

use serde::Serialize;
use serde_json::Value;

/// A line for each field that differs, `- spec.hostname: "a" -> "b"`, below the path `at`.
pub(crate) fn between(new: &impl Serialize, old: &impl Serialize, at: &str) -> String {
    let value = |structure: Result<Value, _>| structure.unwrap_or(Value::Null);
    let mut lines = Vec::new();
    compare(
        &value(serde_json::to_value(new)),
        &value(serde_json::to_value(old)),
        at,
        &mut lines,
    );
    lines.concat()
}

/// A message needs no more than this to be understood.
const MAX_LINES: usize = 20;

fn compare(new: &Value, old: &Value, at: &str, lines: &mut Vec<String>) {
    if new == old || lines.len() >= MAX_LINES {
        return;
    }
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            for (name, value) in new {
                compare(value, old.get(name).unwrap_or(&Value::Null), &join(at, name), lines);
            }
            for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                compare(&Value::Null, value, &join(at, name), lines);
            }
        }
        (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
            for (index, (new, old)) in new.iter().zip(old).enumerate() {
                compare(new, old, &format!("{at}[{index}]"), lines);
            }
        }
        _ => lines.push(format!("- {at}: {old} -> {new}\n")),
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_that_differs_is_named_with_both_values() {
        let old = json!({"a": 1, "b": [{"c": "x"}], "d": [1], "e": true});
        let new = json!({"a": 1, "b": [{"c": "y"}], "d": [1, 2], "f": null, "g": "new"});
        assert_eq!(
            between(&new, &old, "spec"),
            "- spec.b[0].c: \"x\" -> \"y\"\n- spec.d: [1] -> [1,2]\n- spec.g: null -> \"new\"\n- spec.e: true -> null\n"
        );
    }
}
