//! Columns of custom resources: the name, then what the definition says (`additionalPrinterColumns`), or else the age.

use bosun_kinds::columns::duration;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::custom::Custom;

/// `columnDefinitions`
pub(super) fn columns(custom: &Custom) -> Value {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "description": "The name, unique in its namespace.", "priority": 0,
    });
    let mut all = vec![name];
    let defined = &custom.version().columns;
    all.extend(defined.iter().map(|column| {
        json!({
            "name": column.name, "type": column.kind, "format": column.format, "description": column.description,
            "priority": column.priority,
        })
    }));
    if defined.is_empty() {
        all.push(json!({
            "name": "Age", "type": "date", "format": "", "description": "Time since it was made.", "priority": 0,
        }));
    }
    all.into()
}

/// An object's cells.
pub(super) fn row(custom: &Custom, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![object["metadata"]["name"].clone()];
    let defined = &custom.version().columns;
    cells.extend(defined.iter().map(|column| match (&*column.kind, column.cell(object)) {
        ("date", Value::String(time)) => age(&time, now),
        (_, cell) => cell,
    }));
    if defined.is_empty() {
        cells.push(match &object["metadata"]["creationTimestamp"] {
            Value::String(time) => age(time, now),
            _ => "<unknown>".into(),
        });
    }
    cells
}

fn age(time: &str, now: Timestamp) -> Value {
    match time.parse::<Timestamp>() {
        Ok(time) => duration(now.duration_since(time)).into(),
        Err(_) => "<invalid>".into(),
    }
}
