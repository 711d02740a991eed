//! A new node takes no pods until it is found ready.

use serde_json::{Value, json};

use super::service_account::push;
use crate::pod::items;

/// Taints it, unless it is already.
pub(super) fn taint(node: &mut Value) {
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let has = |one: &Value| one["key"] == taint["key"] && one["effect"] == taint["effect"];
    if !items(&node["spec"]["taints"]).iter().any(has) {
        push(&mut node["spec"]["taints"], taint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_tainted_once() {
        let mut node = json!({"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}});
        taint(&mut node);
        taint(&mut node);
        assert_eq!(items(&node["spec"]["taints"]).len(), 2);
        let mut bare = json!({});
        taint(&mut bare);
        assert_eq!(bare["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    }
}
