//! A pod's assignment to a node, once.

use bosun_api::{
    field::{Errors, Path},
    manifest::FieldError,
};
use serde_json::{Value, json};

/// Why a pod can't be bound.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BindError {
    /// The binding itself is wrong.
    #[error("the binding names no node")]
    Invalid(Vec<FieldError>),
    /// The pod is bound, held back or going; trying again helps only if that changes.
    #[error("{0}")]
    Conflict(String),
}

/// Assigns the pod to the node that `binding` (a `v1` `Binding`) names, with the labels and annotations it brings.
pub fn bind(pod: &mut Value, binding: &Value, now: jiff::Timestamp) -> Result<(), BindError> {
    let mut errors = Errors::default();
    let target = |field: &str| {
        binding
            .pointer(&format!("/target/{field}"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if !matches!(target("kind"), "" | "Node") {
        errors.unsupported(&Path::root("target.kind"), target("kind"), &["Node", "<empty>"]);
    }
    let node = target("name");
    if node.is_empty() {
        errors.required(&Path::root("target.name"), "");
    }
    match errors.into_vec() {
        none if none.is_empty() => {}
        errors => return Err(BindError::Invalid(errors)),
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if pod["metadata"]
        .get("deletionTimestamp")
        .is_some_and(|time| !time.is_null())
    {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(BindError::Conflict(why));
    }
    if let Some(other) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
        let why = format!("pod {name} is already assigned to node {other:?}");
        return Err(BindError::Conflict(why));
    }
    if pod["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty())
    {
        let why = format!("pod {name} has non-empty .spec.schedulingGates");
        return Err(BindError::Conflict(why));
    }
    pod["spec"]["nodeName"] = node.into();
    for field in ["annotations", "labels"] {
        let Some(given) = binding
            .pointer(&format!("/metadata/{field}"))
            .and_then(Value::as_object)
        else {
            continue;
        };
        for (key, value) in given {
            pod["metadata"][field][key] = value.clone();
        }
    }
    scheduled(pod, now);
    Ok(())
}

/// Notes in the status that the pod has a node.
fn scheduled(pod: &mut Value, now: jiff::Timestamp) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": seconds(now),
    });
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else {
        return;
    };
    match conditions
        .iter_mut()
        .find(|condition| condition["type"] == "PodScheduled")
    {
        Some(before) => *before = condition,
        None => conditions.push(condition),
    }
}

/// A time as the API writes it.
pub(crate) fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        "2024-05-01T12:00:00.5Z".parse().unwrap()
    }

    #[test]
    fn a_pod_is_bound_once() {
        let mut pod = json!({"metadata": {"name": "a", "annotations": {"x": "y"}}, "spec": {}, "status": {}});
        let binding = json!({"metadata": {"annotations": {"b": "c"}}, "target": {"kind": "Node", "name": "n"}});
        bind(&mut pod, &binding, now()).unwrap();
        assert_eq!(pod["spec"]["nodeName"], "n");
        assert_eq!(pod["metadata"]["annotations"], json!({"x": "y", "b": "c"}));
        assert_eq!(
            pod["status"]["conditions"],
            json!([{
                "type": "PodScheduled", "status": "True", "lastProbeTime": null,
                "lastTransitionTime": "2024-05-01T12:00:00Z",
            }])
        );
        assert_eq!(
            bind(&mut pod, &binding, now()).unwrap_err().to_string(),
            "pod a is already assigned to node \"n\""
        );
    }

    #[test]
    fn what_stands_against_a_binding_is_said() {
        let to = json!({"target": {"name": "n"}});
        for (pod, binding, expected) in [
            (
                json!({"metadata": {"name": "a", "deletionTimestamp": "2024-01-01T00:00:00Z"}, "spec": {}}),
                to.clone(),
                "pod a is being deleted, cannot be assigned to a host",
            ),
            (
                json!({"metadata": {"name": "a"}, "spec": {"schedulingGates": [{"name": "g"}]}}),
                to,
                "pod a has non-empty .spec.schedulingGates",
            ),
            (
                json!({}),
                json!({"target": {"kind": "Host"}}),
                "the binding names no node",
            ),
        ] {
            let mut pod = pod;
            assert_eq!(bind(&mut pod, &binding, now()).unwrap_err().to_string(), expected);
        }
    }
}
