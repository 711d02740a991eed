//! This node's object: made at the first start, adopted at every other.

use std::{collections::BTreeMap, time::Duration};

use bosun_client::{CallError, backoff::Backoff, call};
use k8s_openapi::api::core::v1::{Node as NodeObject, NodeSpec, NodeStatus, Taint};
use kube::api::{Api as KubeApi, Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};

use super::{Api, delay};
use crate::{facts::machine::architecture, pod::words::chain};

/// Annotation that lets the control plane attach and detach this node's volumes.
const ATTACH_DETACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// Labels that say what the machine is: an object from before is told of them anew.
const DEFAULT_LABELS: [&str; 12] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Registers this node, trying until the control plane takes it; gives the object that it has then.
pub async fn register(api: &Api, status: NodeStatus) -> NodeObject {
    let nodes: KubeApi<NodeObject> = KubeApi::all(api.client.clone());
    let mut delays = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));
    let wanted = node_object(&api.node.name, &api.config.labels, &api.config.taints, status);
    loop {
        match register_once(&nodes, &wanted).await {
            Ok(node) => {
                tracing::info!(node = api.node.name, "registered with the control plane");
                return node;
            }
            Err(error) => {
                let wait = delay(&mut delays, &error);
                tracing::warn!(
                    error = chain(&error),
                    "this node can't be registered yet; pods from files run meanwhile"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn register_once(nodes: &KubeApi<NodeObject>, wanted: &NodeObject) -> Result<NodeObject, CallError> {
    match call(nodes.create(&PostParams::default(), wanted)).await {
        Err(error) if error.is_conflict() => {}
        created => return created,
    }
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    let existing = call(nodes.get(name)).await?;
    match adopt(&existing, wanted) {
        None => Ok(existing),
        Some(patch) => call(nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await,
    }
}

/// The object of a node that has none. Pure.
pub fn node_object(name: &str, labels: &BTreeMap<String, String>, taints: &[Taint], status: NodeStatus) -> NodeObject {
    let mut node = NodeObject::default();
    node.metadata.name = Some(name.to_owned());
    let own = [
        ("beta.kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
    ];
    let mut all: BTreeMap<_, _> = own
        .into_iter()
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .collect();
    // Whoever gives a label of these knows better.
    all.extend(labels.clone());
    node.metadata.labels = Some(all);
    node.metadata.annotations = Some([(ATTACH_DETACH.to_owned(), "true".to_owned())].into());
    node.spec = (!taints.is_empty()).then(|| NodeSpec {
        taints: Some(taints.to_vec()),
        ..NodeSpec::default()
    });
    node.status = Some(status);
    node
}

/// What to change of an object from before, as a merge patch: the labels that say what the machine is, and the
/// annotation. Other labels and taints were given when it was registered, and are the administrator's since. Pure.
pub fn adopt(existing: &NodeObject, wanted: &NodeObject) -> Option<Value> {
    let has = |map: &Option<BTreeMap<String, String>>, key: &str| map.as_ref().and_then(|map| map.get(key)).cloned();
    let mut labels = Map::new();
    for label in DEFAULT_LABELS {
        let value = has(&wanted.metadata.labels, label);
        if value.is_some() && value != has(&existing.metadata.labels, label) {
            labels.insert(label.to_owned(), value.into());
        }
    }
    let mut metadata = Map::new();
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), labels.into());
    }
    if has(&existing.metadata.annotations, ATTACH_DETACH).as_deref() != Some("true") {
        metadata.insert("annotations".to_owned(), json!({ATTACH_DETACH: "true"}));
    }
    (!metadata.is_empty()).then(|| json!({"metadata": metadata}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> NodeObject {
        let labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
        node_object("n1", &labels, &[], NodeStatus::default())
    }

    #[test]
    fn a_node_says_what_it_is_and_what_it_was_told() {
        let node = wanted();
        let labels = node.metadata.labels.as_ref().unwrap();
        assert_eq!(labels["kubernetes.io/hostname"], "n1");
        assert_eq!(labels["kubernetes.io/os"], "linux");
        assert_eq!(labels["disk"], "ssd");
        assert_eq!(node.spec, None);
    }

    #[test]
    fn a_node_from_before_keeps_what_administrators_made_of_it() {
        assert_eq!(adopt(&wanted(), &wanted()), None);
        let mut existing = wanted();
        let labels = existing.metadata.labels.as_mut().unwrap();
        labels.insert("disk".to_owned(), "nvme".to_owned());
        labels.insert("kubernetes.io/hostname".to_owned(), "elsewhere".to_owned());
        existing.metadata.annotations = None;
        let expected = json!({"metadata": {
            "labels": {"kubernetes.io/hostname": "n1"},
            "annotations": {ATTACH_DETACH: "true"},
        }});
        assert_eq!(adopt(&existing, &wanted()), Some(expected));
    }
}
