//! Versions of one resource that are stored as one of them: how their objects become each other.
//!
//! Custom resources' versions differ in nothing but their name, as long as there are no conversion webhooks.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use crate::{Resource, Status, cache::Entry};

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
        bosun_kinds::convert(&mut object, &row.api_version());
    }
    object
}

/// An object of the row's version as it is stored.
pub fn to_stored<'a>(row: &Resource, object: &'a Value) -> Cow<'a, Value> {
    if row.storage {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    bosun_kinds::convert(&mut object, &row.stored_api_version);
    Cow::Owned(object)
}
