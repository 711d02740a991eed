//! Pods and nodes in few words, for tests.

use std::{ops::Deref, sync::Arc};

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, NodeState},
    objects::{Node, Pod},
};

/// A node being made.
#[derive(Clone)]
pub(crate) struct NodeBuilder {
    json: Value,
    node: Node,
}

impl Deref for NodeBuilder {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// A node with what it has to give.
pub(crate) fn node(name: &str, allocatable: &[(&str, &str)]) -> NodeBuilder {
    let allocatable: Value = allocatable
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), json!(amount)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let json = json!({"metadata": {"name": name, "labels": {}}, "spec": {"taints": []},
        "status": {"allocatable": allocatable, "images": []}});
    NodeBuilder {
        node: serde_json::from_value(json.clone()).unwrap(),
        json,
    }
}

impl NodeBuilder {
    fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.json);
        self.node = serde_json::from_value(self.json.clone()).unwrap();
        self
    }

    pub(crate) fn label(self, key: &str, value: &str) -> Self {
        self.with(|json| json["metadata"]["labels"][key] = json!(value))
    }

    pub(crate) fn taint(self, key: &str, effect: &str) -> Self {
        self.with(|json| {
            json["spec"]["taints"]
                .as_array_mut()
                .unwrap()
                .push(json!({"key": key, "effect": effect}));
        })
    }

    pub(crate) fn cordoned(self) -> Self {
        self.with(|json| json["spec"]["unschedulable"] = json!(true))
    }

    pub(crate) fn image(self, name: &str, size: u64) -> Self {
        let image = json!({"names": [name], "sizeBytes": size});
        self.with(|json| json["status"]["images"].as_array_mut().unwrap().push(image))
    }

    pub(crate) fn build(&self) -> Arc<Node> {
        Arc::new(self.node.clone())
    }
}

/// A pod being made.
#[derive(Clone)]
pub(crate) struct PodBuilder(Value);

/// A pod of namespace `default` with one container; its UID is its name.
pub(crate) fn pod(name: &str) -> PodBuilder {
    PodBuilder(json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {},
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "main", "image": "demo", "resources": {"requests": {}}}], "volumes": []},
        "status": {},
    }))
}

impl PodBuilder {
    fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.0);
        self
    }

    pub(crate) fn within(self, namespace: &str) -> Self {
        self.with(|json| json["metadata"]["namespace"] = json!(namespace))
    }

    pub(crate) fn label(self, key: &str, value: &str) -> Self {
        self.with(|json| json["metadata"]["labels"][key] = json!(value))
    }

    pub(crate) fn asks(self, requests: &[(&str, &str)]) -> Self {
        self.with(|json| {
            for (name, amount) in requests {
                json["spec"]["containers"][0]["resources"]["requests"][*name] = json!(amount);
            }
        })
    }

    /// Merges into the spec.
    pub(crate) fn spec(self, more: Value) -> Self {
        self.with(|json| {
            if let (Some(spec), Value::Object(more)) = (json["spec"].as_object_mut(), more) {
                spec.extend(more);
            }
        })
    }

    pub(crate) fn priority(self, priority: i32) -> Self {
        self.spec(json!({"priority": priority}))
    }

    pub(crate) fn claim(self, name: &str) -> Self {
        let volume = json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        self.with(|json| json["spec"]["volumes"].as_array_mut().unwrap().push(volume))
    }

    pub(crate) fn port(self, port: u16) -> Self {
        self.with(|json| json["spec"]["containers"][0]["ports"] = json!([{"containerPort": port, "hostPort": port}]))
    }

    pub(crate) fn on(self, node: &str) -> Self {
        self.spec(json!({"nodeName": node}))
    }

    pub(crate) fn started(self, at: &str) -> Self {
        self.with(|json| json["status"]["startTime"] = json!(at))
    }

    pub(crate) fn leaving(self) -> Self {
        self.with(|json| json["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"))
    }

    pub(crate) fn status(self, status: Value) -> Self {
        self.with(|json| json["status"] = status)
    }

    pub(crate) fn build(&self) -> Arc<Pod> {
        Arc::new(serde_json::from_value(self.0.clone()).unwrap())
    }
}

/// A cluster of these nodes.
pub(crate) fn cluster(nodes: &[NodeBuilder]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(&node.build());
    }
    cluster
}

/// A node with these pods on it.
pub(crate) fn state(node: &NodeBuilder, pods: &[&Arc<Pod>]) -> NodeState {
    let mut cluster = cluster(std::slice::from_ref(node));
    let id = cluster.node_id(&node.name).unwrap();
    for pod in pods {
        cluster.assume(pod, id);
    }
    cluster.node(id).clone()
}
