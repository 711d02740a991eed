//! `NodeUnschedulable`: cordoned nodes take only what tolerates that.

use super::{Plugin, Rejection};
use crate::objects::{Node, Shape, Taint};

/// Whether the node will do.
pub(crate) fn filter(tolerates: bool, node: &Node) -> Result<(), Rejection> {
    if node.unschedulable && !tolerates {
        return Err(Rejection::plain(
            Plugin::NodeUnschedulable,
            false,
            "node(s) were unschedulable",
        ));
    }
    Ok(())
}

/// Whether a pod bears cordoned nodes.
pub(crate) fn tolerates(shape: &Shape) -> bool {
    let taint = Taint::unschedulable();
    shape.tolerations.iter().any(|one| one.tolerates(&taint))
}
