//! `NodeAffinity`: what a pod says about its node.

use super::{Plugin, Rejection};
use crate::{
    objects::{Node, Shape},
    profile::AddedAffinity,
};

/// Whether the node will do.
pub(crate) fn filter(shape: &Shape, added: &AddedAffinity, node: &Node) -> Result<(), Rejection> {
    let reason = if !added.required.matches(node) {
        "node(s) didn't match scheduler-enforced node affinity"
    } else if !shape.node.matches(node) {
        "node(s) didn't match Pod's node affinity/selector"
    } else {
        return Ok(());
    };
    Err(Rejection::plain(Plugin::NodeAffinity, false, reason))
}

/// The weights of the preferences that the node meets.
pub(crate) fn score(shape: &Shape, added: &AddedAffinity, node: &Node) -> i64 {
    let all = shape.preferred_nodes.iter().chain(&added.preferred);
    all.filter(|one| one.matches(node)).map(|one| one.weight).sum()
}
