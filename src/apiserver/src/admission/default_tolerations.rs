//! Pods stay for five minutes on a node that is not ready or not reached, unless they say otherwise.

use serde_json::{Value, json};

use super::service_account::push;
use crate::{auth::objects::text, pod::items};

const SECONDS: u64 = 300;

/// Adds the tolerations that a pod lacks.
pub(super) fn add(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let has = items(&pod["spec"]["tolerations"]).iter().any(|toleration| {
            let (of, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
            (of == key || of.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !has {
            let toleration =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
            push(&mut pod["spec"]["tolerations"], toleration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_are_added_unless_the_pod_has_its_own() {
        let table = [
            (json!(null), 2),
            (json!([{"operator": "Exists"}]), 1),
            (
                json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "tolerationSeconds": 1}]),
                2,
            ),
            (
                json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]),
                3,
            ),
            (json!([{"key": "x"}]), 3),
        ];
        for (tolerations, count) in table {
            let mut pod = json!({"spec": {"tolerations": tolerations}});
            add(&mut pod);
            assert_eq!(items(&pod["spec"]["tolerations"]).len(), count, "{tolerations}");
            let once = pod.clone();
            add(&mut pod);
            assert_eq!(pod, once);
        }
    }
}
