//! Which nodes are fit for a daemon's pod: the part of scheduling that a DaemonSet does itself, so that it doesn't make
//! pods that would wait for ever.

use bosun_api::selector::{Labels, includes};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};

use super::{DaemonSet, Placement, plan::Node, pod::tolerations};

/// What a node is for a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// A pod shall run there.
    Fit,
    /// A pod that runs there may stay; no new one is made.
    Keep,
    /// No pod shall run there.
    Unfit,
}

/// What the node is for the set.
pub fn fitness(set: &DaemonSet, node: &Node) -> Fitness {
    let placement = &set.spec.template.spec;
    let is_named = |name: &String| name.is_empty() || *name == node.name;
    if !placement.node_name.as_ref().is_none_or(is_named) || !fits_labels(placement, node) {
        return Fitness::Unfit;
    }
    let tolerations: Vec<_> = placement
        .tolerations
        .iter()
        .cloned()
        .chain(tolerations(placement.host_network))
        .collect();
    let is_borne = |taint: &Taint| tolerations.iter().any(|toleration| bears(toleration, taint));
    let mut unborne = node
        .taints
        .iter()
        .filter(|taint| taint.effect != "PreferNoSchedule" && !is_borne(taint));
    match unborne.clone().next() {
        None => Fitness::Fit,
        Some(_) if unborne.any(|taint| taint.effect == "NoExecute") => Fitness::Unfit,
        Some(_) => Fitness::Keep,
    }
}

fn fits_labels(placement: &Placement, node: &Node) -> bool {
    let affinity = placement
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    includes(&node.labels, &placement.node_selector)
        && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| fits_term(term, node)))
}

/// A term that says nothing fits nothing.
fn fits_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name: Labels = [("metadata.name".to_owned(), node.name.clone())].into();
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|requirement| meets(requirement, &node.labels))
        && fields.iter().all(|requirement| meets(requirement, &name))
}

fn meets(requirement: &NodeSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.contains(value));
    let compared = || Some(value?.parse::<i64>().ok()?.cmp(&values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compared().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

fn bears(toleration: &Toleration, taint: &Taint) -> bool {
    let (key, effect) = (
        toleration.key.as_deref().unwrap_or_default(),
        toleration.effect.as_deref().unwrap_or_default(),
    );
    let value = |value: &Option<String>| value.clone().unwrap_or_default();
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && value(&toleration.value) == value(&taint.value),
        _ => false,
    }
}
