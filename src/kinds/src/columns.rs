//! What a table of objects shows: columns by kind, and an object's cells. The cells are upstream's, so that what people
//! and scripts read off `kubectl get` stays the same.

mod cell;
mod cluster;
mod human;
mod network;
mod pod;
mod rules;
mod storage;
mod usage;
mod workload;

use jiff::Timestamp;
use serde_json::Value;

pub use human::duration;

/// A column of a table (`metav1.TableColumnDefinition`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading, which clients write in capitals.
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub ty: &'static str,
    /// `name` for the column that names the object, otherwise empty.
    pub format: &'static str,
    /// What the cells say.
    pub description: &'static str,
    /// 0 is always shown, 1 only where there is room (`-o wide`).
    pub priority: i32,
}

/// The columns of a kind and how an object fills them.
struct Table {
    columns: &'static [Column],
    row: fn(&Value, Timestamp) -> Vec<Value>,
}

const fn column(name: &'static str, ty: &'static str, description: &'static str) -> Column {
    Column {
        name,
        ty,
        format: "",
        description,
        priority: 0,
    }
}

const fn wide(name: &'static str, ty: &'static str, description: &'static str) -> Column {
    Column {
        priority: 1,
        ..column(name, ty, description)
    }
}

const fn text(name: &'static str, description: &'static str) -> Column {
    column(name, "string", description)
}

const NAME: Column = Column {
    format: "name",
    ..text("Name", "What the object is called")
};
const AGE: Column = text("Age", "How long ago the object was created");
const CONTAINERS: Column = wide("Containers", "string", "Names of the containers");
const IMAGES: Column = wide("Images", "string", "Images of the containers");
const SELECTOR: Column = wide("Selector", "string", "How pods are selected");

/// Kinds that upstream shows in no way of their own.
static OTHERS: Table = Table {
    columns: &[NAME, column("Created At", "date", "When the object was created")],
    row: |object, _| vec![cell::name(object), cell::string(object, "/metadata/creationTimestamp")],
};

/// The columns of a kind's table.
pub fn columns(group: &str, kind: &str) -> &'static [Column] {
    table(group, kind).columns
}

/// An object's cells, one for each of the [`columns`] of its kind.
pub fn row(group: &str, kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    (table(group, kind).row)(object, now)
}

fn table(group: &str, kind: &str) -> &'static Table {
    match (group, kind) {
        ("metrics.k8s.io", "NodeMetrics") => &usage::NODES,
        ("metrics.k8s.io", "PodMetrics") => &usage::PODS,
        ("", "Pod") => &pod::PODS,
        ("", "PodTemplate") => &pod::TEMPLATES,
        ("", "ReplicationController") => &workload::CONTROLLERS,
        ("apps", "ReplicaSet") => &workload::REPLICA_SETS,
        ("apps", "Deployment") => &workload::DEPLOYMENTS,
        ("apps", "StatefulSet") => &workload::STATEFUL_SETS,
        ("apps", "DaemonSet") => &workload::DAEMON_SETS,
        ("apps", "ControllerRevision") => &workload::REVISIONS,
        ("batch", "Job") => &workload::JOBS,
        ("batch", "CronJob") => &workload::CRON_JOBS,
        ("autoscaling", "HorizontalPodAutoscaler") => &workload::AUTOSCALERS,
        ("autoscaling", "Scale") => &workload::SCALES,
        ("policy", "PodDisruptionBudget") => &workload::BUDGETS,
        ("", "Service") => &network::SERVICES,
        ("", "Endpoints") => &network::ENDPOINTS,
        ("discovery.k8s.io", "EndpointSlice") => &network::SLICES,
        ("networking.k8s.io", "Ingress") => &network::INGRESSES,
        ("networking.k8s.io", "IngressClass") => &network::CLASSES,
        ("networking.k8s.io", "NetworkPolicy") => &network::POLICIES,
        ("networking.k8s.io", "ServiceCIDR") => &network::SERVICE_CIDRS,
        ("networking.k8s.io", "IPAddress") => &network::ADDRESSES,
        ("", "PersistentVolume") => &storage::VOLUMES,
        ("", "PersistentVolumeClaim") => &storage::CLAIMS,
        ("storage.k8s.io", "StorageClass") => &storage::CLASSES,
        ("storage.k8s.io", "VolumeAttributesClass") => &storage::ATTRIBUTES_CLASSES,
        ("storage.k8s.io", "VolumeAttachment") => &storage::ATTACHMENTS,
        ("storage.k8s.io", "CSINode") => &storage::NODES,
        ("storage.k8s.io", "CSIDriver") => &storage::DRIVERS,
        ("storage.k8s.io", "CSIStorageCapacity") => &storage::CAPACITIES,
        ("", "Node") => &cluster::NODES,
        ("", "Namespace") => &cluster::NAMESPACES,
        ("", "Event") => &cluster::EVENTS,
        ("events.k8s.io", "Event") => &cluster::NEW_EVENTS,
        ("", "ConfigMap") => &cluster::CONFIG_MAPS,
        ("", "Secret") => &cluster::SECRETS,
        ("", "ServiceAccount") => &cluster::ACCOUNTS,
        ("", "ResourceQuota") => &cluster::QUOTAS,
        ("", "ComponentStatus") => &cluster::COMPONENTS,
        ("coordination.k8s.io", "Lease") => &cluster::LEASES,
        ("coordination.k8s.io", "LeaseCandidate") => &cluster::CANDIDATES,
        ("scheduling.k8s.io", "PriorityClass") => &cluster::PRIORITIES,
        ("node.k8s.io", "RuntimeClass") => &cluster::RUNTIMES,
        ("certificates.k8s.io", "CertificateSigningRequest") => &cluster::REQUESTS,
        ("certificates.k8s.io", "ClusterTrustBundle") => &cluster::BUNDLES,
        ("apiregistration.k8s.io", "APIService") => &rules::API_SERVICES,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => &rules::BINDINGS,
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            &rules::WEBHOOKS
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => &rules::VALIDATING,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => &rules::MUTATING,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding") => {
            &rules::POLICY_BINDINGS
        }
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => &rules::FLOWS,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => &rules::LEVELS,
        ("resource.k8s.io", "ResourceClaim") => &cluster::RESOURCE_CLAIMS,
        ("resource.k8s.io", "ResourceSlice") => &cluster::RESOURCE_SLICES,
        ("resource.k8s.io", "DeviceClass" | "ResourceClaimTemplate") => &cluster::NAMED,
        _ => &OTHERS,
    }
}

#[cfg(test)]
mod tests;
