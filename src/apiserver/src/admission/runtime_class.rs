//! What a pod's runtime class adds to it: overhead, and where it can run.

use serde_json::{Value, json};

use super::service_account::push;
use crate::pod::items;

/// Adds it to a new pod that names the class `name`.
pub(super) fn apply(pod: &mut Value, name: &str, class: Option<&Value>) -> Result<(), String> {
    let class = class.ok_or_else(|| format!("pod rejected: RuntimeClass {name:?} not found"))?;
    let spec = &mut pod["spec"];
    let overhead = &class["overhead"]["podFixed"];
    let given = spec.get("overhead").is_some_and(|given| !given.is_null());
    if given && spec["overhead"] != *overhead {
        return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
    }
    if !overhead.is_null() {
        spec["overhead"] = overhead.clone();
    }
    for (key, value) in class["scheduling"]["nodeSelector"].as_object().into_iter().flatten() {
        let own = &spec["nodeSelector"][key];
        if !own.is_null() && own != value {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.as_str().unwrap_or_default(),
                own.as_str().unwrap_or_default()
            ));
        }
        if !spec["nodeSelector"].is_object() {
            spec["nodeSelector"] = json!({});
        }
        spec["nodeSelector"][key] = value.clone();
    }
    for toleration in items(&class["scheduling"]["tolerations"]) {
        if !items(&spec["tolerations"]).contains(toleration) {
            push(&mut spec["tolerations"], toleration.clone());
        }
    }
    Ok(())
}

/// Overhead comes from a class only.
pub(super) fn validate(pod: &Value) -> Result<(), String> {
    let has = |field: &str| pod["spec"].get(field).is_some_and(|value| !value.is_null());
    if has("overhead") && !has("runtimeClassName") {
        return Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_adds_overhead_and_places() {
        let class = json!({
            "overhead": {"podFixed": {"memory": "64Mi"}},
            "scheduling": {"nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm"}]},
        });
        let applied = |spec: Value| {
            let mut pod = json!({ "spec": spec });
            apply(&mut pod, "vm", Some(&class)).map(|()| pod["spec"].take())
        };
        let expected =
            json!({"overhead": {"memory": "64Mi"}, "nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm"}]});
        assert_eq!(applied(json!({})), Ok(expected.clone()));
        assert_eq!(applied(expected.clone()), Ok(expected));
        assert_eq!(
            applied(json!({"nodeSelector": {"kvm": "no"}})),
            Err(
                "conflict: runtimeClass.scheduling.nodeSelector[kvm] = yes; pod.spec.nodeSelector[kvm] = no".to_owned()
            )
        );
        assert_eq!(
            applied(json!({"overhead": {"memory": "1Mi"}})),
            Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned())
        );
        assert_eq!(
            apply(&mut json!({"spec": {}}), "vm", None),
            Err("pod rejected: RuntimeClass \"vm\" not found".to_owned())
        );
    }

    #[test]
    fn overhead_without_a_class_is_refused() {
        validate(&json!({"spec": {"overhead": {}, "runtimeClassName": "x"}})).unwrap();
        validate(&json!({"spec": {}})).unwrap();
        assert!(validate(&json!({"spec": {"overhead": {}}})).is_err());
    }
}
