//! `metadata`, which is the engine's for every kind: what the server sets, and what is valid. Pure.

use bosun_api::{
    field::{FieldError, Problem},
    names as words,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::names;
use crate::{Request, Resource, Scope, Status};

/// Bytes that all annotations together may have.
const MAX_ANNOTATIONS: usize = 256 << 10;

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

struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, problem: Problem) {
        self.0.push(FieldError {
            field: field.into(),
            problem,
        });
    }

    fn invalid(&mut self, field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(field, Problem::Invalid(value.into(), detail.into()));
    }

    fn required(&mut self, field: impl Into<String>, detail: &str) {
        self.add(field, Problem::Required(detail.into()));
    }

    fn forbidden(&mut self, field: &str, detail: impl Into<String>) {
        self.add(field, Problem::Forbidden(detail.into()));
    }
}

/// What is wrong with an object's metadata, new or changed.
pub(super) fn validate(row: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    let metadata = &object["metadata"];
    let base = text(object, "generateName");
    if !base.is_empty()
        && let Err(detail) = names::check_base(&row.group, &row.kind, base)
    {
        errors.invalid("metadata.generateName", base, detail);
    }
    match text(object, "name") {
        "" => errors.required("metadata.name", "name or generateName is required"),
        name => {
            if let Err(detail) = names::check(&row.group, &row.kind, name) {
                errors.invalid("metadata.name", name, detail);
            }
        }
    }
    let namespace = text(object, "namespace");
    match row.scope {
        Scope::Namespaced if namespace.is_empty() => errors.required("metadata.namespace", ""),
        Scope::Namespaced => {
            if let Err(detail) = words::dns_label(namespace) {
                errors.invalid("metadata.namespace", namespace, detail);
            }
        }
        Scope::Cluster if namespace.is_empty() => {}
        Scope::Cluster => errors.forbidden("metadata.namespace", "not allowed on this type"),
    }
    for (field, value) in metadata["labels"].as_object().into_iter().flatten() {
        if let Err(detail) = words::qualified(field) {
            errors.invalid("metadata.labels", field.as_str(), detail);
        }
        let value = value.as_str().unwrap_or_default();
        if let Err(detail) = words::label_value(value) {
            errors.invalid("metadata.labels", value, detail);
        }
    }
    let mut size = 0;
    for (field, value) in metadata["annotations"].as_object().into_iter().flatten() {
        if let Err(detail) = words::qualified(&field.to_lowercase()) {
            errors.invalid("metadata.annotations", field.as_str(), detail);
        }
        size += field.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.add("metadata.annotations", Problem::TooLong(MAX_ANNOTATIONS));
    }
    validate_owners(&mut errors, &metadata["ownerReferences"]);
    let finalizers = finalizers(object);
    for (at, finalizer) in finalizers.iter().enumerate() {
        if let Err(detail) = words::qualified(finalizer) {
            errors.invalid(format!("metadata.finalizers[{at}]"), *finalizer, detail);
        }
    }
    if finalizers.contains(&ORPHAN) && finalizers.contains(&FOREGROUND) {
        let both = format!("{finalizers:?}");
        errors.invalid(
            "metadata.finalizers",
            both,
            format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set"),
        );
    }
    errors.0
}

fn validate_owners(errors: &mut Errors, owners: &Value) {
    let mut controller: Option<&str> = None;
    for (at, owner) in owners.as_array().into_iter().flatten().enumerate() {
        let field = |name: &str| format!("metadata.ownerReferences[{at}].{name}");
        let given = |name: &str| owner[name].as_str().unwrap_or_default();
        let version = given("apiVersion");
        if version.is_empty() || version.ends_with('/') {
            errors.invalid(field("apiVersion"), version, "version must not be empty");
        }
        for name in ["kind", "name", "uid"] {
            if given(name).is_empty() {
                errors.invalid(field(name), "", "must not be empty");
            }
        }
        if given("kind") == "Event" && matches!(version, "v1" | "events.k8s.io/v1") {
            errors.invalid(
                format!("metadata.ownerReferences[{at}]"),
                format!("{version}, Kind=Event"),
                "is disallowed from being an owner",
            );
        }
        if owner["controller"] == true {
            match controller {
                Some(first) => errors.invalid(
                    "metadata.ownerReferences",
                    format!("{} owners", owners.as_array().map_or(0, Vec::len)),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                        given("name")
                    ),
                ),
                None => controller = Some(given("name")),
            }
        }
    }
}

/// What is wrong with a change of metadata.
pub(super) fn validate_update(object: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    if is_deleting(old) {
        let had = finalizers(old);
        let added: Vec<_> = finalizers(object)
            .into_iter()
            .filter(|one| !had.contains(one))
            .collect();
        if !added.is_empty() {
            let added = added
                .iter()
                .map(|one| format!("{one:?}"))
                .collect::<Vec<_>>()
                .join(", ");
            errors.forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{added}}}"
                ),
            );
        }
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (new, old) = (&object["metadata"][field], &old["metadata"][field]);
        if new != old {
            errors.invalid(format!("metadata.{field}"), new.clone(), "field is immutable");
        }
    }
    errors.0
}
