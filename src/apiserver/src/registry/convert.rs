//! Versions of one resource that are stored as one of them: how their objects become each other.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use crate::{Resource, Status, cache::Entry};

/// An object's JSON in the row's version, with its resource version.
pub fn json(row: &Resource, entry: &Entry) -> Result<Bytes, Status> {
    if row.storage {
        return Ok(entry.json().clone());
    }
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
pub(super) fn from_stored(row: &Resource, stored: Value) -> Value {
    if row.storage {
        return stored;
    }
    let api_version = row.api_version();
    renamed(stored, &api_version)
}

/// An object of the row's version as it is stored.
pub(super) fn to_stored<'a>(row: &Resource, object: &'a Value) -> Cow<'a, Value> {
    if row.storage {
        return Cow::Borrowed(object);
    }
    Cow::Owned(renamed(object.clone(), &row.stored_api_version))
}

fn renamed(mut object: Value, api_version: &str) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".into(), api_version.into());
    }
    object
}
