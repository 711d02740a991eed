//! How the tables of tests drive a kind: as the engine does.

use serde_json::{Value, json};

use crate::{Context, strategy};

pub(crate) fn context(subresource: &str) -> Context<'_> {
    Context {
        now: "2024-05-01T12:00:00Z".parse().unwrap(),
        subresource,
    }
}

/// The object as it is stored when created, or what is wrong with it, in lines.
pub(crate) fn create(group: &str, kind: &str, object: Value) -> Result<Value, Vec<String>> {
    let strategy = strategy(group, kind);
    let mut object = object;
    strategy.default(&mut object);
    let before = object.clone();
    strategy.default(&mut object);
    assert_eq!(object, before, "filling in defaults twice changes nothing");
    match strategy.create(&mut object, &context("")) {
        Ok(_) => Ok(object),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

/// The object as it is stored when changed, or what is wrong with that.
pub(crate) fn update(
    group: &str,
    kind: &str,
    object: Value,
    old: &Value,
    subresource: &str,
) -> Result<Value, Vec<String>> {
    let strategy = strategy(group, kind);
    let mut object = object;
    strategy.default(&mut object);
    match strategy.update(&mut object, old, &context(subresource)) {
        Ok(_) => Ok(object),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

/// `object` with the value at a pointer replaced, or removed if it is null.
pub(crate) fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut object;
    for step in parent.split('/').skip(1) {
        at = match step.parse::<usize>() {
            Ok(index) if at.is_array() => &mut at[index],
            _ => &mut at[step],
        };
    }
    let last = last.replace("~1", "/");
    match (value, at) {
        (Value::Null, Value::Object(fields)) => {
            fields.shift_remove(&last);
        }
        (value, Value::Array(items)) if last == "-" => items.push(value),
        (value, Value::Array(items)) => items[last.parse::<usize>().unwrap()] = value,
        (value, at) => at[last] = value,
    }
    object
}

/// Each edit of a valid object, and what creating the result must be told.
pub(crate) fn mistakes(group: &str, kind: &str, valid: &Value, table: &[(&str, Value, &[&str])]) {
    create(group, kind, valid.clone()).unwrap_or_else(|errors| panic!("the model is not valid: {errors:?}"));
    let mut wrong = String::new();
    for (pointer, value, expected) in table {
        let told = create(group, kind, with(valid, pointer, value.clone()))
            .err()
            .unwrap_or_default();
        if told != *expected {
            wrong += &format!("{pointer} = {value}:\n  {told:#?}\ninstead of\n  {expected:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Each edit of a stored object, and what changing it so must be told.
pub(crate) fn changes(group: &str, kind: &str, stored: &Value, table: &[(&str, Value, &[&str])]) {
    let stored = create(group, kind, stored.clone()).unwrap();
    let mut wrong = String::new();
    for (pointer, value, expected) in table {
        let new = with(&stored, pointer, value.clone());
        let told = update(group, kind, new, &stored, "").err().unwrap_or_default();
        if told != *expected {
            wrong += &format!("{pointer} = {value}:\n  {told:#?}\ninstead of\n  {expected:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A spec of a pod that says as little as possible.
pub(crate) fn pod_spec() -> Value {
    json!({"containers": [{"name": "web", "image": "web:1"}]})
}
