//! `metadata`, which is the engine's for every kind: what the server sets, and what is valid. Pure.

use bosun_api::field::{FieldError, Problem};
use bosun_kinds::meta;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Request, Resource, Scope, Status};

/// The finalizers by which dependents are orphaned, or deleted first.
pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// The text at a field of `metadata`; empty if there is none.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// `metadata`, to change.
pub(super) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut().expect("it is one now")
}

/// Whether the object's deletion has begun.
pub fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The finalizers that hold the object.
pub fn finalizers(object: &Value) -> Vec<&str> {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(super) fn set_finalizers(object: &mut Value, finalizers: &[&str]) {
    let metadata = metadata(object);
    if finalizers.is_empty() {
        metadata.shift_remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), json!(finalizers));
    }
}

/// RFC 3339 with seconds, as all times of `metadata` are.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The object's namespace must be the request's, where it says one.
pub(super) fn settle_namespace(row: &Resource, request: &Request, object: &mut Value) -> Result<(), Status> {
    let given = text(object, "namespace");
    match row.scope {
        Scope::Cluster => {
            metadata(object).shift_remove("namespace");
        }
        Scope::Namespaced if given.is_empty() => {
            metadata(object).insert("namespace".into(), request.namespace.as_str().into());
        }
        Scope::Namespaced if given != request.namespace => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Scope::Namespaced => {}
    }
    Ok(())
}

/// What the server sets in a new object, beside its name.
pub(super) fn prepare_create(row: &Resource, object: &mut Value, now: Timestamp) {
    let generation = row.strategy.has_generation();
    let metadata = metadata(object);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "generation",
    ] {
        metadata.shift_remove(field);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), time(now).into());
    if generation {
        metadata.insert("generation".into(), 1.into());
    }
}

/// What an update can't change is as it was.
pub(super) fn prepare_update(object: &mut Value, old: &Value) {
    let old = &old["metadata"];
    let metadata = metadata(object);
    metadata.shift_remove("selfLink");
    metadata.shift_remove("resourceVersion");
    for field in ["generation", "creationTimestamp"] {
        keep(metadata, old, field);
    }
    if metadata.get("uid").and_then(Value::as_str).is_none_or(str::is_empty) {
        keep(metadata, old, "uid");
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        if !old[field].is_null() {
            keep(metadata, old, field);
        }
    }
}

fn keep(metadata: &mut Map<String, Value>, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => {
            metadata.insert(field.into(), value.clone());
        }
        None => {
            metadata.shift_remove(field);
        }
    }
}

/// Raises the generation if more than metadata and status has changed.
pub(super) fn raise_generation(row: &Resource, object: &mut Value, old: &Value) {
    if !row.strategy.has_generation() || !spec_differs(object, old) {
        return;
    }
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    metadata(object).insert("generation".into(), generation.into());
}

fn spec_differs(object: &Value, old: &Value) -> bool {
    let (Some(object), Some(old)) = (object.as_object(), old.as_object()) else {
        return false;
    };
    let counts = |field: &&String| !matches!(field.as_str(), "metadata" | "status" | "apiVersion" | "kind");
    let differs = |field: &String| object.get(field) != old.get(field);
    object.keys().filter(counts).any(differs) || old.keys().filter(counts).any(differs)
}

/// What is wrong with a new object's metadata.
pub(super) fn validate(row: &Resource, object: &Value) -> Vec<FieldError> {
    match typed(object) {
        Ok(metadata) => meta::validate(&metadata, &row.group, &row.kind, row.scope == Scope::Namespaced),
        Err(errors) => errors,
    }
}

/// What is wrong with a change of metadata.
pub(super) fn validate_update(object: &Value, old: &Value) -> Vec<FieldError> {
    match (typed(object), typed(old)) {
        (Ok(metadata), Ok(old)) => meta::validate_update(&metadata, &old),
        (Err(errors), _) | (_, Err(errors)) => errors,
    }
}

fn typed(object: &Value) -> Result<ObjectMeta, Vec<FieldError>> {
    ObjectMeta::deserialize(&object["metadata"]).map_err(|error| {
        vec![FieldError {
            field: "metadata".into(),
            problem: Problem::WrongType(error.to_string()),
        }]
    })
}

/// Of a generated name, what comes before the suffix is cut to this, so that it is still a label.
const MAX_BASE: usize = 63 - SUFFIX;
const SUFFIX: usize = 5;
/// Without vowels and what looks like another, as upstream.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name that begins with `base`.
pub(super) fn generate_name(base: &str) -> String {
    let end = (0..=base.len().min(MAX_BASE))
        .rev()
        .find(|&end| base.is_char_boundary(end));
    let mut name = base[..end.unwrap_or(0)].to_owned();
    name.extend((0..SUFFIX).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_name_is_five_signs_longer_and_still_a_label() {
        for (base, length) in [("web-", 9), (&"a".repeat(100), 63), ("é".repeat(60).as_str(), 63)] {
            let name = generate_name(base);
            assert_eq!(name.len(), length);
            assert!(base.starts_with(&name[..name.len() - SUFFIX]));
            assert!(name[name.len() - SUFFIX..].bytes().all(|byte| ALPHABET.contains(&byte)));
        }
        assert_ne!(generate_name("a"), generate_name("a"));
    }
}
