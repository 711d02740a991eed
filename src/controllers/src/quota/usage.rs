//! What pods and services use of a quota, and for which pods it is. Pure.

use std::collections::BTreeMap;

use bosun_api::Quantity;
use k8s_openapi::{
    api::core::v1::{ResourceQuotaSpec, ScopedResourceSelectorRequirement},
    apimachinery::pkg::api::resource::Quantity as Written,
};

use crate::objects::{Pod, Service, pod::Amounts};

/// Amounts by the names that quotas have for them.
pub(super) type Used = BTreeMap<String, Quantity>;

pub(super) fn number(count: usize) -> Quantity {
    Quantity::from_milli(i64::try_from(count).unwrap_or(i64::MAX / 1000).saturating_mul(1000))
}

fn add(used: &mut Used, name: impl Into<String>, amount: Quantity) {
    let entry = used.entry(name.into()).or_insert(Quantity::ZERO);
    *entry = *entry + amount;
}

/// An amount that can't be read counts for nothing: the API takes none such.
fn parsed(amounts: &Amounts) -> Used {
    let read = |amount: &Written| Quantity::of(amount).unwrap_or(Quantity::ZERO);
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), read(amount)))
        .collect()
}

/// What a pod uses: as much as it needs at any time, of which init containers run before the others.
pub(super) fn of_pod(pod: &Pod) -> Used {
    let mut used = Used::new();
    add(&mut used, "count/pods", number(1));
    if pod.is_finished() {
        return used;
    }
    add(&mut used, "pods", number(1));
    let own = pod.spec.resources.as_ref();
    for (name, amount) in total(pod, true, own.map(|own| &own.requests)) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            add(&mut used, name.clone(), amount);
        }
        add(&mut used, format!("requests.{name}"), amount);
    }
    for (name, amount) in total(pod, false, own.map(|own| &own.limits)) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            add(&mut used, format!("limits.{name}"), amount);
        }
    }
    used
}

fn total(pod: &Pod, requests: bool, own: Option<&Amounts>) -> Used {
    let of = |resources: &crate::objects::pod::Resources| {
        parsed(if requests {
            &resources.requests
        } else {
            &resources.limits
        })
    };
    let sum = |into: &mut Used, more: &Used| {
        for (name, amount) in more {
            add(into, name.clone(), *amount);
        }
    };
    let mut total = Used::new();
    for container in &pod.spec.containers {
        sum(&mut total, &of(&container.resources));
    }
    let (mut sidecars, mut most) = (Used::new(), Used::new());
    for container in &pod.spec.init_containers {
        let asked = of(&container.resources);
        let mut now = sidecars.clone();
        sum(&mut now, &asked);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.clone_from(&now);
            sum(&mut total, &asked);
        }
        for (name, amount) in now {
            let entry = most.entry(name).or_insert(amount);
            *entry = (*entry).max(amount);
        }
    }
    for (name, amount) in most {
        let entry = total.entry(name).or_insert(amount);
        *entry = (*entry).max(amount);
    }
    // What is asked for the pod as a whole is what it gets.
    total.extend(own.map(parsed).unwrap_or_default());
    for (name, amount) in parsed(&pod.spec.overhead) {
        if requests || total.contains_key(&name) {
            add(&mut total, name, amount);
        }
    }
    total
}

/// What a service uses.
pub(super) fn of_service(service: &Service) -> Used {
    let mut used = Used::new();
    add(&mut used, "count/services", number(1));
    add(&mut used, "services", number(1));
    let balanced = service.spec.type_ == "LoadBalancer";
    if balanced {
        add(&mut used, "services.loadbalancers", number(1));
    }
    if service.spec.type_ == "NodePort" || balanced {
        let ports = service
            .spec
            .ports
            .iter()
            .filter(|port| port.node_port.is_some_and(|port| port != 0));
        add(&mut used, "services.nodeports", number(ports.count()));
    }
    used
}

/// Whether a quota is only for some pods, so that other kinds don't count.
pub(super) fn is_scoped(spec: &ResourceQuotaSpec) -> bool {
    let selected = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten());
    spec.scopes.iter().flatten().next().is_some() || selected.count() > 0
}

/// Whether a quota is for this pod: all its scopes hold.
pub(super) fn matches(spec: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let plain = spec.scopes.iter().flatten().all(|scope| holds(scope, pod));
    let selected = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten());
    plain && selected.into_iter().all(|expression| selects(expression, pod))
}

fn selects(expression: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    if expression.scope_name != "PriorityClass" {
        return holds(&expression.scope_name, pod);
    }
    let class = pod.spec.priority_class_name.clone().unwrap_or_default();
    let listed = expression.values.iter().flatten().any(|value| *value == class);
    match expression.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => !class.is_empty(),
        "DoesNotExist" => class.is_empty(),
        _ => false,
    }
}

fn holds(scope: &str, pod: &Pod) -> bool {
    let terminating = pod.spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0);
    let best_effort = || {
        let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
        let asks = |amounts: &Amounts| {
            parsed(amounts)
                .iter()
                .any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && amount.is_positive())
        };
        !containers
            .into_iter()
            .any(|container| asks(&container.resources.requests) || asks(&container.resources.limits))
    };
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => pod
            .spec
            .priority_class_name
            .as_deref()
            .is_some_and(|class| !class.is_empty()),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let Some(affinity) = &pod.spec.affinity else {
        return false;
    };
    let crosses = |term: &bosun_api::core::PodAffinityTerm| {
        term.namespaces.iter().flatten().next().is_some() || term.namespace_selector.is_some()
    };
    let near = affinity.pod_affinity.as_ref().is_some_and(|near| {
        near.required_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
            .any(crosses)
            || near
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
                .any(|term| crosses(&term.pod_affinity_term))
    });
    let apart = affinity.pod_anti_affinity.as_ref().is_some_and(|apart| {
        apart
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
            .any(crosses)
            || apart
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
                .any(|term| crosses(&term.pod_affinity_term))
    });
    near || apart
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: &serde_json::Value, phase: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": phase}}))
            .expect("a pod")
    }

    fn shown(used: &Used) -> String {
        used.iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect::<Vec<_>>()
            .join(",")
    }

    #[test]
    fn pods_use_what_they_need_at_most() {
        let asks = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let spec = json!({
            "containers": [{"name": "a", "resources": asks("1")}, {"name": "b", "resources": asks("500m")}],
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": asks("250m")},
                {"name": "init", "resources": asks("3")},
            ],
            "overhead": {"cpu": "100m"},
        });
        assert_eq!(
            shown(&of_pod(&pod(&spec, "Running"))),
            "count/pods=1,cpu=3350m,limits.cpu=3350m,pods=1,requests.cpu=3350m"
        );
        assert_eq!(shown(&of_pod(&pod(&spec, "Succeeded"))), "count/pods=1");
    }

    #[test]
    fn a_quota_is_for_the_pods_in_all_its_scopes() {
        let plain = pod(&json!({"containers": [{"name": "a"}]}), "");
        let asking = pod(
            &json!({"activeDeadlineSeconds": 5, "priorityClassName": "high",
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}),
            "",
        );
        let crossing = pod(
            &json!({"containers": [], "affinity": {"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "k", "namespaces": ["other"]}]}}}),
            "",
        );
        let scopes = |scopes: &[&str]| ResourceQuotaSpec {
            scopes: Some(scopes.iter().map(|scope| (*scope).to_owned()).collect()),
            ..ResourceQuotaSpec::default()
        };
        for (given, expected) in [
            (&[][..], (true, true, true)),
            (&["BestEffort"], (true, false, true)),
            (&["NotBestEffort", "Terminating"], (false, true, false)),
            (&["NotTerminating"], (true, false, true)),
            (&["PriorityClass"], (false, true, false)),
            (&["CrossNamespacePodAffinity"], (false, false, true)),
            (&["Other"], (false, false, false)),
        ] {
            let spec = scopes(given);
            assert_eq!(
                (
                    matches(&spec, &plain),
                    matches(&spec, &asking),
                    matches(&spec, &crossing)
                ),
                expected,
                "{given:?}"
            );
            assert_eq!(is_scoped(&spec), !given.is_empty());
        }
    }
}
