//! The scheduling group, and the classes of runtimes: what kinds of pods there are.

use bosun_api::{
    field::{Errors, OrEmpty, Path, Problem},
    names,
    pod::validate::{resources, scheduling::tolerations},
    selector::validate_labels,
};
use k8s_openapi::api::{node::v1::RuntimeClass, scheduling::v1::PriorityClass};

use crate::kind::Kind;

/// The priority of a user's class is at most this; what is above is the system's.
const MOST: i32 = 1_000_000_000;

pub(crate) struct Priorities;

impl Kind for Priorities {
    type Object = PriorityClass;

    const STATUS: bool = false;

    fn default(class: &mut PriorityClass) {
        class.value.get_or_insert(0);
        class
            .preemption_policy
            .get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }

    fn validate(class: &PriorityClass, errors: &mut Errors) {
        let name = class.metadata.name.or_empty();
        if name.starts_with("system-") {
            if let Err(detail) = of_system(class, name) {
                errors.forbidden(
                    &Path::root("metadata.name"),
                    format!(
                        "priority class names with 'system-' prefix are reserved for system use only. error: {detail}"
                    ),
                );
            }
        } else if class.value.unwrap_or_default() > MOST {
            errors.forbidden(
                &Path::root("value"),
                format!("maximum allowed value of a user defined priority is {MOST}"),
            );
        }
        if let Some(policy) = &class.preemption_policy {
            errors.required_one_of(
                &Path::root("preemptionPolicy"),
                policy,
                &["PreemptLowerPriority", "Never"],
            );
        }
    }

    fn validate_update(class: &PriorityClass, old: &PriorityClass, errors: &mut Errors) {
        if class.value.unwrap_or_default() != old.value.unwrap_or_default() {
            errors.forbidden(&Path::root("value"), "may not be changed in an update.");
        }
        errors.immutable(
            &Path::root("preemptionPolicy"),
            &class.preemption_policy,
            &old.preemption_policy,
        );
    }
}

fn of_system(class: &PriorityClass, name: &str) -> Result<(), String> {
    let value = match name {
        "system-node-critical" => 2_000_001_000,
        "system-cluster-critical" => 2_000_000_000,
        _ => return Err(format!("{name} is not a known system priority class")),
    };
    if class.value != Some(value) {
        return Err(format!("value of {name} PriorityClass must be {value}"));
    }
    if class.global_default == Some(true) {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

pub(crate) struct Runtimes;

impl Kind for Runtimes {
    type Object = RuntimeClass;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(class: &RuntimeClass, errors: &mut Errors) {
        errors.check(&Path::root("handler"), &class.handler, names::dns_label);
        if let Some(overhead) = &class.overhead {
            resources::overhead(overhead.pod_fixed.or_empty(), &Path::root("overhead.podFixed"), errors);
        }
        let Some(scheduling) = &class.scheduling else { return };
        let path = Path::root("scheduling");
        validate_labels(scheduling.node_selector.or_empty(), &path.child("nodeSelector"), errors);
        let tolerated = scheduling.tolerations.or_empty();
        let path = path.child("tolerations");
        tolerations(tolerated, &path, errors);
        for (index, toleration) in tolerated.iter().enumerate() {
            if tolerated[..index].contains(toleration) {
                let shown = serde_json::to_value(toleration).unwrap_or_default();
                errors.push(&path.index(index), Problem::Duplicate(shown, String::new()));
            }
        }
    }

    fn validate_update(class: &RuntimeClass, old: &RuntimeClass, errors: &mut Errors) {
        errors.immutable(&Path::root("handler"), &class.handler, &old.handler);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{changes, create, mistakes};

    #[test]
    fn priorities_of_the_system_are_the_systems() {
        let group = "scheduling.k8s.io";
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000,
        });
        let stored = create(group, "PriorityClass", class.clone()).unwrap();
        assert_eq!(stored["preemptionPolicy"], "PreemptLowerPriority");
        mistakes(
            group,
            "PriorityClass",
            &class,
            &[
                (
                    "/value",
                    json!(2_000_000_000),
                    &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
                ),
                (
                    "/metadata/name",
                    json!("system-mine"),
                    &[
                        "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system \
                         use only. error: system-mine is not a known system priority class",
                    ],
                ),
                (
                    "/preemptionPolicy",
                    json!("x"),
                    &[
                        "preemptionPolicy: Unsupported value: \"x\": supported values: \"PreemptLowerPriority\", \
                         \"Never\"",
                    ],
                ),
            ],
        );
        changes(
            group,
            "PriorityClass",
            &class,
            &[
                ("/description", json!("d"), &[]),
                (
                    "/value",
                    json!(1),
                    &["value: Forbidden: may not be changed in an update."],
                ),
            ],
        );
    }

    #[test]
    fn a_class_of_runtimes_keeps_its_handler() {
        let class = json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "r"}, "handler": "crun",
        });
        mistakes(
            "node.k8s.io",
            "RuntimeClass",
            &class,
            &[(
                "/scheduling",
                json!({"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]}),
                &["scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}"],
            )],
        );
        changes(
            "node.k8s.io",
            "RuntimeClass",
            &class,
            &[(
                "/handler",
                json!("runc"),
                &["handler: Invalid value: \"runc\": field is immutable"],
            )],
        );
    }
}
