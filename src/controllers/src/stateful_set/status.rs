//! What a StatefulSet says: counts, and which revision is current.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSetStatus;

use super::StatefulSet;
use crate::workload::{Pod, pod::Phase, revision::REVISION_HASH};

/// The pod runs, serves, and has for long enough.
pub(super) fn is_available(pod: &Pod, set: &StatefulSet, now: Timestamp) -> bool {
    is_ready(pod) && pod.is_available(set.spec.min_ready_seconds, now)
}

/// The pod runs and serves.
pub(super) fn is_ready(pod: &Pod) -> bool {
    pod.status.phase == Phase::Running && pod.is_ready()
}

/// The status, with `deleted` pods of another revision than `update` about to go.
pub(super) fn status(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    (current, update): (&str, &str),
    deleted: i32,
    now: Timestamp,
) -> StatefulSetStatus {
    let count = |what: &dyn Fn(&Pod) -> bool| pods.iter().filter(|pod| what(pod)).count() as i32;
    let of = |revision: &str| count(&|pod| !pod.is_terminating() && pod.label(REVISION_HASH) == Some(revision));
    let mut status = StatefulSetStatus {
        replicas: pods.len() as i32,
        ready_replicas: Some(count(&is_ready)),
        available_replicas: Some(count(&|pod| is_available(pod, set, now))),
        current_replicas: Some((of(current) - deleted).max(0)),
        updated_replicas: Some(of(update)),
        current_revision: Some(current.to_owned()),
        update_revision: Some(update.to_owned()),
        observed_generation: set.metadata.generation,
        collision_count: Some(set.status.collision_count.unwrap_or_default()),
        conditions: set.status.conditions.clone(),
    };
    let wanted = set.replicas();
    let is_complete = !set.updates_on_delete()
        && status.replicas == wanted
        && status.updated_replicas == Some(wanted)
        && status.ready_replicas == Some(wanted);
    if is_complete {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    status
}

/// When the next pod that serves will have for long enough.
pub(super) fn next_look(set: &StatefulSet, pods: &[Arc<Pod>], now: Timestamp) -> Option<Timestamp> {
    let times = pods
        .iter()
        .filter_map(|pod| pod.available_at(set.spec.min_ready_seconds));
    times.filter(|at| *at > now).min()
}
