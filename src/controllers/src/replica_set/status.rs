//! What a ReplicaSet says of its pods.

use std::sync::Arc;

use bosun_api::selector;
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

use super::Replicated;
use crate::workload::Pod;

/// Condition: not all pods that are wanted could be made, or not all that aren't deleted.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The status to write. `failure` is the reason and the message of what could not be done this time.
pub fn status<R: Replicated>(
    set: &R,
    pods: &[Arc<Pod>],
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec();
    let labels = spec.pointer("/template/metadata/labels").cloned().unwrap_or_default();
    let labels: selector::Labels = serde_json::from_value(labels).unwrap_or_default();
    let count = |what: &dyn Fn(&Pod) -> bool| {
        let pods = pods.iter().filter(|pod| pod.is_active() && what(pod));
        pods.count() as i32
    };
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let terminating = pods
        .iter()
        .filter(|pod| pod.is_terminating() && !pod.is_finished())
        .count() as i32;

    let mut conditions = set.status().conditions.clone().unwrap_or_default();
    let known = conditions.iter().any(|condition| condition.type_ == REPLICA_FAILURE);
    match failure {
        // What failed first stays until it is over: the next failure is most often the same.
        Some(_) if known => {}
        Some((reason, message)) => conditions.push(ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        None => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
    }
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&|pod| selector::includes(pod.labels(), &labels))),
        ready_replicas: some(count(&Pod::is_ready)),
        available_replicas: some(count(&|pod| pod.is_available(set.min_ready_seconds(), now))),
        terminating_replicas: R::TELLS_TERMINATING.then_some(terminating),
        observed_generation: set.meta().generation,
        conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
    }
}

/// When the status will be another though nothing happens: when the next ready pod becomes available.
pub fn next_look<R: Replicated>(set: &R, pods: &[Arc<Pod>], now: Timestamp) -> Option<Timestamp> {
    let active = pods.iter().filter(|pod| pod.is_active());
    active
        .filter_map(|pod| pod.available_at(set.min_ready_seconds()))
        .filter(|at| *at > now)
        .min()
}
