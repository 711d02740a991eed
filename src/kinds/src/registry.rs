//! The strategy of each kind there is.

use std::sync::Arc;

use crate::{
    apps, core,
    kind::{Kind, Plain, Typed},
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
        _ => plain(true, true),
    }
}

fn of_core(kind: &str) -> Arc<dyn Strategy> {
    match kind {
        "ConfigMap" => typed::<core::config::ConfigMaps>(),
        "Namespace" => typed::<core::namespace::Namespaces>(),
        "PersistentVolume" => typed::<core::volume::Volumes>(),
        "PersistentVolumeClaim" => typed::<core::volume::Claims>(),
        "Pod" => typed::<core::pod::Pods>(),
        "PodTemplate" => typed::<core::replication::Templates>(),
        "ReplicationController" => typed::<core::replication::Controllers>(),
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
