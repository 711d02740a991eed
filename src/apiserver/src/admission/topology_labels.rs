//! A pod that is bound to a node gets the node's zone and region as labels (KEP-4742), so that it can learn where it runs.

use serde_json::{Value, json};

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// Gives a pod its node's labels, whatever it had itself.
pub(super) fn copy(pod: &mut Value, node: &Value) {
    for label in LABELS {
        let Some(value) = node["metadata"]["labels"].get(label) else {
            continue;
        };
        if !pod["metadata"]["labels"].is_object() {
            pod["metadata"]["labels"] = json!({});
        }
        pod["metadata"]["labels"][label] = value.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_where_its_node_is_and_nothing_else() {
        let node = json!({"metadata": {"labels": {LABELS[1]: "z", "kubernetes.io/hostname": "n"}}});
        let mut pod = json!({"metadata": {"labels": {LABELS[1]: "claimed", "a": "1"}}});
        copy(&mut pod, &node);
        assert_eq!(pod["metadata"]["labels"], json!({LABELS[1]: "z", "a": "1"}));
        let mut bare = json!({"metadata": {}});
        copy(&mut bare, &json!({}));
        assert_eq!(bare, json!({"metadata": {}}));
    }
}
