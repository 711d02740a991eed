//! The strategy of each kind there is.

use std::sync::Arc;

use crate::{
    apps, batch, certificates, coordination, core, discovery,
    kind::{Kind, Plain, Typed},
    networking, policy, rbac, scheduling, storage,
    strategy::Strategy,
};

/// What the API server asks of the objects of a kind. A kind without particulars has the strategy that the schema is
/// enough for.
pub fn strategy(group: &str, kind: &str) -> Arc<dyn Strategy> {
    match (group, kind) {
        ("", kind) => of_core(kind),
        ("apps", "ControllerRevision") => typed::<apps::ControllerRevisions>(),
        ("apps", "DaemonSet") => typed::<apps::DaemonSets>(),
        ("apps", "Deployment") => typed::<apps::Deployments>(),
        ("apps", "ReplicaSet") => typed::<apps::ReplicaSets>(),
        ("apps", "StatefulSet") => typed::<apps::StatefulSets>(),
        ("batch", "CronJob") => typed::<batch::cron::CronJobs>(),
        ("batch", "Job") => typed::<batch::job::Jobs>(),
        ("certificates.k8s.io", "CertificateSigningRequest") => typed::<certificates::Requests>(),
        ("coordination.k8s.io", "Lease") => typed::<coordination::Leases>(),
        ("discovery.k8s.io", "EndpointSlice") => typed::<discovery::Slices>(),
        ("events.k8s.io", "Event") => typed::<core::event::NewEvents>(),
        ("networking.k8s.io", "Ingress") => typed::<networking::Ingresses>(),
        ("networking.k8s.io", "IngressClass") => typed::<networking::IngressClasses>(),
        ("networking.k8s.io", "IPAddress") => typed::<networking::Addresses>(),
        ("networking.k8s.io", "NetworkPolicy") => typed::<networking::Policies>(),
        ("networking.k8s.io", "ServiceCIDR") => typed::<networking::ServiceNetworks>(),
        ("node.k8s.io", "RuntimeClass") => typed::<scheduling::Runtimes>(),
        ("policy", "PodDisruptionBudget") => typed::<policy::Budgets>(),
        ("rbac.authorization.k8s.io", "ClusterRole") => typed::<rbac::ClusterRoles>(),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => typed::<rbac::ClusterRoleBindings>(),
        ("rbac.authorization.k8s.io", "Role") => typed::<rbac::Roles>(),
        ("rbac.authorization.k8s.io", "RoleBinding") => typed::<rbac::RoleBindings>(),
        ("scheduling.k8s.io", "PriorityClass") => typed::<scheduling::Priorities>(),
        ("storage.k8s.io", "CSIDriver") => typed::<storage::Drivers>(),
        ("storage.k8s.io", "CSINode") => typed::<storage::NodeDrivers>(),
        ("storage.k8s.io", "CSIStorageCapacity") => typed::<storage::Capacities>(),
        ("storage.k8s.io", "StorageClass") => typed::<storage::Classes>(),
        ("storage.k8s.io", "VolumeAttachment") => typed::<storage::Attachments>(),
        ("storage.k8s.io", "VolumeAttributesClass") => typed::<storage::AttributesClasses>(),
        _ => plain(true, true),
    }
}

fn of_core(kind: &str) -> Arc<dyn Strategy> {
    match kind {
        "ConfigMap" => typed::<core::config::ConfigMaps>(),
        "Endpoints" => typed::<core::endpoints::AllEndpoints>(),
        "Event" => typed::<core::event::Events>(),
        "LimitRange" => typed::<core::quota::Limits>(),
        "Namespace" => typed::<core::namespace::Namespaces>(),
        "Node" => typed::<core::node::Nodes>(),
        "PersistentVolume" => typed::<core::volume::Volumes>(),
        "PersistentVolumeClaim" => typed::<core::volume::Claims>(),
        "Pod" => typed::<core::pod::Pods>(),
        "PodTemplate" => typed::<core::replication::Templates>(),
        "ReplicationController" => typed::<core::replication::Controllers>(),
        "ResourceQuota" => typed::<core::quota::Quotas>(),
        "Secret" => typed::<core::config::Secrets>(),
        "Service" => typed::<core::service::Services>(),
        "ServiceAccount" => typed::<core::namespace::ServiceAccounts>(),
        _ => plain(false, false),
    }
}

fn typed<K: Kind>() -> Arc<dyn Strategy> {
    Arc::new(Typed::<K>::new())
}

fn plain(status: bool, generation: bool) -> Arc<dyn Strategy> {
    Arc::new(Plain { status, generation })
}
