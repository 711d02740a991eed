//! Who a pod is.

use std::{fmt, sync::Arc};

use bosun_api::PodUid;
use jiff::Timestamp;
use serde::Deserialize;

use super::Shape;

/// A pod's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name in it.
    pub name: Arc<str>,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "wire::Pod")]
pub struct Pod {
    /// Which one.
    pub uid: PodUid,
    /// Its name.
    pub name: PodName,
    /// The version it was read at.
    pub resource_version: Arc<str>,
    /// `metadata.generation`, which conditions tell.
    pub generation: Option<i64>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When its node saw it.
    pub started: Option<Timestamp>,
    /// Where it is.
    pub node: Option<Arc<str>>,
    /// Where room is being made for it.
    pub nominated: Option<Arc<str>>,
    /// It is being deleted.
    pub deleting: bool,
    /// It is being deleted because a scheduler wants its room.
    pub preempted: bool,
    /// All its containers ended for good.
    pub finished: bool,
    /// The names of the gates that keep it from being scheduled.
    pub gates: Vec<Arc<str>>,
    /// What `PodScheduled` says of a failure: reason and message.
    pub unscheduled: Option<(Arc<str>, Arc<str>)>,
    /// What scheduling depends on.
    pub shape: Arc<Shape>,
}

impl Pod {
    /// Whether it takes room of a node.
    pub fn is_placed(&self) -> bool {
        self.node.is_some() && !self.finished
    }

    /// Whether it waits for a node.
    pub fn is_pending(&self) -> bool {
        self.node.is_none() && !self.finished && !self.deleting
    }
}

impl From<wire::Pod> for Pod {
    fn from(written: wire::Pod) -> Self {
        let wire::Pod { metadata, spec, status } = written;
        let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(Into::into);
        let deleting = metadata.deletion_timestamp.is_some();
        let disrupted = status.condition("DisruptionTarget");
        let scheduled = status.condition("PodScheduled").filter(|one| one.status == "False");
        let shape = Shape::of(&metadata, &spec, &status);
        Self {
            uid: PodUid::from(metadata.uid.as_deref().unwrap_or_default()),
            name: PodName {
                namespace: shape.namespace.clone(),
                name: metadata.name.as_deref().unwrap_or_default().into(),
            },
            resource_version: metadata.resource_version.as_deref().unwrap_or_default().into(),
            generation: metadata.generation,
            created: metadata.creation_timestamp,
            started: status.start_time,
            node: text(&spec.node_name),
            nominated: text(&status.nominated_node_name),
            deleting,
            preempted: deleting
                && disrupted
                    .is_some_and(|one| one.status == "True" && one.reason.as_deref() == Some("PreemptionByScheduler")),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            gates: spec
                .scheduling_gates
                .iter()
                .flatten()
                .map(|gate| gate.name.as_str().into())
                .collect(),
            unscheduled: scheduled.map(|one| {
                let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
                (text(&one.reason), text(&one.message))
            }),
            shape,
        }
    }
}

/// The fields that are read, as they are written.
pub(super) mod wire {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use k8s_openapi::{
        api::core::v1::{
            Affinity, ContainerPort, EphemeralVolumeSource, PersistentVolumeClaimVolumeSource, PodSchedulingGate,
            ResourceRequirements, Toleration, TopologySpreadConstraint,
        },
        apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::OwnerReference},
    };
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    pub(in crate::objects) struct Pod {
        pub(in crate::objects) metadata: Meta,
        pub(in crate::objects) spec: Spec,
        pub(in crate::objects) status: Status,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(in crate::objects) struct Meta {
        pub(in crate::objects) name: Option<String>,
        pub(in crate::objects) namespace: Option<String>,
        pub(in crate::objects) uid: Option<String>,
        pub(in crate::objects) resource_version: Option<String>,
        pub(in crate::objects) generation: Option<i64>,
        pub(in crate::objects) labels: Option<BTreeMap<String, String>>,
        pub(in crate::objects) annotations: Option<BTreeMap<String, String>>,
        pub(in crate::objects) creation_timestamp: Option<Timestamp>,
        pub(in crate::objects) deletion_timestamp: Option<Timestamp>,
        pub(in crate::objects) owner_references: Option<Vec<OwnerReference>>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(in crate::objects) struct Spec {
        pub(in crate::objects) node_name: Option<String>,
        pub(in crate::objects) scheduler_name: Option<String>,
        pub(in crate::objects) priority: Option<i32>,
        pub(in crate::objects) preemption_policy: Option<String>,
        pub(in crate::objects) host_network: Option<bool>,
        pub(in crate::objects) node_selector: Option<BTreeMap<String, String>>,
        pub(in crate::objects) affinity: Option<Affinity>,
        pub(in crate::objects) tolerations: Option<Vec<Toleration>>,
        pub(in crate::objects) topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
        pub(in crate::objects) scheduling_gates: Option<Vec<PodSchedulingGate>>,
        pub(in crate::objects) overhead: Option<BTreeMap<String, Quantity>>,
        pub(in crate::objects) resources: Option<ResourceRequirements>,
        #[serde(default)]
        pub(in crate::objects) containers: Vec<Container>,
        pub(in crate::objects) init_containers: Option<Vec<Container>>,
        pub(in crate::objects) volumes: Option<Vec<Volume>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(in crate::objects) struct Container {
        #[serde(default)]
        pub(in crate::objects) name: String,
        pub(in crate::objects) image: Option<String>,
        pub(in crate::objects) restart_policy: Option<String>,
        pub(in crate::objects) ports: Option<Vec<ContainerPort>>,
        pub(in crate::objects) resources: Option<ResourceRequirements>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(in crate::objects) struct Volume {
        #[serde(default)]
        pub(in crate::objects) name: String,
        pub(in crate::objects) persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
        pub(in crate::objects) ephemeral: Option<EphemeralVolumeSource>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(in crate::objects) struct Status {
        pub(in crate::objects) phase: Option<String>,
        pub(in crate::objects) start_time: Option<Timestamp>,
        pub(in crate::objects) nominated_node_name: Option<String>,
        pub(in crate::objects) conditions: Option<Vec<Condition>>,
        pub(in crate::objects) container_statuses: Option<Vec<ContainerStatus>>,
        pub(in crate::objects) init_container_statuses: Option<Vec<ContainerStatus>>,
    }

    impl Status {
        pub(in crate::objects) fn condition(&self, kind: &str) -> Option<&Condition> {
            self.conditions.iter().flatten().find(|one| one.kind == kind)
        }

        pub(in crate::objects) fn container(&self, name: &str) -> Option<&ContainerStatus> {
            let all = self
                .container_statuses
                .iter()
                .chain(&self.init_container_statuses)
                .flatten();
            all.into_iter().find(|one| one.name == name)
        }
    }

    #[derive(Debug, Deserialize)]
    pub(in crate::objects) struct Condition {
        #[serde(rename = "type", default)]
        pub(in crate::objects) kind: String,
        #[serde(default)]
        pub(in crate::objects) status: String,
        pub(in crate::objects) reason: Option<String>,
        pub(in crate::objects) message: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(in crate::objects) struct ContainerStatus {
        #[serde(default)]
        pub(in crate::objects) name: String,
        pub(in crate::objects) allocated_resources: Option<BTreeMap<String, Quantity>>,
        pub(in crate::objects) resources: Option<ResourceRequirements>,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(json: Value) -> Pod {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn replicas_share_their_shape() {
        let one = |name: &str, cpu: &str| {
            pod(json!({"metadata": {"name": name, "namespace": "d", "uid": name},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}))
        };
        let (a, b, c) = (one("a", "1"), one("b", "1"), one("c", "2"));
        assert!(Arc::ptr_eq(&a.shape, &b.shape));
        assert_ne!(a.shape, c.shape);
    }

    #[test]
    fn a_pod_is_read_leniently() {
        let read = pod(json!({
            "metadata": {"name": "a", "namespace": "d", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z", "labels": null},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "many"}}}], "nodeName": "",
                "volumes": [{"name": "v", "ephemeral": {}}, {"name": "w", "persistentVolumeClaim": {"claimName": "x"}}]},
            "status": {"phase": "Running", "conditions": [
                {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
        }));
        assert!(read.deleting && read.preempted && read.node.is_none() && !read.is_pending());
        assert_eq!(read.shape.requests.cpu, 0);
        assert_eq!(read.shape.claims, ["a-v".into(), "x".into()]);
        assert_eq!(pod(json!({})).name.to_string(), "/");
    }
}
