//! JSON patch (RFC 6902) and JSON merge patch (RFC 7386), with upstream's limits, leniencies and messages.
//!
//! Where upstream and the RFC part, upstream counts: `replace` of a field that isn't there sets it, a negative index
//! counts from the end, `test` for null passes where nothing is.

pub(crate) mod go;
mod pointer;

use pointer::Pointer;
use serde_json::{Map, Value};

use crate::decode::MAX_DEPTH;

/// No JSON patch has more operations.
pub const MAX_OPERATIONS: usize = 10_000;

/// Bytes that the `copy` operations of one JSON patch may add to an object.
pub const MAX_COPIED_BYTES: usize = 3 << 20;

/// Values that the operations of one JSON patch may visit or shift.
const MAX_WORK: usize = 50_000_000;

/// Why a patch could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is no patch of its type (400).
    #[error("{0}")]
    Malformed(String),
    /// The patch has more operations than [`MAX_OPERATIONS`] (413).
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// The patch doesn't apply to this object (422).
    #[error("{0}")]
    Inapplicable(String),
    /// The patch says what its type doesn't let it say; upstream answers as for a fault of its own (500).
    #[error("{0}")]
    Unprocessable(String),
}

/// Applies a JSON patch.
pub fn json(target: Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::Malformed(format!(
            "json: cannot unmarshal {} into Go value of type jsonpatch.Patch",
            json_type(patch)
        )));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let mut document = target;
    let mut effort = Effort::default();
    for operation in operations {
        let Value::Object(operation) = operation else {
            return Err(PatchError::Malformed(format!(
                "json: cannot unmarshal {} into Go value of type jsonpatch.Operation",
                json_type(operation)
            )));
        };
        step(&mut document, operation, &mut effort).map_err(PatchError::Inapplicable)?;
    }
    Ok(document)
}

/// Applies a JSON merge patch.
pub fn merge(mut target: Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("Invalid JSON Patch".to_owned()));
    }
    merge_into(&mut target, patch);
    Ok(target)
}

fn merge_into(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (name, value) in patch {
            if value.is_null() {
                target.shift_remove(name);
            } else {
                merge_into(target.entry(name).or_insert(Value::Null), value);
            }
        }
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Why an operation does not apply, in upstream's words.
type Step<T> = Result<T, String>;

/// What a patch has cost so far.
#[derive(Default)]
struct Effort {
    copied: usize,
    work: usize,
}

impl Effort {
    fn spend(&mut self, work: usize) -> Step<()> {
        self.work += work;
        if self.work > MAX_WORK {
            return Err("the patch moves too much".to_owned());
        }
        Ok(())
    }

    /// Whether the value may be put at `path`: nothing may become deeper than what is read may be.
    fn check_depth(&mut self, path: &str, value: &Value) -> Step<()> {
        let mut visited = 0;
        let depth = path.matches('/').count() + depth(value, &mut visited);
        self.spend(visited)?;
        if depth > MAX_DEPTH {
            return Err(format!("the patch nests values deeper than {MAX_DEPTH}"));
        }
        Ok(())
    }
}

fn depth(value: &Value, visited: &mut usize) -> usize {
    *visited += 1;
    let below = match value {
        Value::Array(list) => list.iter().map(|item| depth(item, visited)).max(),
        Value::Object(map) => map.values().map(|value| depth(value, visited)).max(),
        _ => return 0,
    };
    1 + below.unwrap_or(0)
}

fn step(document: &mut Value, operation: &Map<String, Value>, effort: &mut Effort) -> Step<()> {
    let kind = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    let path = || {
        text("path").ok_or_else(|| match kind {
            "add" | "remove" | "copy" => format!("{kind} operation failed to decode path: missing value"),
            _ => format!("{kind} operation failed to decode path: operation missing path field: missing value"),
        })
    };
    let from = || {
        text("from").ok_or_else(|| {
            format!("{kind} operation failed to decode from: operation, missing from field: missing value")
        })
    };
    let missing = |which: &str, path: &str| {
        format!("{kind} operation does not apply: doc is missing {which}path: {path}: missing value")
    };
    match kind {
        "add" => {
            let path = path()?;
            let quoted = format!("{path:?}");
            let place = Pointer::find(document, path).ok_or_else(|| missing("", &quoted))?;
            let value = value();
            effort.spend(place.width())?;
            effort.check_depth(path, &value)?;
            place
                .add(value)
                .map_err(|error| format!("error in add for path: '{path}': {error}"))
        }
        "remove" => {
            let path = path()?;
            let quoted = format!("{path:?}");
            let place = Pointer::find(document, path).ok_or_else(|| missing("", &quoted))?;
            effort.spend(place.width())?;
            place
                .remove()
                .map(drop)
                .map_err(|error| format!("error in remove for path: '{path}': {error}"))
        }
        "replace" => {
            let path = path()?;
            if path.is_empty() {
                return match value() {
                    new @ (Value::Object(_) | Value::Array(_)) => {
                        *document = new;
                        Ok(())
                    }
                    _ => Err("replace operation value must be object or array".to_owned()),
                };
            }
            let place = Pointer::find(document, path).ok_or_else(|| missing("", path))?;
            let value = value();
            effort.check_depth(path, &value)?;
            place
                .set(value)
                .map_err(|_| format!("replace operation does not apply: doc is missing key: {path}: missing value"))
        }
        "move" => {
            let from = from()?;
            let source = Pointer::find(document, from).ok_or_else(|| missing("from ", from))?;
            effort.spend(source.width())?;
            let moved = source
                .remove()
                .map_err(|error| format!("error in move for path: '{from}': {error}"))?;
            let path = path()?;
            let place = Pointer::find(document, path).ok_or_else(|| missing("destination ", path))?;
            effort.spend(place.width())?;
            effort.check_depth(path, &moved)?;
            place
                .add(moved)
                .map_err(|error| format!("error in move for path: '{path}': {error}"))
        }
        "copy" => {
            let from = from()?;
            let source = Pointer::find(document, from).ok_or_else(|| missing("from ", from))?;
            let copy = source
                .get()
                .map_err(|error| format!("error in copy for from: '{from}': {error}"))?
                .cloned()
                .unwrap_or(Value::Null);
            effort.copied += copy.to_string().len();
            if effort.copied > MAX_COPIED_BYTES {
                return Err(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit \
                     {MAX_COPIED_BYTES}",
                    effort.copied
                ));
            }
            let path = path()?;
            let place = Pointer::find(document, path).ok_or_else(|| missing("destination ", path))?;
            effort.spend(place.width())?;
            effort.check_depth(path, &copy)?;
            place
                .add(copy)
                .map_err(|error| format!("error while adding value during copy: {error}"))
        }
        "test" => {
            let path = path()?;
            let expected = value();
            let holds = if path.is_empty() {
                crate::fieldset::same(document, &expected)
            } else {
                let place = Pointer::find(document, path)
                    .ok_or_else(|| format!("test operation does not apply: is missing path: {path}: missing value"))?;
                match place.get() {
                    Ok(found) => crate::fieldset::same(found.unwrap_or(&Value::Null), &expected),
                    Err(error) => return Err(format!("error in test for path: '{path}': {error}")),
                }
            };
            if holds {
                Ok(())
            } else {
                Err(format!("testing value {path} failed: test failed"))
            }
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

#[cfg(test)]
mod tests;
