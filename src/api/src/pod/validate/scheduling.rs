//! Where a pod may run: affinity, tolerations, spread, gates.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{
    core::{
        NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration,
        TopologySpreadConstraint,
    },
    field::{Errors, OrEmpty, Path},
    names, selector,
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// The effects of a taint.
pub const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Everything a pod says about its place.
pub(super) fn pod(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    tolerations(spec.tolerations.or_empty(), &path.child("tolerations"), errors);
    affinity(spec, &path.child("affinity"), errors);
    let constraints = spec.topology_spread_constraints.or_empty();
    for (at, (path, constraint)) in path.child("topologySpreadConstraints").each(constraints).enumerate() {
        spread(constraint, &constraints[at + 1..], &path, errors);
    }
    let mut seen = BTreeSet::new();
    for (path, gate) in path.child("schedulingGates").each(spec.scheduling_gates.or_empty()) {
        errors.check(&path, &gate.name, names::qualified);
        if !seen.insert(&gate.name) {
            errors.duplicate(&path, gate.name.as_str());
        }
    }
    errors.one_of(
        &path.child("preemptionPolicy"),
        spec.preemption_policy.as_deref(),
        &["PreemptLowerPriority", "Never"],
    );
}

/// Which taints are tolerated.
pub fn tolerations(tolerations: &[Toleration], path: &Path, errors: &mut Errors) {
    for (path, toleration) in path.each(tolerations) {
        let (key, operator) = (toleration.key.or_empty(), toleration.operator.or_empty());
        let (value, effect) = (toleration.value.or_empty(), toleration.effect.or_empty());
        let operator_path = path.child("operator");
        if !key.is_empty() {
            errors.check(&path.child("key"), key, names::qualified);
        } else if operator != "Exists" {
            errors.invalid(
                &operator_path,
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            errors.invalid(
                &path.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => errors.check(&operator_path, value, names::label_value),
            "Exists" if value.is_empty() => {}
            "Exists" => errors.invalid(&operator_path, value, "value must be empty when `operator` is 'Exists'"),
            other => errors.unsupported(&operator_path, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            errors.one_of(&path.child("effect"), Some(effect), EFFECTS);
        }
    }
}

fn affinity(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(affinity) = &spec.affinity else { return };
    if let Some(nodes) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(required) = &nodes.required_during_scheduling_ignored_during_execution {
            node_selector(required, &path.child(REQUIRED), errors);
        }
        for (path, term) in path
            .child(PREFERRED)
            .each(nodes.preferred_during_scheduling_ignored_during_execution.or_empty())
        {
            weight(term.weight, &path, errors);
            node_term(&term.preference, false, &path.child("preference"), errors);
        }
    }
    let both = [
        (
            "podAffinity",
            affinity.pod_affinity.as_ref().map(|pods| {
                (
                    pods.required_during_scheduling_ignored_during_execution.or_empty(),
                    pods.preferred_during_scheduling_ignored_during_execution.or_empty(),
                )
            }),
        ),
        (
            "podAntiAffinity",
            affinity.pod_anti_affinity.as_ref().map(|pods| {
                (
                    pods.required_during_scheduling_ignored_during_execution.or_empty(),
                    pods.preferred_during_scheduling_ignored_during_execution.or_empty(),
                )
            }),
        ),
    ];
    for (field, terms) in both {
        let Some((required, preferred)) = terms else { continue };
        let path = path.child(field);
        for (path, term) in path.child(REQUIRED).each(required) {
            pod_term(term, &path, errors);
        }
        for (path, term) in path.child(PREFERRED).each(preferred) {
            weight(term.weight, &path, errors);
            pod_term(&term.pod_affinity_term, &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(weight: i32, path: &Path, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// Which nodes are meant.
pub fn node_selector(selector: &NodeSelector, path: &Path, errors: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (path, term) in path.each(&selector.node_selector_terms) {
        node_term(term, true, &path, errors);
    }
}

fn node_term(term: &NodeSelectorTerm, check_values: bool, path: &Path, errors: &mut Errors) {
    for (path, requirement) in path.child("matchExpressions").each(term.match_expressions.or_empty()) {
        node_requirement(requirement, check_values, &path, errors);
    }
    for (path, requirement) in path.child("matchFields").each(term.match_fields.or_empty()) {
        node_field(requirement, &path, errors);
    }
}

fn node_requirement(requirement: &NodeSelectorRequirement, check_values: bool, path: &Path, errors: &mut Errors) {
    let (values, values_path) = (requirement.values.or_empty(), path.child("values"));
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &values_path,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values.len() != 1 => errors.required(
            &values_path,
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    errors.check(&path.child("key"), &requirement.key, names::qualified);
    for (path, value) in values_path.each(values).filter(|_| check_values) {
        errors.check(&path, value, names::label_value);
    }
}

/// Only the node's name can be selected by.
fn node_field(requirement: &NodeSelectorRequirement, path: &Path, errors: &mut Errors) {
    let (values, values_path) = (requirement.values.or_empty(), path.child("values"));
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => errors.required(
            &values_path,
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        "In" | "NotIn" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    if requirement.key == "metadata.name" {
        for (path, value) in values_path.each(values) {
            errors.check(&path, value, names::dns_subdomain);
        }
    } else {
        errors.invalid(
            &path.child("key"),
            requirement.key.as_str(),
            "not a valid field selector key",
        );
    }
}

fn pod_term(term: &PodAffinityTerm, path: &Path, errors: &mut Errors) {
    selector::validate(term.label_selector.as_ref(), &path.child("labelSelector"), errors);
    selector::validate(
        term.namespace_selector.as_ref(),
        &path.child("namespaceSelector"),
        errors,
    );
    for name in term.namespaces.or_empty() {
        errors.check(&path.child("namespace"), name, names::dns_label);
    }
    let (matched, mismatched) = (term.match_label_keys.or_empty(), term.mismatch_label_keys.or_empty());
    for (field, keys) in [("matchLabelKeys", matched), ("mismatchLabelKeys", mismatched)] {
        let path = path.child(field);
        if !keys.is_empty() && term.label_selector.is_none() {
            errors.forbidden(&path, "must not be specified when labelSelector is not set");
            continue;
        }
        for (path, key) in path.each(keys) {
            errors.check(&path, key, names::qualified);
        }
    }
    for (path, key) in path.child("matchLabelKeys").each(matched) {
        if mismatched.contains(key) {
            errors.invalid(
                &path,
                key.as_str(),
                "exists in both matchLabelKeys and mismatchLabelKeys",
            );
        }
    }
    let path = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.required(&path, "can not be empty");
    }
    errors.check(&path, &term.topology_key, names::qualified);
}

fn selects_by(selector: &LabelSelector, key: &str) -> bool {
    selector.match_labels.or_empty().contains_key(key)
        || selector
            .match_expressions
            .or_empty()
            .iter()
            .any(|expression| expression.key == key)
}

fn spread(
    constraint: &TopologySpreadConstraint,
    following: &[TopologySpreadConstraint],
    path: &Path,
    errors: &mut Errors,
) {
    if constraint.max_skew <= 0 {
        errors.invalid(&path.child("maxSkew"), constraint.max_skew, "must be greater than zero");
    }
    if constraint.topology_key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    let action = constraint.when_unsatisfiable.as_str();
    errors.one_of(
        &path.child("whenUnsatisfiable"),
        Some(action),
        &["DoNotSchedule", "ScheduleAnyway"],
    );
    if following
        .iter()
        .any(|other| other.topology_key == constraint.topology_key && other.when_unsatisfiable == action)
    {
        errors.duplicate(
            &path.child("{topologyKey, whenUnsatisfiable}"),
            format!("{{{}, {action}}}", constraint.topology_key),
        );
    }
    if let Some(domains) = constraint.min_domains {
        let path = path.child("minDomains");
        if domains <= 0 {
            errors.invalid(&path, domains, "must be greater than zero");
        }
        if action != "DoNotSchedule" {
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            errors.invalid(&path, domains, detail);
        }
    }
    for (field, policy) in [
        ("nodeAffinityPolicy", &constraint.node_affinity_policy),
        ("nodeTaintsPolicy", &constraint.node_taints_policy),
    ] {
        errors.one_of(&path.child(field), policy.as_deref(), &["Honor", "Ignore"]);
    }
    let keys = path.child("matchLabelKeys");
    let selector = constraint.label_selector.as_ref();
    if constraint.match_label_keys.is_given() && selector.is_none() {
        errors.forbidden(&keys, "must not be specified when labelSelector is not set");
    }
    for (path, key) in keys.each(constraint.match_label_keys.or_empty()) {
        errors.check(&path, key, names::qualified);
        if selector.is_some_and(|selector| selects_by(selector, key)) {
            errors.invalid(&path, key.as_str(), "exists in both matchLabelKeys and labelSelector");
        }
    }
    selector::validate(selector, &path.child("labelSelector"), errors);
}
