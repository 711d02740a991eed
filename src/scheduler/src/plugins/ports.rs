//! `NodePorts`: a port of a node is one pod's.

use super::{Plugin, Rejection};
use crate::{cluster::NodeState, objects::Shape};

/// Whether the node will do.
pub(crate) fn filter(shape: &Shape, node: &NodeState) -> Result<(), Rejection> {
    let taken = shape
        .ports
        .iter()
        .any(|port| node.ports.iter().any(|one| one.conflicts(port)));
    if taken {
        let reason = "node(s) didn't have free ports for the requested pod ports";
        return Err(Rejection::plain(Plugin::NodePorts, true, reason));
    }
    Ok(())
}
