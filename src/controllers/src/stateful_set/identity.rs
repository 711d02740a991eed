//! What a pod is by its number: its name, its labels, its volumes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::StatefulSet;
use crate::workload::{
    Pod,
    revision::REVISION_HASH,
    template::{self, array_at, label},
};

/// Label of pods: their name, so that a Service can select one of them.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// Label of pods: their number.
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The name of the pod of this number.
pub fn pod_name(set: &str, ordinal: i32) -> String {
    format!("{set}-{ordinal}")
}

/// The number of the pod of this name; `None` if it is none of the set's.
pub fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let number = pod.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal: i32 = number.parse().ok()?;
    // `web-01` and `web-+1` are no names of ours.
    (ordinal.to_string() == number && ordinal >= 0).then_some(ordinal)
}

/// The name of the claim behind a volume of the pod of this number.
pub fn claim_name(set: &str, volume: &str, ordinal: i32) -> String {
    format!("{volume}-{set}-{ordinal}")
}

/// The pod of this number, of `template`, which `revision` names.
pub fn pod(set: &StatefulSet, template: &Value, revision: &str, ordinal: i32, owner: &OwnerReference) -> Value {
    let name = pod_name(set.name(), ordinal);
    let mut pod = template::pod(template, owner);
    pod["metadata"]["name"] = name.clone().into();
    label(&mut pod, POD_NAME, name.clone());
    label(&mut pod, POD_INDEX, ordinal.to_string());
    label(&mut pod, REVISION_HASH, revision);
    pod["spec"]["hostname"] = name.into();
    if !set.spec.service_name.is_empty() {
        pod["spec"]["subdomain"] = set.spec.service_name.clone().into();
    }
    let names = || {
        set.spec
            .volume_claim_templates
            .iter()
            .map(|claim| claim.metadata.name.as_str())
    };
    if names().next().is_some() {
        let volumes = array_at(&mut pod, &["spec"], "volumes");
        volumes.retain(|volume| names().all(|name| volume["name"] != name));
        volumes.extend(names().map(|name| {
            let claim = claim_name(set.name(), name, ordinal);
            json!({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        }));
    }
    pod
}

/// The claims of the pod of this number, by their names.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, Value)> {
    let Value::Array(templates) = set.spec.part("volumeClaimTemplates") else {
        return vec![];
    };
    let selected = set.spec.selector.match_labels.clone().unwrap_or_default();
    let made = templates.into_iter().map(|mut claim| {
        let volume = claim["metadata"]["name"].as_str().unwrap_or_default();
        let name = claim_name(set.name(), volume, ordinal);
        claim["apiVersion"] = "v1".into();
        claim["kind"] = "PersistentVolumeClaim".into();
        claim["metadata"]["name"] = name.clone().into();
        claim["metadata"]["namespace"] = json!(set.metadata.namespace);
        for (key, value) in &selected {
            label(&mut claim, key, value);
        }
        if let Some(fields) = claim.as_object_mut() {
            fields.shift_remove("status");
        }
        (name, claim)
    });
    made.collect()
}

/// The merge patch that gives a pod back the labels that somebody took from it.
pub fn restore(pod: &Pod, ordinal: i32) -> Option<Value> {
    if pod.label(POD_NAME) == Some(pod.name()) {
        return None;
    }
    let mut patch = json!({"metadata": {"uid": pod.uid()}});
    label(&mut patch, POD_NAME, pod.name());
    label(&mut patch, POD_INDEX, ordinal.to_string());
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_names_of_pods() {
        for (name, expected) in [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-01", None),
            ("web--1", None),
            ("web-+1", None),
            ("web-", None),
            ("web", None),
            ("webs-1", None),
            ("web-1-2", None),
            ("web-99999999999", None),
        ] {
            assert_eq!(ordinal("web", name), expected, "{name}");
        }
    }
}
