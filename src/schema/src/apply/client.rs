//! Objects that `kubectl` applied by itself before it asked the server to: its annotation says what it applied.

use serde_json::Value;

use super::{compare::compare, conflict::Conflicts, extract::extract, place::Place};
use crate::{fieldset::FieldSet, managed::Model};

/// The manager whose objects these are.
pub(super) const MANAGER: &str = "kubectl";

/// What was applied last, as JSON.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// No object's annotations are larger.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// The conflicts that are not about fields as the client itself applied them.
pub(super) fn remaining(model: &Model<'_>, live: &Value, mut conflicts: Conflicts) -> Conflicts {
    if let Some(own) = applied_by_client(model, live) {
        conflicts.retain(|conflict| !own.contains(conflict.path()));
    }
    conflicts
}

/// Brings the annotation up to date, if there is one, so that the client can apply again.
pub(super) fn sync(object: &mut Value, config: &Value) {
    let annotations = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut);
    let Some(annotations) = annotations else {
        return;
    };
    if annotations
        .get(ANNOTATION)
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.shift_remove(ANNOTATION);
    }
    annotations.insert(ANNOTATION.to_owned(), format!("{config}\n").into());
    let size: usize = annotations
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > MAX_ANNOTATIONS {
        annotations.shift_remove(ANNOTATION);
    }
}

/// The fields that are as the client applied them last.
fn applied_by_client(model: &Model<'_>, live: &Value) -> Option<FieldSet> {
    let last = live.pointer("/metadata/annotations")?.get(ANNOTATION)?.as_str()?;
    let last: Value = serde_json::from_str(last).ok()?;
    if last.get("apiVersion")?.as_str()? != model.api_version {
        return None;
    }
    let place = Place::Of(model.types, model.ty);
    let change = compare(place, Some(&last), Some(live));
    Some(
        extract(place, &last)
            .difference(&change.written())
            .difference(&change.removed),
    )
}
