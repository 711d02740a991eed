//! Objects for tests: made from JSON, as they come from the API.

use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Pod;

/// The time of all tables, unless they say otherwise.
pub(crate) const NOW: &str = "2026-01-01T12:00:00Z";

pub(crate) fn now() -> Timestamp {
    at(NOW)
}

pub(crate) fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

/// Lays `changes` over `value`, field by field; arrays are replaced.
pub(crate) fn merge(value: &mut Value, changes: &Value) {
    if let (Some(value), Some(changes)) = (value.as_object_mut(), changes.as_object()) {
        for (key, change) in changes {
            merge(value.entry(key.clone()).or_insert(Value::Null), change);
        }
    } else {
        *value = changes.clone();
    }
}

/// `base` with `changes` laid over it, as an object.
pub(crate) fn object<K: DeserializeOwned>(base: &Value, changes: &Value) -> Arc<K> {
    let mut json = base.clone();
    merge(&mut json, changes);
    Arc::new(serde_json::from_value(json).expect("an object of the kind"))
}

/// A pod with the label `app: web` that `owner` controls, on a node, running, ready for an hour.
pub(crate) fn pod(name: &str, owner: &str, changes: &Value) -> Arc<Pod> {
    let base = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-01-01T11:00:00Z", "labels": {"app": "web"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": owner, "uid": owner, "controller": true}],
        },
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T11:00:00Z"}]},
    });
    object(&base, changes)
}

/// What lays over a pod that isn't ready.
pub(crate) fn unready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T11:00:00Z"}]}})
}

/// What lays over an object that was told to end.
pub(crate) fn terminating() -> Value {
    json!({"metadata": {"deletionTimestamp": NOW, "deletionGracePeriodSeconds": 30}})
}

/// What lays over a pod in a phase.
pub(crate) fn phase(phase: &str) -> Value {
    json!({"status": {"phase": phase, "conditions": []}})
}
