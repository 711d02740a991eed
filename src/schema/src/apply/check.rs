//! Whether a configuration fits its type, in the words of upstream's structured merge and diff.

use std::collections::BTreeSet;

use serde_json::Value;

use super::place::Place;
use crate::{
    fieldset::Element,
    patch::go,
    types::{ListKind, Shape},
};

/// What is wrong with `config`, one line a fault; empty if it can be applied.
pub(crate) fn check(place: Place<'_>, config: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    walk(place, config, &mut String::new(), &mut faults);
    faults
}

fn walk(place: Place<'_>, value: &Value, path: &mut String, faults: &mut Vec<String>) {
    let Place::Of(types, ty) = place else {
        return;
    };
    if value.is_null() {
        return;
    }
    let shape = &types.get(ty).shape;
    let fault = match (shape, value) {
        (Shape::IntOrString | Shape::Quantity | Shape::Time { .. }, Value::Object(_) | Value::Array(_)) => {
            Some(format!("expected any scalar, got {}", go::wrapped(value)))
        }
        (Shape::Any | Shape::IntOrString | Shape::Quantity | Shape::Time { .. }, _)
        | (Shape::Object { .. } | Shape::Map { .. }, Value::Object(_))
        | (Shape::List { .. }, Value::Array(_))
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::Integer { .. } | Shape::Number, Value::Number(_))
        | (Shape::String | Shape::Bytes, Value::String(_)) => None,
        (Shape::Object { .. } | Shape::Map { .. }, _) => Some(format!("expected map, got {}", go::wrapped(value))),
        (Shape::List { .. }, _) => Some(format!("expected list, got {}", go::wrapped(value))),
        (Shape::Boolean, _) => Some(format!("expected boolean, got {}", go::wrapped(value))),
        (Shape::Integer { .. } | Shape::Number, _) => {
            Some(format!("expected numeric (int or float), got {}", go::type_of(value)))
        }
        (Shape::String | Shape::Bytes, _) => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go::syntax(value)
        )),
    };
    if let Some(fault) = fault {
        faults.push(line(path, &fault));
        return;
    }
    let length = path.len();
    match (shape, value) {
        (Shape::Object { .. } | Shape::Map { .. }, Value::Object(map)) => {
            for (name, value) in map {
                let (below, field) = place.field(name);
                path.push('.');
                path.push_str(name);
                if field.is_none() && matches!(shape, Shape::Object { open: false, .. }) {
                    faults.push(line(path, "field not declared in schema"));
                } else {
                    walk(below, value, path, faults);
                }
                path.truncate(length);
            }
        }
        (Shape::List { kind, .. }, Value::Array(list)) => {
            let items = place.below(&Element::Index(0));
            let mut seen = BTreeSet::new();
            for (at, item) in list.iter().enumerate() {
                let step = if *kind == ListKind::Atomic {
                    format!("[{at}]")
                } else {
                    match items.item(kind, item) {
                        Ok(element) => {
                            let step = element.to_string();
                            if !seen.insert(element) {
                                faults.push(line(path, &format!("duplicate entries for key {step}")));
                            }
                            step
                        }
                        Err(fault) => {
                            faults.push(line(path, &format!("element {at}: {fault}")));
                            return;
                        }
                    }
                };
                path.push_str(&step);
                walk(items, item, path, faults);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn line(path: &str, fault: &str) -> String {
    if path.is_empty() {
        fault.to_owned()
    } else {
        format!("{path}: {fault}")
    }
}
