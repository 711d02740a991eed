//! ReplicaSets and ReplicationControllers: as many pods of a template as are wanted.
//!
//! The two differ in their selector and in what their status can say, which is what [`Replicated`] tells; all else is
//! one engine. Pure but for `controller`.
//!
//! - [`plan`]: which pods to make and which to delete.
//! - [`status`]: what to say of it.

mod controller;
mod status;

use std::sync::Arc;

use bosun_client::projected;
use jiff::Timestamp;
use k8s_openapi::{
    api::{apps::v1 as apps, core::v1 as core},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{Resource, ResourceExt};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

pub use self::{
    controller::ReplicaSets,
    status::{next_look, status},
};
use crate::{
    objects::controller_of,
    workload::{Pod, Spec, rank, template},
};

/// How many pods are made or deleted at most before the next look at what there is.
pub const BURST: usize = 500;

projected! {
    /// A ReplicaSet.
    pub struct ReplicaSet: apps::ReplicaSet {
        /// What is wanted.
        pub spec: Spec<ReplicaSetSpec>,
        /// What was found.
        pub status: apps::ReplicaSetStatus,
    }
}

projected! {
    /// A ReplicationController, the forerunner of ReplicaSets.
    pub struct ReplicationController: core::ReplicationController {
        /// What is wanted.
        pub spec: Spec<ReplicationControllerSpec>,
        /// What was found: what a ReplicaSet would say, but for the terminating pods.
        pub status: apps::ReplicaSetStatus,
    }
}

/// What is read of a ReplicaSet's `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReplicaSetSpec {
    /// How many pods; one where it says nothing.
    pub replicas: Option<i32>,
    /// How long a pod must have been ready to be available, in seconds.
    pub min_ready_seconds: i32,
    /// Which pods.
    pub selector: LabelSelector,
}

/// What is read of a ReplicationController's `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReplicationControllerSpec {
    /// How many pods; one where it says nothing.
    pub replicas: Option<i32>,
    /// How long a pod must have been ready to be available, in seconds.
    pub min_ready_seconds: i32,
    /// Which pods, by their labels.
    pub selector: bosun_api::selector::Labels,
}

/// A kind that keeps a number of pods.
pub trait Replicated: Resource<DynamicType = ()> + Clone + DeserializeOwned + Send + Sync + 'static {
    /// Its status can tell how many pods are terminating.
    const TELLS_TERMINATING: bool;

    /// How many pods are wanted.
    fn replicas(&self) -> i32;
    /// How long a pod must have been ready to be available, in seconds.
    fn min_ready_seconds(&self) -> i32;
    /// Which pods are its own.
    fn selector(&self) -> LabelSelector;
    /// The whole specification.
    fn spec(&self) -> Value;
    /// What was found when it was last looked at.
    fn status(&self) -> &apps::ReplicaSetStatus;
}

impl Replicated for ReplicaSet {
    const TELLS_TERMINATING: bool = true;

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds
    }

    fn selector(&self) -> LabelSelector {
        self.spec.selector.clone()
    }

    fn spec(&self) -> Value {
        self.spec.json()
    }

    fn status(&self) -> &apps::ReplicaSetStatus {
        &self.status
    }
}

impl Replicated for ReplicationController {
    const TELLS_TERMINATING: bool = false;

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds
    }

    fn selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: Some(self.spec.selector.clone()),
            match_expressions: None,
        }
    }

    fn spec(&self) -> Value {
        self.spec.json()
    }

    fn status(&self) -> &apps::ReplicaSetStatus {
        &self.status
    }
}

/// What is to be done about the number of pods.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Pods to make.
    pub create: Vec<Value>,
    /// Pods to delete, those first that cost least to lose.
    pub delete: Vec<Arc<Pod>>,
}

/// Which pods to make or to delete, of a set that isn't deleted itself. `pods` are the set's own; `related` also those
/// of its siblings under one Deployment, since what counts is how many of them share a node.
pub fn plan<R: Replicated>(set: &R, pods: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut active: Vec<_> = pods.iter().filter(|pod| pod.is_active()).cloned().collect();
    let wanted = usize::try_from(set.replicas()).unwrap_or_default();
    if active.len() < wanted {
        let spec = set.spec();
        let owner = template::controller_ref::<R>(set.meta());
        let pod = template::numbered_pod(&spec["template"], &owner);
        return Plan {
            create: vec![pod; (wanted - active.len()).min(BURST)],
            delete: vec![],
        };
    }
    let more = (active.len() - wanted).min(BURST);
    // Where all go there is nothing to choose.
    if more > 0 && more < active.len() {
        let on_node = |pod: &Pod| {
            let node = pod.node();
            related
                .iter()
                .filter(|other| other.is_active() && other.node() == node)
                .count()
        };
        rank::sort(&mut active, on_node, now);
    }
    active.truncate(more);
    Plan {
        create: vec![],
        delete: active,
    }
}

/// Whether two sets are of one Deployment, so that their pods do the same work.
pub fn are_siblings<R: Replicated>(one: &R, other: &R) -> bool {
    let controller = |set: &R| controller_of(set.meta()).map(|owner| owner.uid.clone());
    one.uid() == other.uid() || controller(one).is_some_and(|uid| Some(uid) == controller(other))
}

#[cfg(test)]
mod tests;
