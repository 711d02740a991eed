//! What makes a daemon's pod one of its node.

use k8s_openapi::{api::core::v1::Toleration, apimachinery::pkg::apis::meta::v1::OwnerReference};
use serde_json::{Value, json};

use crate::workload::{
    Pod,
    revision::REVISION_HASH,
    template::{self, array_at, label, object_at},
};

/// The taints that daemons bear: they are there to mend such nodes, or to do without what these lack.
pub fn tolerations(host_network: bool) -> impl Iterator<Item = Toleration> {
    let ailments = [
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    let network = host_network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    ailments.into_iter().chain(network).map(|(key, effect)| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    })
}

/// The pod for a node. The scheduler binds it there, since its affinity names the node.
pub fn pod(template: &Value, owner: &OwnerReference, hash: &str, node: &str) -> Value {
    let mut pod = template::numbered_pod(template, owner);
    label(&mut pod, REVISION_HASH, hash);
    let host_network = pod["spec"]["hostNetwork"] == true;
    let borne = array_at(&mut pod, &["spec"], "tolerations");
    for toleration in tolerations(host_network) {
        let toleration = json!(toleration);
        if !borne.contains(&toleration) {
            borne.push(toleration);
        }
    }
    let required = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ];
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    object_at(&mut pod, &required).insert("nodeSelectorTerms".to_owned(), json!([{"matchFields": [field]}]));
    pod
}

/// The node of a daemon's pod: where it runs, or where it is to.
pub fn node_of(pod: &Pod) -> Option<&str> {
    if let Some(node) = pod.node() {
        return Some(node);
    }
    let affinity = pod.spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let mut names = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    names.find_map(|field| match field.values.as_deref() {
        Some([node]) => Some(node.as_str()),
        _ => None,
    })
}
