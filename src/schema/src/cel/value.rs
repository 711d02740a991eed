//! JSON values as CEL sees them.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use kube_cel::cel::{
    Value,
    objects::{Key, Map},
};
use serde_json::Value as Json;

use super::machine::Machine;
use crate::custom::schema::{Additional, Kind, Node};

/// Words that can't be names in CEL.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A field's name as rules write it: `__namespace__`, `max__dash__size`, `a__dot__b`.
pub(super) fn escape(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

/// A value of a schema, if it has one.
pub(super) fn value(node: Option<&Node>, json: &Json, machine: &Machine) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => {
            let float = || Value::Float(number.as_f64().unwrap_or(f64::NAN));
            match node.and_then(|node| node.kind) {
                Some(Kind::Number) => float(),
                Some(Kind::Integer) => number
                    .as_i64()
                    .or_else(|| number.as_f64().map(|float| float as i64))
                    .map_or_else(float, Value::Int),
                _ => number.as_i64().map_or_else(float, Value::Int),
            }
        }
        Json::String(text) => {
            let format = node.and_then(|node| node.checks.format.as_deref());
            let typed = match format {
                Some("date-time" | "datetime") => machine.timestamp(text),
                Some("duration") => machine.duration(text),
                Some("byte") => STANDARD.decode(text).ok().map(|bytes| Value::Bytes(Arc::new(bytes))),
                _ => None,
            };
            typed.unwrap_or_else(|| Value::String(Arc::new(text.clone())))
        }
        Json::Array(list) => {
            let items = node.and_then(|node| node.items.as_deref());
            Value::List(Arc::new(list.iter().map(|item| value(items, item, machine)).collect()))
        }
        Json::Object(map) => {
            let is_map =
                node.is_some_and(|node| matches!(node.additional, Some(Additional::Of(_) | Additional::Any(true))));
            let entries = map.iter().map(|(name, json)| {
                let below = node.and_then(|node| below(node, name));
                let name = if is_map { name.clone() } else { escape(name) };
                (Key::String(Arc::new(name)), value(below, json, machine))
            });
            Value::Map(Map {
                map: Arc::new(entries.collect::<HashMap<_, _>>()),
            })
        }
    }
}

/// The schema of a field.
pub(super) fn below<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    node.properties.get(name).or(node.additional_node())
}

/// How much work it is to copy a value.
pub(super) fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => 1 + text.len() as u64 / 16,
        Value::Bytes(bytes) => 1 + bytes.len() as u64 / 16,
        Value::List(list) => 1 + list.iter().map(size).sum::<u64>(),
        Value::Map(map) => 1 + map.map.values().map(|value| 1 + size(value)).sum::<u64>(),
        _ => 1,
    }
}
