//! A node label whose values are places: which node is in which.

use std::{collections::HashMap, sync::Arc};

use super::NodeId;
use crate::objects::Node;

/// A place within a topology. Numbers of places that no node is in any more are given anew.
pub(crate) type Domain = u32;

const NOWHERE: Domain = Domain::MAX;

/// Where each node is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    key: Arc<str>,
    domains: HashMap<Arc<str>, Domain>,
    free: Vec<Domain>,
    /// How many nodes are in each.
    nodes: Vec<u32>,
    /// By node.
    of: Vec<Domain>,
}

impl Topology {
    pub(super) fn new(key: Arc<str>) -> Self {
        Self { key, ..Self::default() }
    }

    /// Where the node is, if it has the label.
    #[inline]
    pub(crate) fn of(&self, node: NodeId) -> Option<Domain> {
        self.of.get(node.index()).copied().filter(|domain| *domain != NOWHERE)
    }

    /// No number of a place is as great as this.
    pub(crate) fn bound(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn attach(&mut self, id: NodeId, node: &Node) {
        let Some(value) = node.labels.get(&self.key) else {
            return;
        };
        let domain = if let Some(domain) = self.domains.get(value) {
            *domain
        } else {
            let domain = self.free.pop().unwrap_or_else(|| {
                self.nodes.push(0);
                self.nodes.len() as Domain - 1
            });
            self.domains.insert(value.clone(), domain);
            domain
        };
        self.nodes[domain as usize] += 1;
        if self.of.len() <= id.index() {
            self.of.resize(id.index() + 1, NOWHERE);
        }
        self.of[id.index()] = domain;
    }

    pub(super) fn detach(&mut self, id: NodeId, node: &Node) {
        let Some(domain) = self.of(id) else { return };
        self.of[id.index()] = NOWHERE;
        self.nodes[domain as usize] -= 1;
        if self.nodes[domain as usize] == 0 {
            if let Some(value) = node.labels.get(&self.key) {
                self.domains.remove(value);
            }
            self.free.push(domain);
        }
    }
}
