//! Cells, read off an object as it is stored: nothing is decoded for a table.

use jiff::Timestamp;
use serde_json::Value;

use super::human;
use crate::scale;

/// What stands for nothing.
pub(super) const NONE: &str = "<none>";
/// What stands for a choice not made.
pub(super) const UNSET: &str = "<unset>";

/// The text at a pointer, or nothing.
pub(super) fn str<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The text at a pointer, or what stands in its place.
pub(super) fn str_or<'a>(object: &'a Value, pointer: &str, otherwise: &'a str) -> &'a str {
    match str(object, pointer) {
        "" => otherwise,
        text => text,
    }
}

pub(super) fn string(object: &Value, pointer: &str) -> Value {
    str(object, pointer).into()
}

pub(super) fn string_or(object: &Value, pointer: &str, otherwise: &str) -> Value {
    str_or(object, pointer, otherwise).into()
}

pub(super) fn int(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

pub(super) fn bool(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// How many fields or items there are.
pub(super) fn count(object: &Value, pointer: &str) -> i64 {
    match object.pointer(pointer) {
        Some(Value::Object(fields)) => fields.len() as i64,
        Some(Value::Array(items)) => items.len() as i64,
        _ => 0,
    }
}

pub(super) fn name(object: &Value) -> Value {
    string(object, "/metadata/name")
}

pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    human::since(object.pointer("/metadata/creationTimestamp"), now).into()
}

pub(super) fn is_going(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null())
}

/// Number or text as it is written.
pub(super) fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The texts of a list, joined.
pub(super) fn joined(object: &Value, pointer: &str, between: &str) -> String {
    let texts: Vec<_> = items(object, pointer).iter().filter_map(Value::as_str).collect();
    texts.join(between)
}

/// Labels as `a=b,c=d`.
pub(super) fn labels(object: &Value, pointer: &str) -> Value {
    let fields = object.pointer(pointer).and_then(Value::as_object);
    let mut pairs: Vec<_> = fields
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    if pairs.is_empty() {
        NONE.into()
    } else {
        pairs.join(",").into()
    }
}

/// A selector on one line.
pub(super) fn selector(object: &Value, pointer: &str) -> Value {
    let line = object.pointer(pointer).and_then(scale::selector).unwrap_or_default();
    if line.is_empty() { NONE.into() } else { line.into() }
}

/// Names and images of the containers at a pointer.
pub(super) fn containers(object: &Value, pointer: &str) -> [Value; 2] {
    let all = |field: &str| {
        let texts: Vec<_> = items(object, pointer)
            .iter()
            .map(|container| str(container, field))
            .collect();
        Value::from(texts.join(","))
    };
    [all("/name"), all("/image")]
}

/// The status of a condition: `True`, `False`, `Unknown` or, if there is none, nothing.
pub(super) fn condition<'a>(object: &'a Value, ty: &str) -> &'a str {
    items(object, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == ty)
        .map_or("", |condition| str(condition, "/status"))
}

/// The first three of a list, and how many more there are.
pub(super) fn three(list: &[String], none: &str) -> String {
    const MOST: usize = 3;
    if list.is_empty() {
        return none.to_owned();
    }
    let shown = list[..list.len().min(MOST)].join(",");
    if list.len() > MOST {
        format!("{shown} + {} more...", list.len() - MOST)
    } else {
        shown
    }
}
