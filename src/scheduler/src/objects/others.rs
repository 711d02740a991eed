//! Namespaces, disruption budgets, what selects pods, and volumes.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{api::core::v1::VolumeNodeAffinity, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde::Deserialize;

use super::{Labels, NodeRequirement, REGION, Requirement, Selector, ZONE, labels::Operator, pod::wire::Meta};

fn text(text: Option<String>) -> Arc<str> {
    text.unwrap_or_default().into()
}

#[derive(Deserialize)]
struct Wire<S: Default, T: Default> {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: S,
    #[serde(default)]
    status: T,
}

/// Nothing that is read.
#[derive(Default, Deserialize)]
struct Nothing {}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire<Nothing, Nothing>")]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// The version it was read at.
    pub resource_version: Arc<str>,
    /// Its labels.
    pub labels: Labels,
}

impl From<Wire<Nothing, Nothing>> for Namespace {
    fn from(written: Wire<Nothing, Nothing>) -> Self {
        Self {
            name: text(written.metadata.name),
            resource_version: text(written.metadata.resource_version),
            labels: written.metadata.labels.unwrap_or_default().into(),
        }
    }
}

/// A `PodDisruptionBudget`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire<BudgetSpec, BudgetStatus>")]
pub struct Budget {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The version it was read at.
    pub resource_version: Arc<str>,
    /// The pods it is about; empty is none.
    pub selector: Selector,
    /// How many of them may be disturbed now.
    pub allowed: i32,
    /// Names of pods whose eviction has been granted already.
    pub disrupted: Vec<Arc<str>>,
}

#[derive(Default, Deserialize)]
struct BudgetSpec {
    selector: Option<LabelSelector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BudgetStatus {
    disruptions_allowed: Option<i32>,
    disrupted_pods: Option<BTreeMap<String, serde_json::Value>>,
}

impl From<Wire<BudgetSpec, BudgetStatus>> for Budget {
    fn from(written: Wire<BudgetSpec, BudgetStatus>) -> Self {
        Self {
            namespace: text(written.metadata.namespace),
            name: text(written.metadata.name),
            resource_version: text(written.metadata.resource_version),
            selector: Selector::of(written.spec.selector.as_ref()),
            allowed: written.status.disruptions_allowed.unwrap_or(0),
            disrupted: written
                .status
                .disrupted_pods
                .into_iter()
                .flatten()
                .map(|(name, _)| name.into())
                .collect(),
        }
    }
}

impl Budget {
    /// Whether it is about pods with these labels.
    pub fn covers(&self, labels: &Labels) -> bool {
        !self.selector.is_empty() && self.selector.matches(labels)
    }
}

/// What selects pods: a Service, `ReplicaSet`, `StatefulSet` or `ReplicationController`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire<WorkloadSpec, Nothing>")]
pub struct Workload {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The version it was read at.
    pub resource_version: Arc<str>,
    /// The pods it selects; empty is none.
    pub selector: Selector,
}

#[derive(Default, Deserialize)]
struct WorkloadSpec {
    selector: Option<AnySelector>,
}

/// A label selector, or the map of labels that older kinds have.
#[derive(Deserialize)]
#[serde(untagged)]
enum AnySelector {
    Map(BTreeMap<String, String>),
    Labels(LabelSelector),
}

impl From<Wire<WorkloadSpec, Nothing>> for Workload {
    fn from(written: Wire<WorkloadSpec, Nothing>) -> Self {
        Self {
            namespace: text(written.metadata.namespace),
            name: text(written.metadata.name),
            resource_version: text(written.metadata.resource_version),
            selector: match written.spec.selector {
                Some(AnySelector::Map(labels)) => Selector::of_map(&labels),
                Some(AnySelector::Labels(selector)) => Selector::of(Some(&selector)),
                None => Selector::default(),
            },
        }
    }
}

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire<ClaimSpec, ClaimStatus>")]
pub struct Claim {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The version it was read at.
    pub resource_version: Arc<str>,
    /// The volume it is bound to, where both agree.
    pub volume: Option<Arc<str>>,
    /// The class it asks for.
    pub class: Arc<str>,
    /// Only one pod may use it.
    pub single: bool,
    /// Its volume is gone.
    pub lost: bool,
    /// It is being deleted.
    pub deleting: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimSpec {
    volume_name: Option<String>,
    storage_class_name: Option<String>,
    access_modes: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct ClaimStatus {
    phase: Option<String>,
}

impl From<Wire<ClaimSpec, ClaimStatus>> for Claim {
    fn from(written: Wire<ClaimSpec, ClaimStatus>) -> Self {
        let annotation = |key: &str| written.metadata.annotations.as_ref().and_then(|all| all.get(key));
        let completed = annotation("pv.kubernetes.io/bind-completed").is_some();
        let class = annotation("volume.beta.kubernetes.io/storage-class").cloned();
        Self {
            volume: written
                .spec
                .volume_name
                .filter(|name| completed && !name.is_empty())
                .map(Into::into),
            class: text(class.or(written.spec.storage_class_name)),
            single: written
                .spec
                .access_modes
                .iter()
                .flatten()
                .any(|mode| mode == "ReadWriteOncePod"),
            lost: written.status.phase.as_deref() == Some("Lost"),
            deleting: written.metadata.deletion_timestamp.is_some(),
            namespace: text(written.metadata.namespace),
            name: text(written.metadata.name),
            resource_version: text(written.metadata.resource_version),
        }
    }
}

/// A `PersistentVolume`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire<VolumeSpec, Nothing>")]
pub struct Volume {
    /// Its name.
    pub name: Arc<str>,
    /// The version it was read at.
    pub resource_version: Arc<str>,
    /// The nodes it can be reached from.
    pub node: NodeRequirement,
    /// The zones and regions it is in, by its own labels; each may list several.
    pub zones: NodeRequirement,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeSpec {
    node_affinity: Option<VolumeNodeAffinity>,
}

impl From<Wire<VolumeSpec, Nothing>> for Volume {
    fn from(written: Wire<VolumeSpec, Nothing>) -> Self {
        let affinity = written.spec.node_affinity.and_then(|one| one.required);
        let labels = written.metadata.labels.unwrap_or_default();
        let zones = [ZONE, REGION].into_iter().filter_map(|key| {
            let values = labels.get(key)?.split("__").map(|zone| zone.trim().into()).collect();
            Some(Requirement {
                key: key.into(),
                operator: Operator::In(values),
            })
        });
        Self {
            zones: NodeRequirement::of_labels(Selector::all_of(zones)),
            node: affinity.as_ref().map(NodeRequirement::of).unwrap_or_default(),
            name: text(written.metadata.name),
            resource_version: text(written.metadata.resource_version),
        }
    }
}

/// When a claim of a class is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingMode {
    /// As soon as it is made.
    Immediate,
    /// When a pod that uses it has been given a node.
    WaitForFirstConsumer,
}

/// A `StorageClass`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "WireClass")]
pub struct StorageClass {
    /// Its name.
    pub name: Arc<str>,
    /// The version it was read at.
    pub resource_version: Arc<str>,
    /// When its claims are bound.
    pub mode: BindingMode,
    /// What makes its volumes.
    pub provisioner: Arc<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireClass {
    #[serde(default)]
    metadata: Meta,
    provisioner: Option<String>,
    volume_binding_mode: Option<String>,
}

impl From<WireClass> for StorageClass {
    fn from(written: WireClass) -> Self {
        Self {
            name: text(written.metadata.name),
            resource_version: text(written.metadata.resource_version),
            provisioner: text(written.provisioner),
            mode: match written.volume_binding_mode.as_deref() {
                Some("WaitForFirstConsumer") => BindingMode::WaitForFirstConsumer,
                _ => BindingMode::Immediate,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_and_sets_write_their_selectors_differently() {
        let labels: Labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]).into();
        for spec in [
            json!({"selector": {"app": "web"}}),
            json!({"selector": {"matchLabels": {"app": "web"}}}),
            json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}),
        ] {
            let read: Workload = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
            assert!(read.selector.matches(&labels) && !read.selector.is_empty(), "{spec}");
        }
        let none: Workload = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {}})).unwrap();
        assert!(none.selector.is_empty());
    }

    #[test]
    fn a_volume_in_two_zones_can_be_had_in_either() {
        let read: Volume =
            serde_json::from_value(json!({"metadata": {"name": "v", "labels": {ZONE: "a__b"}}})).unwrap();
        let node = |zone: &str| super::super::Node {
            labels: BTreeMap::from([(ZONE.to_owned(), zone.to_owned())]).into(),
            ..Default::default()
        };
        assert!(read.zones.matches(&node("a")) && read.zones.matches(&node("b")) && !read.zones.matches(&node("c")));
        assert!(read.node.is_empty());
    }
}
