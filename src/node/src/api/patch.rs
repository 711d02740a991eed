//! What to write of a status: only what differs, so that what others write of it stays. Pure.
//!
//! The result is a strategic merge patch: conditions are merged by their type, so another owner's are not touched;
//! lists that the API merges by a key of theirs and that are ours as a whole are replaced; all other lists are anyway.

use serde_json::{Map, Value, json};

/// Lists of ours as a whole that a strategic merge would merge.
const REPLACED: [&str; 3] = ["podIPs", "hostIPs", "addresses"];

/// The status as it is to be, against the one that the API has. Fields of `owned` that the new one lacks are removed;
/// other fields that it lacks are somebody else's. `None` when nothing differs.
pub fn status_patch(old: &Value, new: &Value, owned: &[&str]) -> Option<Value> {
    let mut patch = Map::new();
    for (field, value) in new.as_object().into_iter().flatten() {
        let before = old.get(field).unwrap_or(&Value::Null);
        if let Some(change) = change(field, before, value) {
            patch.insert(field.clone(), change);
        }
    }
    for field in owned {
        let gone = new.get(*field).is_none() && old.get(*field).is_some_and(|before| !is_empty(before));
        if gone {
            patch.insert((*field).to_owned(), Value::Null);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn change(field: &str, old: &Value, new: &Value) -> Option<Value> {
    if old == new || (is_empty(old) && is_empty(new)) {
        return None;
    }
    match (field, old, new) {
        ("conditions", _, Value::Array(new)) => {
            let before = |condition: &Value| {
                let all = old.as_array().into_iter().flatten();
                all.clone().find(|old| old["type"] == condition["type"])
            };
            let changed = new.iter().filter(|condition| !says(before(condition), condition));
            let changed: Vec<_> = changed.map(|condition| whole(before(condition), condition)).collect();
            (!changed.is_empty()).then_some(Value::Array(changed))
        }
        // Where there is no list yet there is nothing to replace.
        (field, old, Value::Array(new)) if REPLACED.contains(&field) && !is_empty(old) => {
            let mut items = vec![json!({"$patch": "replace"})];
            items.extend(new.iter().cloned());
            Some(Value::Array(items))
        }
        (_, Value::Object(old), Value::Object(new)) => {
            let fields = new.iter().filter_map(|(name, value)| {
                let change = change(name, old.get(name).unwrap_or(&Value::Null), value)?;
                Some((name.clone(), change))
            });
            let fields: Map<_, _> = fields.collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        _ => Some(new.clone()),
    }
}

/// Whether a condition says already what ours says.
fn says(old: Option<&Value>, new: &Value) -> bool {
    let Some(old) = old else { return false };
    let fields = new.as_object().into_iter().flatten();
    let absent = ["reason", "message"]
        .iter()
        .all(|field| new.get(*field).is_some() || is_empty(&old[*field]));
    absent && fields.clone().all(|(name, value)| old[name.as_str()] == *value)
}

/// A condition with what must go of the one before.
fn whole(old: Option<&Value>, new: &Value) -> Value {
    let mut whole = new.clone();
    for field in ["reason", "message"] {
        if new.get(field).is_none() && old.is_some_and(|old| !is_empty(&old[field])) {
            whole[field] = Value::Null;
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNED: [&str; 3] = ["message", "podIP", "podIPs"];

    #[test]
    fn only_what_differs_is_written_and_what_others_wrote_stays() {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
        // (what it is, old, new, expected)
        let table = [
            (
                "nothing new",
                json!({"phase": "Running", "x": 1}),
                json!({"phase": "Running"}),
                None,
            ),
            ("empty is absent", json!({}), json!({"lastState": {}}), None),
            (
                "a field",
                json!({"phase": "Pending"}),
                json!({"phase": "Running"}),
                Some(json!({"phase": "Running"})),
            ),
            (
                "a field of ours that is gone",
                json!({"message": "x", "nominatedNodeName": "n2"}),
                json!({}),
                Some(json!({"message": null})),
            ),
            (
                "a foreign condition",
                json!({"conditions": [condition("Gate", "True"), condition("Ready", "False")]}),
                json!({"conditions": [condition("Ready", "True")]}),
                Some(json!({"conditions": [condition("Ready", "True")]})),
            ),
            (
                "a condition that others wrote more into",
                json!({"conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}]}),
                json!({"conditions": [condition("Ready", "True")]}),
                None,
            ),
            (
                "a condition's reason that is gone",
                json!({"conditions": [{"type": "Ready", "status": "False", "reason": "R"}]}),
                json!({"conditions": [condition("Ready", "True")]}),
                Some(json!({"conditions": [{"type": "Ready", "status": "True", "reason": null}]})),
            ),
            (
                "a list of ours that the API would merge",
                json!({"podIPs": [{"ip": "10.0.0.1"}]}),
                json!({"podIPs": [{"ip": "10.0.0.2"}]}),
                Some(json!({"podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}]})),
            ),
            (
                "a list of ours where there is none",
                json!({"podIPs": []}),
                json!({"podIPs": [{"ip": "10.0.0.2"}]}),
                Some(json!({"podIPs": [{"ip": "10.0.0.2"}]})),
            ),
            (
                "a list that is replaced anyway",
                json!({"containerStatuses": [{"name": "a"}]}),
                json!({"containerStatuses": [{"name": "a"}, {"name": "b"}]}),
                Some(json!({"containerStatuses": [{"name": "a"}, {"name": "b"}]})),
            ),
            (
                "one amount among those that others added to",
                json!({"capacity": {"cpu": "2", "example.com/gpu": "1"}}),
                json!({"capacity": {"cpu": "4"}}),
                Some(json!({"capacity": {"cpu": "4"}})),
            ),
        ];
        for (what, old, new, expected) in table {
            assert_eq!(status_patch(&old, &new, &OWNED), expected, "{what}");
        }
    }
}
