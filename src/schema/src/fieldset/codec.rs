//! `FieldsV1`: a set as JSON, `{"f:spec":{"f:replicas":{}}}`.
//!
//! `f:` names a field, `k:` an item by its keys, `v:` an item by its value, `i:` one by its place; `.` says that a field
//! with others below it is a member itself.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Element, FieldSet, Level, Part};

/// No object is as deep.
const MAX_DEPTH: usize = 100;

/// Why a value is not `FieldsV1`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// Not an object where one must be.
    #[error("expected an object of fields")]
    NotAnObject,
    /// A key that is no element of a path.
    #[error("{0:?} is no path element")]
    Element(String),
    /// Nested beyond any object.
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

impl FieldSet {
    /// Reads `FieldsV1`.
    pub fn decode(value: &Value) -> Result<Self, FieldsError> {
        Ok(decode(value, 0)?.below)
    }

    /// Writes `FieldsV1`.
    pub fn encode(&self) -> Value {
        Value::Object(encode(self, Map::new()))
    }
}

fn decode(value: &Value, depth: usize) -> Result<Part, FieldsError> {
    let map = value.as_object().ok_or(FieldsError::NotAnObject)?;
    if depth > MAX_DEPTH {
        return Err(FieldsError::TooDeep);
    }
    let mut part = Part {
        member: map.is_empty(),
        below: FieldSet::default(),
    };
    let mut level = Level::default();
    for (name, below) in map {
        if name == "." {
            part.member = true;
        } else {
            let element = element(name).ok_or_else(|| FieldsError::Element(name.clone()))?;
            level.add(decode(below, depth + 1)?, || element);
        }
    }
    part.below = level.finish();
    Ok(part)
}

fn element(text: &str) -> Option<Element> {
    let (kind, rest) = text.split_at_checked(2)?;
    Some(match kind {
        "f:" => Element::Field(rest.into()),
        "v:" => Element::Value(serde_json::from_str(rest).ok()?),
        "i:" => Element::Index(rest.parse().ok()?),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
            let mut keys: Vec<(Arc<str>, Value)> = keys.into_iter().map(|(name, key)| (name.into(), key)).collect();
            keys.sort_by(|(a, _), (b, _)| a.cmp(b));
            Element::Key(keys.into())
        }
        _ => return None,
    })
}

fn encode(set: &FieldSet, mut map: Map<String, Value>) -> Map<String, Value> {
    for node in &set.nodes {
        let mut below = Map::new();
        if node.member && !node.children.is_empty() {
            below.insert(".".to_owned(), Value::Object(Map::new()));
        }
        map.insert(name(&node.element), Value::Object(encode(&node.children, below)));
    }
    map
}

fn name(element: &Element) -> String {
    match element {
        Element::Field(name) => ["f:", name].concat(),
        Element::Value(value) => format!("v:{value}"),
        Element::Index(index) => format!("i:{index}"),
        Element::Key(keys) => {
            let keys: Map<String, Value> = keys.iter().map(|(name, key)| (name.to_string(), key.clone())).collect();
            format!("k:{}", Value::Object(keys))
        }
    }
}
