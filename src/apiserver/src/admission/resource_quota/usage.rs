//! What an object uses of what quotas limit, and which quotas are for it.

use std::collections::{BTreeMap, BTreeSet};

use bosun_api::Quantity;
use serde_json::Value;

use super::{
    super::limit_ranger::{amounts, pod_total},
    Amounts,
};
use crate::{
    auth::objects::text,
    pod::{containers, items},
};

/// What an object uses, by the names of quotas.
pub(super) fn usage(group: &str, plural: &str, object: &Value) -> Amounts {
    let mut used = Amounts::new();
    let mut add = |name: String, amount: Quantity| {
        let entry = used.entry(name).or_insert(Quantity::ZERO);
        *entry = *entry + amount;
    };
    let qualified = if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    };
    add(format!("count/{qualified}"), one());
    match (group, plural) {
        ("", "pods") if is_over(object) => {}
        ("", "pods") => {
            add("pods".into(), one());
            for (resource, amount) in pod_total(&object["spec"], "requests") {
                if matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage")
                    || resource.starts_with("hugepages-")
                {
                    add(resource.clone(), amount);
                }
                add(format!("requests.{resource}"), amount);
            }
            for (resource, amount) in pod_total(&object["spec"], "limits") {
                if matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                    add(format!("limits.{resource}"), amount);
                }
            }
        }
        ("", "services") => {
            add("services".into(), one());
            let (kind, ports) = (text(object, "/spec/type"), items(&object["spec"]["ports"]).len());
            let balanced = kind == "LoadBalancer";
            if balanced {
                add("services.loadbalancers".into(), one());
            }
            if kind == "NodePort" || (balanced && object["spec"]["allocateLoadBalancerNodePorts"] != false) {
                add("services.nodeports".into(), Quantity::from_milli(ports as i64 * 1000));
            }
        }
        ("", "persistentvolumeclaims") => {
            let class = super::super::storage::class_of(object);
            let of_class = |what: &str| format!("{class}.storageclass.storage.k8s.io/{what}");
            let size = amounts(&object["spec"]["resources"]["requests"])
                .get("storage")
                .copied();
            let size = size.unwrap_or(Quantity::ZERO);
            add("persistentvolumeclaims".into(), one());
            add("requests.storage".into(), size);
            if !class.is_empty() {
                add(of_class("persistentvolumeclaims"), one());
                add(of_class("requests.storage"), size);
            }
        }
        ("", "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas") => add(plural.to_owned(), one()),
        _ => {}
    }
    used
}

fn one() -> Quantity {
    Quantity::from_milli(1000)
}

/// Whether a pod has run to its end.
fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Kinds whose objects use any of these.
pub(super) fn kinds(hard: &Amounts) -> BTreeSet<(String, String)> {
    hard.keys()
        .map(|name| {
            if let Some(counted) = name.strip_prefix("count/") {
                let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
                return (group.to_owned(), plural.to_owned());
            }
            let plural = match name.as_str() {
                "services" | "services.nodeports" | "services.loadbalancers" => "services",
                "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => name,
                "persistentvolumeclaims" | "requests.storage" => "persistentvolumeclaims",
                other if other.contains(".storageclass.storage.k8s.io/") => "persistentvolumeclaims",
                _ => "pods",
            };
            (String::new(), plural.to_owned())
        })
        .collect()
}

/// Which containers of a new pod don't say how much of what is limited they take; `None` if all do.
pub(super) fn unspecified(pod: &Value, hard: &Amounts) -> Option<String> {
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in [
        "cpu",
        "limits.cpu",
        "limits.memory",
        "memory",
        "requests.cpu",
        "requests.memory",
    ] {
        if !hard.contains_key(name) {
            continue;
        }
        let (of, resource) = match name.split_once('.') {
            Some(("limits", resource)) => ("limits", resource),
            Some((_, resource)) => ("requests", resource),
            None => ("requests", name),
        };
        for kind in ["containers", "initContainers"] {
            for container in items(&pod["spec"][kind]) {
                if container["resources"][of].get(resource).is_none() {
                    missing.entry(name).or_default().insert(text(container, "/name"));
                }
            }
        }
    }
    let parts = missing.into_iter().map(|(name, containers)| {
        let containers: Vec<_> = containers.into_iter().collect();
        format!("{name} for: {}", containers.join(","))
    });
    let parts: Vec<_> = parts.collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Whether a quota is for this object: all its scopes hold.
pub(super) fn matches(spec: &Value, plural: &str, object: &Value) -> bool {
    let plain = items(&spec["scopes"])
        .iter()
        .all(|scope| holds(scope.as_str().unwrap_or_default(), plural, object));
    let selected = items(&spec["scopeSelector"]["matchExpressions"])
        .iter()
        .all(|expression| {
            let scope = text(expression, "/scopeName");
            if scope != "PriorityClass" {
                return holds(scope, plural, object);
            }
            if plural != "pods" {
                return false;
            }
            let class = text(object, "/spec/priorityClassName");
            let listed = items(&expression["values"]).iter().any(|value| value == class);
            match text(expression, "/operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => !class.is_empty(),
                "DoesNotExist" => class.is_empty(),
                _ => false,
            }
        });
    plain && selected
}

fn holds(scope: &str, plural: &str, object: &Value) -> bool {
    if plural != "pods" {
        return false;
    }
    let spec = &object["spec"];
    let terminating = spec["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "PriorityClass" => !text(spec, "/priorityClassName").is_empty(),
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}

fn is_best_effort(spec: &Value) -> bool {
    let asks = |container: &Value| {
        let all = ["requests", "limits"]
            .into_iter()
            .flat_map(|of| amounts(&container["resources"][of]));
        all.into_iter()
            .any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && amount.is_positive())
    };
    !containers(spec).any(asks)
}

fn crosses_namespaces(spec: &Value) -> bool {
    let crosses = |term: &Value| {
        !items(&term["namespaces"]).is_empty() || term.get("namespaceSelector").is_some_and(|one| !one.is_null())
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let affinity = &spec["affinity"][kind];
        let weighted = items(&affinity["preferredDuringSchedulingIgnoredDuringExecution"]);
        items(&affinity["requiredDuringSchedulingIgnoredDuringExecution"])
            .iter()
            .any(crosses)
            || weighted.iter().any(|term| crosses(&term["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(used: &Amounts) -> String {
        let parts: Vec<_> = used.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        parts.join(",")
    }

    #[test]
    fn objects_use_what_they_are_and_ask_for() {
        let pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1", "example.com/gpu": "2"}, "limits": {"memory": "1Gi"}}}]}});
        let mut over = pod.clone();
        over["status"] = json!({"phase": "Succeeded"});
        let ports = json!([{"port": 1}, {"port": 2}]);
        let table = [
            (
                "",
                "pods",
                pod,
                "count/pods=1,cpu=1,limits.memory=1Gi,pods=1,requests.cpu=1,requests.example.com/gpu=2",
            ),
            ("", "pods", over, "count/pods=1"),
            (
                "",
                "services",
                json!({"spec": {"type": "ClusterIP", "ports": ports}}),
                "count/services=1,services=1",
            ),
            (
                "",
                "services",
                json!({"spec": {"type": "NodePort", "ports": ports}}),
                "count/services=1,services=1,services.nodeports=2",
            ),
            (
                "",
                "services",
                json!({"spec": {"type": "LoadBalancer", "ports": ports}}),
                "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2",
            ),
            (
                "",
                "persistentvolumeclaims",
                json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}}),
                "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi",
            ),
            ("", "secrets", json!({}), "count/secrets=1,secrets=1"),
            ("apps", "deployments", json!({}), "count/deployments.apps=1"),
        ];
        for (group, plural, object, expected) in table {
            assert_eq!(shown(&usage(group, plural, &object)), expected);
        }
    }

    #[test]
    fn what_is_limited_must_be_said() {
        let hard: Amounts = ["cpu", "limits.memory", "pods"]
            .map(|name| (name.to_owned(), one()))
            .into();
        let pod =
            json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"limits": {"memory": "1Gi"}}}]}});
        assert_eq!(unspecified(&pod, &hard).unwrap(), "cpu for: a,b; limits.memory for: b");
        assert_eq!(unspecified(&pod, &Amounts::new()), None);
    }

    #[test]
    fn scopes_choose_pods() {
        let plain = json!({"spec": {"containers": [{}]}});
        let busy = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high", "containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        let scoped = |scope: &str| json!({ "scopes": [scope] });
        for (scope, of_plain, of_busy) in [
            ("Terminating", false, true),
            ("NotTerminating", true, false),
            ("BestEffort", true, false),
            ("NotBestEffort", false, true),
            ("PriorityClass", false, true),
            ("CrossNamespacePodAffinity", false, false),
        ] {
            assert_eq!(matches(&scoped(scope), "pods", &plain), of_plain, "{scope}");
            assert_eq!(matches(&scoped(scope), "pods", &busy), of_busy, "{scope}");
            assert!(!matches(&scoped(scope), "services", &plain), "{scope}");
        }
        let select = |operator: &str| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]}});
        for (operator, of_plain, of_busy) in [
            ("In", false, true),
            ("NotIn", true, false),
            ("Exists", false, true),
            ("DoesNotExist", true, false),
        ] {
            assert_eq!(matches(&select(operator), "pods", &plain), of_plain, "{operator}");
            assert_eq!(matches(&select(operator), "pods", &busy), of_busy, "{operator}");
        }
        assert!(matches(&json!({}), "services", &plain));
    }

    #[test]
    fn limits_tell_what_to_count() {
        let hard: Amounts = [
            "cpu",
            "count/deployments.apps",
            "requests.storage",
            "services.nodeports",
        ]
        .map(|name| (name.to_owned(), one()))
        .into();
        let kinds: Vec<_> = kinds(&hard).into_iter().collect();
        let expected = [
            ("", "persistentvolumeclaims"),
            ("", "pods"),
            ("", "services"),
            ("apps", "deployments"),
        ];
        assert_eq!(
            kinds,
            expected.map(|(group, plural)| (group.to_owned(), plural.to_owned()))
        );
    }
}
