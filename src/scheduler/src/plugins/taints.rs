//! `TaintToleration`: taints keep pods out, or only discourage them.

use super::{Plugin, Reason, Rejection};
use crate::objects::{Effect, Node, Shape, untolerated};

/// Whether the node will do.
pub(crate) fn filter(shape: &Shape, node: &Node) -> Result<(), Rejection> {
    match untolerated(&node.taints, &shape.tolerations) {
        None => Ok(()),
        Some(taint) => Err(Rejection {
            plugin: Plugin::TaintToleration,
            resolvable: false,
            reason: Reason::Tainted(taint.clone()),
            more: Vec::new(),
        }),
    }
}

/// How many taints of the node would rather not have the pod. Less is better.
pub(crate) fn score(shape: &Shape, node: &Node) -> i64 {
    let discourages = node
        .taints
        .iter()
        .filter(|taint| taint.effect == Effect::PreferNoSchedule);
    let unwanted = discourages.filter(|taint| {
        let mut tolerations = shape.tolerations.iter().filter(|one| one.concerns_preference());
        !tolerations.any(|one| one.tolerates(taint))
    });
    unwanted.count() as i64
}
