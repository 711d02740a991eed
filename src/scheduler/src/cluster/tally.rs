//! Counts of placed pods by place, kept as pods and nodes come and go.
//!
//! Two kinds, which mirror each other:
//! - a [`Counter`] counts the pods that a query matches: what an incoming pod asks about those there;
//! - a [`Holder`] counts the pods that say a term: what those there say about an incoming pod.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    NodeId,
    topology::{Domain, Topology},
};
use crate::objects::{Node, NodeRequirement, PodQuery, PodTerm, Toleration, untolerated};

/// Which nodes count where pods are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Eligible {
    /// Those that are right for the incoming pod.
    pub(crate) requirements: Vec<NodeRequirement>,
    /// Those whose taints it tolerates.
    pub(crate) tolerations: Option<Vec<Toleration>>,
    /// Those that have all of these labels.
    pub(crate) keys: Vec<Arc<str>>,
}

impl Eligible {
    fn matches(&self, node: &Node) -> bool {
        self.keys.iter().all(|key| node.labels.get(key).is_some())
            && self.requirements.iter().all(|one| one.matches(node))
            && (self.tolerations.as_ref()).is_none_or(|tolerations| untolerated(&node.taints, tolerations).is_none())
    }
}

/// What is counted, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CounterKey {
    /// The node label whose values are the places.
    pub(crate) topology: Arc<str>,
    /// A pod counts if it matches all of these.
    pub(crate) all_of: Vec<PodQuery>,
    /// Pods that are being deleted don't count.
    pub(crate) living: bool,
    /// Only pods on such nodes count; `None` is all nodes.
    pub(crate) nodes: Option<Eligible>,
}

/// A count for each place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    counts: Vec<u32>,
    total: u64,
}

impl Tally {
    /// How many there are in a place.
    #[inline]
    pub(crate) fn at(&self, domain: Domain) -> u32 {
        self.counts.get(domain as usize).copied().unwrap_or(0)
    }

    /// How many there are anywhere.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    fn shift(&mut self, domain: Domain, by: i64) -> (u32, u32) {
        let place = domain as usize;
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        let old = self.counts[place];
        let new = (i64::from(old) + by) as u32;
        self.counts[place] = new;
        self.total = (self.total as i64 + by) as u64;
        (old, new)
    }
}

/// The nodes that count, and what follows from that.
#[derive(Clone, Debug, Default)]
struct Scope {
    /// By node.
    eligible: Vec<bool>,
    /// How many of them are in each place.
    nodes: Vec<u32>,
    /// How many places with such nodes have which count: the first is the least.
    levels: BTreeMap<u32, u32>,
    domains: usize,
}

impl Scope {
    fn has(&self, node: NodeId) -> bool {
        self.eligible.get(node.index()).copied().unwrap_or(false)
    }

    fn level(&mut self, count: u32, by: i32) {
        let domains = self.levels.entry(count).or_insert(0);
        *domains = domains.wrapping_add_signed(by);
        if *domains == 0 {
            self.levels.remove(&count);
        }
    }
}

/// Pods that a query matches, by place.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    pub(super) key: Arc<CounterKey>,
    pub(super) topology: usize,
    pub(super) used: u64,
    tally: Tally,
    scope: Option<Scope>,
}

impl Counter {
    pub(super) fn new(key: Arc<CounterKey>, topology: usize) -> Self {
        Self {
            scope: key.nodes.is_some().then(Scope::default),
            key,
            topology,
            used: 0,
            tally: Tally::default(),
        }
    }

    /// Where its topology is kept.
    #[inline]
    pub(crate) fn topology(&self) -> usize {
        self.topology
    }

    /// The counts.
    #[inline]
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The least count of any place that has a node that counts.
    pub(crate) fn least(&self) -> u32 {
        let scope = self.scope.as_ref();
        scope
            .and_then(|scope| scope.levels.first_key_value())
            .map_or(0, |(count, _)| *count)
    }

    /// How many places have a node that counts.
    pub(crate) fn domains(&self) -> usize {
        self.scope.as_ref().map_or(0, |scope| scope.domains)
    }

    pub(super) fn shift(&mut self, topology: &Topology, node: NodeId, by: i64) {
        if self.scope.as_ref().is_some_and(|scope| !scope.has(node)) {
            return;
        }
        let Some(domain) = topology.of(node) else { return };
        let (old, new) = self.tally.shift(domain, by);
        if let Some(scope) = &mut self.scope {
            scope.level(old, -1);
            scope.level(new, 1);
        }
    }

    /// A node has come; its pods come after it.
    pub(super) fn attach(&mut self, topology: &Topology, id: NodeId, node: &Node) {
        let (Some(scope), Some(wanted)) = (&mut self.scope, &self.key.nodes) else {
            return;
        };
        let Some(domain) = topology.of(id) else { return };
        if !wanted.matches(node) {
            return;
        }
        if scope.eligible.len() <= id.index() {
            scope.eligible.resize(id.index() + 1, false);
        }
        scope.eligible[id.index()] = true;
        if scope.nodes.len() <= domain as usize {
            scope.nodes.resize(topology.bound(), 0);
        }
        scope.nodes[domain as usize] += 1;
        if scope.nodes[domain as usize] == 1 {
            scope.domains += 1;
            scope.level(self.tally.at(domain), 1);
        }
    }

    /// A node goes; its pods have gone before it.
    pub(super) fn detach(&mut self, topology: &Topology, id: NodeId) {
        let Some(scope) = self.scope.as_mut().filter(|scope| scope.has(id)) else {
            return;
        };
        scope.eligible[id.index()] = false;
        let Some(domain) = topology.of(id) else { return };
        scope.nodes[domain as usize] -= 1;
        if scope.nodes[domain as usize] == 0 {
            scope.domains -= 1;
            scope.level(self.tally.at(domain), -1);
        }
    }
}

/// What a placed pod's term does to an incoming pod that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hold {
    /// Keeps it away.
    Forbids,
    /// Wants it near, as strongly as the profile says.
    Requires,
    /// Likes it near by so much; below zero, away.
    Likes(i64),
}

/// Pods that say a term, by place.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(super) key: Arc<(PodTerm, Hold)>,
    pub(super) topology: usize,
    /// How many classes say it.
    pub(super) classes: usize,
    tally: Tally,
}

impl Holder {
    pub(super) fn new(key: Arc<(PodTerm, Hold)>, topology: usize) -> Self {
        Self {
            key,
            topology,
            classes: 0,
            tally: Tally::default(),
        }
    }

    /// Where its topology is kept.
    #[inline]
    pub(crate) fn topology(&self) -> usize {
        self.topology
    }

    /// What the term does.
    pub(crate) fn hold(&self) -> Hold {
        self.key.1
    }

    /// The counts.
    #[inline]
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) fn shift(&mut self, topology: &Topology, node: NodeId, by: i64) {
        if let Some(domain) = topology.of(node) {
            self.tally.shift(domain, by);
        }
    }
}
