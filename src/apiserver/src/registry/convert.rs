//! Versions of one resource that are stored as one of them: how their objects become each other.
//!
//! Custom resources' versions differ in nothing but their name, as long as there are no conversion webhooks.

mod autoscaling;
mod events;

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use crate::{Resource, Status, cache::Entry};

/// How the objects of one version become those of another, but for `apiVersion`.
struct Hook {
    /// Group, version and kind of what is not stored.
    of: (&'static str, &'static str, &'static str),
    from_stored: fn(&mut Value),
    to_stored: fn(&mut Value),
}

const HOOKS: &[Hook] = &[
    Hook {
        of: ("events.k8s.io", "v1", "Event"),
        from_stored: events::from_core,
        to_stored: events::to_core,
    },
    Hook {
        of: ("autoscaling", "v1", "HorizontalPodAutoscaler"),
        from_stored: autoscaling::from_v2,
        to_stored: autoscaling::to_v2,
    },
];

fn hook(row: &Resource) -> Option<&'static Hook> {
    HOOKS
        .iter()
        .find(|hook| hook.of == (&*row.group, &*row.version, &*row.kind))
}

/// An object's JSON in the row's version, with its resource version.
pub fn json(row: &Resource, entry: &Entry) -> Result<Bytes, Status> {
    rewrite(row, entry.json())
}

/// The same for JSON that is at hand, such as that of a watch's event.
pub fn rewrite(row: &Resource, json: &Bytes) -> Result<Bytes, Status> {
    if row.storage {
        return Ok(json.clone());
    }
    let stored: Value = serde_json::from_slice(json).map_err(Status::internal)?;
    Ok(serde_json::to_vec(&from_stored(row, stored))
        .map_err(Status::internal)?
        .into())
}

/// A stored object in the row's version.
pub fn from_stored(row: &Resource, mut object: Value) -> Value {
    if !row.storage {
        if let Some(hook) = hook(row) {
            (hook.from_stored)(&mut object);
        }
        object["apiVersion"] = row.api_version().into();
    }
    object
}

/// An object of the row's version as it is stored.
pub fn to_stored<'a>(row: &Resource, object: &'a Value) -> Cow<'a, Value> {
    if row.storage {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    if let Some(hook) = hook(row) {
        (hook.to_stored)(&mut object);
    }
    object["apiVersion"] = (&*row.stored_api_version).into();
    Cow::Owned(object)
}

/// Moves a field to another name.
fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(fields) = object.as_object_mut()
        && let Some(value) = fields.shift_remove(from)
    {
        fields.insert(to.into(), value);
    }
}
