//! What an object gains and loses by its schema: defaults, and fields that nobody knows.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::schema::{Additional, Node};

/// No more unknown fields are told than these.
const MAX_TOLD: usize = 100;

/// Fills in what is absent and has a default; a null that may not be counts as absent then.
pub(super) fn default(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, property) in &node.properties {
                let Some(default_value) = &property.default else {
                    continue;
                };
                if map.get(name).is_none_or(|value| value.is_null() && !property.nullable) {
                    map.insert(name.clone(), default_value.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                match (node.properties.get(name), &node.additional) {
                    (Some(property), _) => default(property, value),
                    (None, Some(Additional::Of(additional))) => {
                        if let (true, Some(filled)) = (value.is_null() && !additional.nullable, &additional.default) {
                            *value = filled.clone();
                        }
                        default(additional, value);
                    }
                    _ => {}
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &node.items {
                for item in list {
                    if let (true, Some(filled)) = (item.is_null() && !items.nullable, &items.default) {
                        *item = filled.clone();
                    }
                    default(items, item);
                }
            }
        }
        _ => {}
    }
}

/// Drops what the schema doesn't know, and tells the fields: `spec.foo`, `spec.list[0].foo`.
pub(super) fn prune(node: &Node, object: &mut Value) -> Vec<String> {
    let mut told = Vec::new();
    prune_at(node, true, object, &mut String::new(), &mut told);
    told
}

fn prune_at(node: &Node, whole: bool, value: &mut Value, path: &mut String, told: &mut Vec<String>) {
    let length = path.len();
    match value {
        Value::Object(map) => {
            let whole = whole || node.embedded;
            map.retain(|name, value| {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                let kept = keep(node, whole, name, value, path, told);
                if !kept && told.len() < MAX_TOLD {
                    told.push(path.clone());
                }
                path.truncate(length);
                kept
            });
        }
        Value::Array(list) => {
            if let Some(items) = &node.items {
                for (at, item) in list.iter_mut().enumerate() {
                    let _ = write!(path, "[{at}]");
                    prune_at(items, false, item, path, told);
                    path.truncate(length);
                }
            }
        }
        _ => {}
    }
}

fn keep(node: &Node, whole: bool, name: &str, value: &mut Value, path: &mut String, told: &mut Vec<String>) -> bool {
    if whole && matches!(name, "apiVersion" | "kind" | "metadata") {
        return true;
    }
    match (node.properties.get(name), &node.additional) {
        (Some(property), _) => prune_at(property, false, value, path, told),
        (None, Some(Additional::Of(additional))) => prune_at(additional, false, value, path, told),
        (None, Some(Additional::Any(true))) => {}
        _ => return node.preserve,
    }
    true
}

/// A default has no field that would be pruned.
pub(super) fn is_pruned(node: &Node, value: &Value) -> bool {
    let mut told = Vec::new();
    prune_at(node, false, &mut value.clone(), &mut String::new(), &mut told);
    told.is_empty()
}

/// An object of objects, made as needed, and the last name.
pub(super) fn at_path<'v>(
    value: &'v mut Value,
    path: &'v [String],
) -> Option<(&'v mut Map<String, Value>, &'v String)> {
    let (last, parents) = path.split_last()?;
    let mut at = value.as_object_mut()?;
    for name in parents {
        at = at
            .entry(name.clone())
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut()?;
    }
    Some((at, last))
}
