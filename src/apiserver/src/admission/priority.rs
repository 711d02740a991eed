//! `priorityClassName` to the number that scheduling goes by.

use serde_json::{Value, json};

use crate::auth::objects::text;

/// Classes that there always are: name, value, description.
pub const SYSTEM_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// The system's classes as objects.
pub fn system_classes() -> Vec<Value> {
    SYSTEM_CLASSES
        .iter()
        .map(|(name, value, description)| {
            json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
                "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
            })
        })
        .collect()
}

/// Sets a new pod's priority. `classes` are the one it names, or all if it names none.
pub(super) fn resolve(pod: &mut Value, classes: &[Value]) -> Result<(), String> {
    let name = text(pod, "/spec/priorityClassName").to_owned();
    let class = if name.is_empty() {
        // Should there be several defaults, the least wins.
        let defaults = classes.iter().filter(|class| class["globalDefault"] == true);
        defaults.min_by_key(|class| class["value"].as_i64())
    } else {
        let found = classes.iter().find(|class| text(class, "/metadata/name") == name);
        Some(found.ok_or_else(|| format!("no PriorityClass with name {name} was found"))?)
    };
    let value = class.and_then(|class| class["value"].as_i64()).unwrap_or(0);
    let policy = class.map_or("", |class| text(class, "/preemptionPolicy"));
    let policy = if policy.is_empty() {
        "PreemptLowerPriority"
    } else {
        policy
    };
    let spec = &mut pod["spec"];
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != value) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        ));
    }
    if let Some(given) = spec["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        ));
    }
    if let Some(class) = class.filter(|_| name.is_empty()) {
        spec["priorityClassName"] = class["metadata"]["name"].clone();
    }
    spec["priority"] = value.into();
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}

/// An update that doesn't know of the priority keeps it.
pub(super) fn keep(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        if pod["spec"].get(field).is_none_or(Value::is_null)
            && let Some(value) = old["spec"].get(field)
        {
            pod["spec"][field] = value.clone();
        }
    }
}

/// There is one default at most.
pub(super) fn check_class(class: &Value, all: &[Value]) -> Result<(), String> {
    if class["globalDefault"] != true {
        return Ok(());
    }
    let name = text(class, "/metadata/name");
    let other = all
        .iter()
        .find(|other| other["globalDefault"] == true && text(other, "/metadata/name") != name);
    other.map_or(Ok(()), |other| {
        let other = text(other, "/metadata/name");
        Err(format!(
            "PriorityClass {other} is already marked as default. Only one default can exist"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, value: i64, default: bool) -> Value {
        json!({"metadata": {"name": name}, "value": value, "globalDefault": default})
    }

    fn resolved(spec: &Value, classes: &[Value]) -> Result<Value, String> {
        let mut pod = json!({ "spec": spec });
        resolve(&mut pod, classes)?;
        Ok(pod["spec"].take())
    }

    #[test]
    fn classes_become_numbers() {
        let plain = json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"});
        assert_eq!(resolved(&json!({}), &[class("a", 5, false)]), Ok(plain));
        let defaulted = resolved(&json!({}), &[class("a", 7, true), class("b", 5, true)]).unwrap();
        assert_eq!(
            (&defaulted["priority"], &defaulted["priorityClassName"]),
            (&json!(5), &json!("b"))
        );
        let mut never = class("n", 9, false);
        never["preemptionPolicy"] = "Never".into();
        let named = resolved(&json!({"priorityClassName": "n"}), &[never]).unwrap();
        assert_eq!(
            (&named["priority"], &named["preemptionPolicy"]),
            (&json!(9), &json!("Never"))
        );
        let same = resolved(
            &json!({"priorityClassName": "a", "priority": 5}),
            &[class("a", 5, false)],
        );
        assert!(same.is_ok());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let classes = [class("a", 5, false)];
        let table = [
            (
                json!({"priorityClassName": "b"}),
                "no PriorityClass with name b was found",
            ),
            (
                json!({"priority": 1}),
                "the integer value of priority (1) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name",
            ),
            (
                json!({"priorityClassName": "a", "preemptionPolicy": "Never"}),
                "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
            ),
        ];
        for (spec, why) in table {
            assert_eq!(resolved(&spec, &classes), Err(why.to_owned()));
        }
    }

    #[test]
    fn there_is_one_default() {
        let all = [class("a", 5, true)];
        assert_eq!(
            check_class(&class("b", 1, true), &all),
            Err("PriorityClass a is already marked as default. Only one default can exist".to_owned())
        );
        check_class(&class("a", 6, true), &all).unwrap();
        check_class(&class("b", 1, false), &all).unwrap();
    }

    #[test]
    fn an_update_keeps_the_priority() {
        let mut pod = json!({"spec": {}});
        keep(&mut pod, &json!({"spec": {"priority": 7, "preemptionPolicy": "Never"}}));
        assert_eq!(pod["spec"], json!({"priority": 7, "preemptionPolicy": "Never"}));
    }
}
