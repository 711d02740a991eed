//! What a pod says about nodes and about other pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{self, NodeSelector, NodeSelectorTerm};

use super::{Labels, Node, Selector};

/// One way for a node to be right.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct NodeTerm {
    labels: Selector,
    fields: Selector,
}

impl NodeTerm {
    /// A term that says nothing matches nothing.
    fn of(written: &NodeSelectorTerm) -> Option<Self> {
        let labels = Selector::of_node(written.match_expressions.as_deref());
        let fields = Selector::of_node(written.match_fields.as_deref());
        (!labels.is_empty() || !fields.is_empty()).then_some(Self { labels, fields })
    }

    fn matches(&self, node: &Node) -> bool {
        self.labels.matches(&node.labels)
            && (self.fields.is_empty()
                || self
                    .fields
                    .matches_fields(|key| (key == "metadata.name").then(|| node.name.to_string())))
    }
}

/// What a node must be: `nodeSelector`, and one of the terms of the required node affinity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeRequirement {
    labels: Selector,
    /// `None` asks for nothing; an empty list matches no node.
    terms: Option<Vec<NodeTerm>>,
}

impl NodeRequirement {
    /// Puts the two together.
    pub(super) fn new(labels: Selector, written: Option<&NodeSelector>) -> Self {
        Self {
            labels,
            terms: written.map(|written| written.node_selector_terms.iter().filter_map(NodeTerm::of).collect()),
        }
    }

    /// A node selector alone, as volumes have it.
    pub fn of(written: &NodeSelector) -> Self {
        Self::new(Selector::default(), Some(written))
    }

    /// Labels alone.
    pub(super) fn of_labels(labels: Selector) -> Self {
        Self { labels, terms: None }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.terms.is_none()
    }

    /// Whether the node is right.
    pub fn matches(&self, node: &Node) -> bool {
        self.labels.matches(&node.labels)
            && self
                .terms
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// The only nodes that can be right, where every term names them.
    pub fn names(&self) -> Option<Vec<&str>> {
        let terms = self.terms.as_ref()?;
        let mut names = Vec::new();
        for term in terms {
            names.extend(term.fields.values_of("metadata.name")?.iter().map(|name| &**name));
        }
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

/// A preference for nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PreferredNode {
    /// How much, 1 to 100.
    pub weight: i64,
    term: Option<NodeTerm>,
}

impl PreferredNode {
    /// Preferences as an object carries them.
    pub fn of(written: Option<&v1::NodeAffinity>) -> Vec<Self> {
        let terms = written.and_then(|one| one.preferred_during_scheduling_ignored_during_execution.as_ref());
        let one = |term: &v1::PreferredSchedulingTerm| Self {
            weight: term.weight.into(),
            term: NodeTerm::of(&term.preference),
        };
        terms.into_iter().flatten().map(one).collect()
    }

    /// Whether the node is preferred.
    pub fn matches(&self, node: &Node) -> bool {
        self.term.as_ref().is_some_and(|term| term.matches(node))
    }
}

/// Other pods, by their namespaces and labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodQuery {
    /// Sorted.
    pub namespaces: Vec<Arc<str>>,
    /// Namespaces by their labels, besides those named.
    pub namespace_selector: Option<Selector>,
    /// Pods by their labels.
    pub selector: Selector,
}

impl PodQuery {
    /// Pods of one namespace.
    pub fn within(namespace: &Arc<str>, selector: Selector) -> Self {
        Self {
            namespaces: vec![namespace.clone()],
            namespace_selector: None,
            selector,
        }
    }

    /// Whether pods with these labels, in a namespace of that name and those labels, are meant.
    pub fn matches(&self, namespace: &Arc<str>, of_namespace: Option<&Labels>, labels: &Labels) -> bool {
        let named = self.namespaces.binary_search(namespace).is_ok();
        let selected = || match (&self.namespace_selector, of_namespace) {
            (None, _) => false,
            (Some(selector), Some(labels)) => selector.matches(labels),
            (Some(selector), None) => selector.is_empty(),
        };
        (named || selected()) && self.selector.matches(labels)
    }
}

/// Other pods, and the topology in which they are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodTerm {
    /// The node label whose values are the places.
    pub topology: Arc<str>,
    /// Which pods.
    pub pods: PodQuery,
}

impl PodTerm {
    fn of(written: &v1::PodAffinityTerm, namespace: &Arc<str>, labels: &Labels) -> Self {
        let mut namespaces: Vec<Arc<str>> = written
            .namespaces
            .iter()
            .flatten()
            .map(|name| name.as_str().into())
            .collect();
        if namespaces.is_empty() && written.namespace_selector.is_none() {
            namespaces.push(namespace.clone());
        }
        namespaces.sort();
        namespaces.dedup();
        let keys = written.match_label_keys.as_deref().unwrap_or_default();
        let except = written.mismatch_label_keys.as_deref().unwrap_or_default();
        Self {
            topology: written.topology_key.as_str().into(),
            pods: PodQuery {
                namespaces,
                namespace_selector: written.namespace_selector.as_ref().map(|one| Selector::of(Some(one))),
                selector: Selector::of(written.label_selector.as_ref()).with_keys(labels, keys, except),
            },
        }
    }
}

/// A preference about other pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WeightedTerm {
    /// 1 to 100.
    pub weight: i64,
    /// Which pods.
    pub term: PodTerm,
}

/// What a pod says about other pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affinity {
    /// Such pods must be near, all of them meeting all terms.
    pub required: Vec<PodTerm>,
    /// Such pods must not be near.
    pub required_anti: Vec<PodTerm>,
    /// Such pods had better be near.
    pub preferred: Vec<WeightedTerm>,
    /// Such pods had better not be near.
    pub preferred_anti: Vec<WeightedTerm>,
}

impl Affinity {
    pub(super) fn of(written: Option<&v1::Affinity>, namespace: &Arc<str>, labels: &Labels) -> Self {
        let required = |terms: Option<&Vec<v1::PodAffinityTerm>>| -> Vec<PodTerm> {
            terms
                .into_iter()
                .flatten()
                .map(|one| PodTerm::of(one, namespace, labels))
                .collect()
        };
        let preferred = |terms: Option<&Vec<v1::WeightedPodAffinityTerm>>| -> Vec<WeightedTerm> {
            let one = |one: &v1::WeightedPodAffinityTerm| WeightedTerm {
                weight: one.weight.into(),
                term: PodTerm::of(&one.pod_affinity_term, namespace, labels),
            };
            terms.into_iter().flatten().map(one).collect()
        };
        let near = written.and_then(|one| one.pod_affinity.as_ref());
        let far = written.and_then(|one| one.pod_anti_affinity.as_ref());
        Self {
            required: required(near.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref())),
            required_anti: required(
                far.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred: preferred(
                near.and_then(|one| one.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_anti: preferred(
                far.and_then(|one| one.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
        }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.required.is_empty()
            && self.required_anti.is_empty()
            && self.preferred.is_empty()
            && self.preferred_anti.is_empty()
    }
}
